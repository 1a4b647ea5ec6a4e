#!/bin/sh
# Runs a command that needs cargo, from the root of the checkout: what cargo fetches and builds stays in .venv, and the home folder is only read.
# Exits with 3, after one line that says why, where the crate cannot be built: no cargo, one that is too old, no linker, crates that cannot be fetched.
set -u
crate=server/native/Cargo.toml
export CARGO_HOME="$PWD/.venv/.cargo" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/.venv/.cargo/target}"
export RUSTUP_AUTO_INSTALL=0 PYO3_PYTHON="$PWD/.venv/bin/python"
[ -x "${HOME:-}/.cargo/bin/cargo" ] && PATH="$PATH:$HOME/.cargo/bin"
without() {
  echo "without the native transport: $1" >&2
  exit 3
}
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$crate")
found=$(cargo --version 2>/dev/null | cut -d ' ' -f 2)
[ -n "$found" ] || without "there is no cargo here; it takes Rust $wanted or later"
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] || without "it takes Rust $wanted or later, and cargo is $found"
command -v cc >/dev/null || without "there is no C compiler here, which links it"
# A manifest that cannot be read is a mistake of ours, not of the machine.
cargo metadata --quiet --no-deps --format-version 1 --manifest-path "$crate" >/dev/null || exit 1
for manifest in "$crate" tests/load/generator/Cargo.toml; do
  cargo fetch --quiet --manifest-path "$manifest" 2>/dev/null || without "its crates cannot be fetched here"
done
exec "$@"
