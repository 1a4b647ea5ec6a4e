#!/bin/sh
# The crate's own tests. They are a program that has Python in it, so they need its shared library, which some systems ship apart.
set -u
variable() { "$PYO3_PYTHON" -c "import sysconfig; print(sysconfig.get_config_var('$1'))"; }
folder=$(variable LIBDIR)
if [ ! -e "$folder/$(variable LDLIBRARY)" ]; then
  echo "without the tests in Rust: $(variable LDLIBRARY) is not in $folder" >&2
  exit 3
fi
LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec cargo test --quiet --manifest-path server/native/Cargo.toml
