#!/bin/sh
# Fetches grpc-js, in the versions that package.json beside its test pins, below .venv. Where it cannot be had, its test is skipped by name.
set -u
room=.venv/grpc-js
mkdir -p "$room"
cp tests/contracts/transport/grpc_js/package.json "$room"
(cd "$room" && npm install --silent --no-package-lock --ignore-scripts --no-audit --no-fund --no-update-notifier --cache .cache) >/dev/null 2>&1 ||
  echo "no grpc-js: node is not there, or npm cannot fetch it here; its test is skipped" >&2
rm -rf "$room/.cache"
touch "$room/.fetched"
