#!/bin/sh
# Debian packages that open finished exports as strangers would: xmllint, 7z, age, bzip2, zstd, LibreOffice;
# and Debian's PostgreSQL, an older version than the embedded one.
# Installed when root or passwordless sudo allows; otherwise it says what is missing and stops.
# A C compiler and Python's headers come along for the native decoder; without them its tests are skipped.
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
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"

wished=""
command -v cc >/dev/null 2>&1 || wished="$wished gcc libc6-dev"
headers='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
"${PYTHON:-python3}" -c "$headers" || wished="$wished python3-dev"

[ -n "$missing$wished" ] || exit 0

if [ "$(id -u)" = 0 ]; then run=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then run="sudo"
elif [ -z "$missing" ]; then
  echo "Without these Debian packages the native decoder is not built, and not tested:$wished" >&2
  exit 0
else
  echo "The tests need these Debian packages:$missing" >&2
  echo "Install them, then run make test again: sudo apt-get install$missing" >&2
  exit 1
fi

missing="$missing$wished"
echo "installing for the tests:$missing"
$run apt-get update -qq
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
