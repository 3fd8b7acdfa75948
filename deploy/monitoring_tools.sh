#!/bin/sh
# Installs promtool, amtool, Prometheus and Alertmanager for the tests marked `monitoring`, where that can be done: as
# root on Debian or Ubuntu. Anywhere else it says what is missing and succeeds; the tests then skip and name it, too.
set -u

missing=""
for tool in promtool amtool prometheus prometheus-alertmanager; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -z "$missing" ]; then
  echo "monitoring tools: all there ($(promtool --version 2>&1 | head -n 1))"
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "monitoring tools: NOT INSTALLED, missing$missing (needs root and apt-get; checks of alert rules will be skipped)"
  exit 0
fi
# Distributions start what they install; here only the programs are wanted.
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT
fi
if apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus prometheus-alertmanager >/dev/null; then
  echo "monitoring tools: installed ($(promtool --version 2>&1 | head -n 1))"
else
  echo "monitoring tools: NOT INSTALLED, apt-get failed; missing$missing (checks of alert rules will be skipped)"
fi
