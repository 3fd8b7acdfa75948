"""Health check of a service's container: its metrics answer, and it has not stopped at a fact. Exit code 0 or 1.

Uses the standard library only: slim images have neither wget nor curl. Whether the service keeps up is a matter for
alerts, not for this check: a restart would not make it faster.
"""

from __future__ import annotations

import os
import re
import sys
import urllib.request

TIMEOUT_S = 3
STOPPED = re.compile(r"^tapeline_stopped(?:\{[^}]*\})? ([0-9.]+)$", re.MULTILINE)


def main(port: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S) as reply:
            text = reply.read().decode()
    except OSError as trouble:
        sys.stderr.write(f"no metrics on port {port}: {trouble}\n")
        return 1
    stopped = STOPPED.search(text)
    if stopped is None:
        sys.stderr.write(f"port {port} answers without tapeline_stopped: something else listens there\n")
        return 1
    if float(stopped[1]):
        sys.stderr.write("the service has stopped on an error: see its log\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ.get("TAPELINE_METRICS_PORT", "9100")))
