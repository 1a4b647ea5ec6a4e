#!/bin/sh
# Resolves every lock from pyproject.toml. dev.txt is resolved first; the others are subsets of it, so that all agree.
set -eu
cd "$(dirname "$0")/.."
compile() {
  out=$1
  shift
  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
    --no-emit-package tidegate-protos --no-emit-package tidegate-client --no-emit-package tidegate "$@" -o "$out"
}
compile requirements/dev.txt pyproject.toml --extra dev
for extra in server control-plane training; do
  compile "requirements/$extra.txt" pyproject.toml --extra "$extra" -c requirements/dev.txt
done
compile requirements/demo.txt pyproject.toml requirements/demo.in --extra server --extra control-plane --extra training -c requirements/dev.txt
compile requirements/peers.txt requirements/peers.in
compile requirements/mlserver.txt requirements/mlserver.in
compile requirements/fuzz.txt requirements/fuzz.in
compile requirements/native.txt requirements/native.in
compile requirements/uv.txt requirements/uv.in
