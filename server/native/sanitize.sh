#!/bin/sh
# The crate's own tests where wrong use of memory is seen, by a nightly Rust: sanitize.sh miri | address. From the root of the checkout, after make native.
set -eu
tool=${1:-}
export CARGO_HOME="$PWD/.venv/.cargo" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/.venv/.cargo/target}/$tool"
export PYO3_PYTHON="${PYO3_PYTHON:-$PWD/.venv/bin/python}"
set -- --manifest-path server/native/Cargo.toml --lib
case "$tool" in
  miri)
    # Neither Python, which `server` starts, nor the assembly of ring runs there; what `framing` tries is h2 for the most part. Every example
    # takes a second.
    export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES="${PROPTEST_CASES:-8}"
    exec cargo +nightly miri test "$@" -- --skip auth:: --skip router:: --skip server:: --skip framing::
    ;;
  address)
    export RUSTFLAGS="-Zsanitizer=address --cfg sanitized" PROPTEST_CASES="${PROPTEST_CASES:-2000}"
    export LSAN_OPTIONS="suppressions=$PWD/server/native/leaks.txt:print_suppressions=0"
    LD_LIBRARY_PATH=$("$PYO3_PYTHON" -c "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
    export LD_LIBRARY_PATH
    exec cargo +nightly test "$@" --target x86_64-unknown-linux-gnu
    ;;
  *)
    echo "sanitize.sh miri | address" >&2
    exit 2
    ;;
esac
