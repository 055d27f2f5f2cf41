#!/bin/sh
# Debian packages that open finished exports as strangers would: xmllint, 7z, age, bzip2, zstd, LibreOffice.
# Installed when root or passwordless sudo allows; otherwise it says what is missing and stops.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need xmllint libxml2-utils
need 7z p7zip-full
need age age
need bzip2 bzip2
need zstd zstd
need ssh-keygen openssh-client
need soffice libreoffice-calc-nogui

[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then run=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then run="sudo"
else
  echo "The tests need these Debian packages:$missing" >&2
  echo "Install them, then run make test again: sudo apt-get install$missing" >&2
  exit 1
fi

echo "installing for the tests:$missing"
$run apt-get update -qq
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
