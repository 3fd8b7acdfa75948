#!/bin/sh
# What every container of ours runs: "service" is the one service of the image, anything else is run as it is.
# The variables that `tapeline provision` wrote for this process are set first; they win over compose's.
set -eu
if [ -r /run/tapeline/environment ]; then
  set -a
  . /run/tapeline/environment
  set +a
fi
if [ "${1:-service}" = service ]; then
  exec python -m tapeline_common.process "$SERVICE"
fi
exec "$@"
