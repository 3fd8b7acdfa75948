#!/bin/sh
# Installs Chromium for the tests marked `browser`, where that can be done: as root on Debian. Anywhere else it says what
# is missing and succeeds; the tests then skip and name it, too. TAPELINE_BROWSER may name a Chromium or Chrome.
set -u

for name in "${TAPELINE_BROWSER:-}" chromium chromium-browser google-chrome google-chrome-stable chrome-headless-shell \
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
  if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then
    echo "browser: there already ($(command -v "$name"))"
    exit 0
  fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "browser: NOT INSTALLED (needs root and apt-get; tests of the report's page in a browser will be skipped)"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# Fonts are only recommended by the package, and without one there is no text. Ubuntu's package of that name is a stub.
if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; then
  echo "browser: installed ($(command -v chromium))"
else
  echo "browser: NOT INSTALLED, apt-get failed (tests of the report's page in a browser will be skipped)"
fi
