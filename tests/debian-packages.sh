#!/bin/sh
# Fetches Debian's prometheus and prometheus-alertmanager, and nghttp2-client, for h2load, and unpacks them below .venv (or the folder named as argument).
# Nothing is installed and no service starts. Where one cannot be had, the tests and figures that need it are skipped, or fail, by name.
set -u
room=${1:-.venv/debian}
mkdir -p "$room"
fetch() { (cd "$room" && apt-get download -qq "$1") >/dev/null 2>&1; }
updated=no
update() {
  [ $updated = no ] || return 1
  updated=yes
  case $(id -u) in
    0) apt-get update -qq ;;
    *) sudo -n apt-get update -qq ;;
  esac >/dev/null 2>&1
}
unpack() {
  command -v apt-get >/dev/null && { fetch "$1" || { update && fetch "$1"; }; } || return 1
  for package in "$room"/*.deb; do dpkg -x "$package" "$room" && rm "$package"; done
}
# The packages of the shared libraries that h2load does not find here. Which they are called and how they are versioned is Debian's to say.
needed() {
  missing=$(ldd "$room/usr/bin/h2load" | awk '/not found/ {print $1}')
  [ -z "$missing" ] && return
  apt-cache depends nghttp2-client | awk '/Depends: lib/ {print $2}' | while read -r package; do
    for library in $missing; do
      stem=${library%%.so*}
      case $package in "$stem"*) echo "$package" ;; esac
    done
  done
}
unpack prometheus || echo "no prometheus: Debian's package cannot be fetched here; its tests are skipped" >&2
unpack prometheus-alertmanager || echo "no alertmanager: Debian's package cannot be fetched here; its tests are skipped" >&2
if unpack nghttp2-client; then
  for package in $(needed); do unpack "$package" || echo "h2load lacks the library of Debian's package $package" >&2; done
else
  echo "no h2load: Debian's nghttp2-client package cannot be fetched here; make bench needs it" >&2
fi
touch "$room/.fetched"
