"""What is measured: the names and labels that dashboards may use, and services that expose all of them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

from tapeline_common.catalogue import EVERY_SERVICE, Measured, catalogue
from tapeline_common.measures import Kind
from tapeline_common.metrics_common import COMMON
from tapeline_common.wiring import installed_services

MEASURED = catalogue()
SERVICES = tuple(installed_services())

BELOW_ZERO = {
    measure.name
    for table in (COMMON, *(service.measures.all for service in installed_services().values()))
    for measure in table
    if measure.edges and measure.edges[0] < 0
}
"""Histograms with edges below zero: the client library leaves out their sums, which may fall, and their counts."""

ALWAYS = {"service", "job", "instance"}
"""Labels that every sample has: our own, and those of the scrape."""

NOT_OURS = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
"""Series that Prometheus makes by itself."""


def names_of(measured: Measured) -> list[str]:
    """The names under which there are samples."""
    return [name for name in measured.samples if measured.name not in BELOW_ZERO or name.endswith("_bucket")]


def labels_by_series() -> dict[str, set[str]]:
    """Every name that a query may use, with the labels it has."""
    found = {name: labels | ALWAYS for name, labels in NOT_OURS.items()}
    for measured in MEASURED:
        for name in names_of(measured):
            found[name] = {*measured.labels, *ALWAYS, *(["le"] if name.endswith("_bucket") else [])}
    return found


# ---- services that expose everything ---------------------------------------------------------------------------------

PLAUSIBLE = {
    "direction": ("heard", "said"),
    "limit": ("daily_loss", "drawdown", "gross_exposure", "open_positions"),
    "instrument": ("BTC-USDT_sim", "ETH-USDT_sim"),
    "strategy": ("ema", "breakout"),
    "preset": ("quick", "slow"),
    "follower": SERVICES,
    "currency": ("USDT",),
    "venue": ("simulated",),
    "volume": ("data",),
    "author": ("risk", "strategy"),
    "state": ("SUBMITTED", "WORKING"),
}


def _values(measured: Measured, label: str) -> Sequence[str]:
    return measured.values.get(label) or PLAUSIBLE.get(label, ("A", "B"))


def _samples(measured: Measured, service: str, scrape: int) -> Iterator[str]:
    """Counters and histograms grow with each scrape, by a different amount for each set of labels."""
    names = ("service", *measured.labels)
    choices = ((service,), *(_values(measured, label) for label in measured.labels))
    for step, chosen in enumerate(product(*choices), 1):
        labels = ",".join(f'{name}="{value}"' for name, value in zip(names, chosen, strict=True))
        if measured.kind is Kind.HISTOGRAM:
            for count, edge in enumerate(("0.001", "0.01", "0.1", "1", "+Inf"), 1):
                yield f'{measured.name}_bucket{{{labels},le="{edge}"}} {count * scrape * step}'
            for name in names_of(measured)[1:]:
                yield f"{name}{{{labels}}} {5 * scrape * step}"
        else:
            yield f"{measured.name}{{{labels}}} {scrape * step if measured.kind is Kind.COUNTER else step}"


def exposed(service: str, scrape: int) -> str:
    """What a service answers to its scrape of this number."""
    own = [one for one in MEASURED if one.service in (EVERY_SERVICE, service)]
    return "".join(f"{line}\n" for one in own for line in _samples(one, service, scrape))


@contextmanager
def everything_exposed() -> Iterator[int]:
    """A server on the yielded port: ``/risk`` answers as risk would on a stack on which everything has happened."""
    scrapes = dict.fromkeys(SERVICES, 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service = self.path.strip("/")
            scrapes[service] += 1
            body = exposed(service, scrapes[service]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
