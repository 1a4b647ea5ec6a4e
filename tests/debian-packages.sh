#!/bin/sh
# Fetches Debian's prometheus and unpacks it below .venv, for promtool. Nothing is installed and no service starts. Where it cannot be had,
# the tests that need it are skipped by name.
set -u
room=.venv/debian
mkdir -p "$room"
fetch() { (cd "$room" && apt-get download -qq prometheus) >/dev/null 2>&1; }
update() {
  case $(id -u) in
    0) apt-get update -qq ;;
    *) sudo -n apt-get update -qq ;;
  esac >/dev/null 2>&1
}
if command -v apt-get >/dev/null && { fetch || { update && fetch; }; }; then
  for package in "$room"/*.deb; do dpkg -x "$package" "$room" && rm "$package"; done
else
  echo "no promtool: Debian's prometheus package cannot be fetched here; its test is skipped" >&2
fi
touch "$room/.fetched"
