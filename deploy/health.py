"""Health check of a service's container: its metrics answer, and it has not stopped at a fact. Exit code 0 or 1.

Metrics are taken in the service's event loop, so a service that is stuck does not answer. Whether it keeps up, and
whether the servers it needs are there, is a matter for alerts: a restart would change neither.

Runs every few seconds beside what trades, so it is a bare socket and not an HTTP library, which takes ten times as long
to import; slim images have neither wget nor curl.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 8
STOPPED = "tapeline_stopped"


def main(port: str) -> int:
    try:
        text = page(int(port))
    except OSError as trouble:
        return bad(f"no metrics on port {port}: {trouble}")
    status = text.partition("\r\n")[0]
    if " 200 " not in f"{status} ":
        return bad(f"port {port} answers {status!r}: the service may be stuck")
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith((f"{STOPPED}{{", f"{STOPPED} "))]
    if not values:
        return bad(f"port {port} answers without {STOPPED}: something else listens there")
    if any(float(value) for value in values):
        return bad("the service has stopped on an error: see its log")
    return 0


def page(port: int) -> str:
    """The answer to a request for the metrics, head and all."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def bad(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ.get("TAPELINE_METRICS_PORT", "9100")))
