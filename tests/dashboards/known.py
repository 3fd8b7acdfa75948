"""What is measured: the names and labels that dashboards may use, and services that expose all of them.

The names come from the generated catalogue of the code. ``contract.json`` stands in where the catalogue is not there.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

EVERY = "every"
SERVICES = ("ledger", "marketdata", "regime", "bandit", "strategy", "risk", "execution", "notifier")
SUFFIXES = ("_bucket", "_sum", "_count")

ALWAYS = {"service", "job", "instance"}
"""Labels that every sample has: our own, and those of the scrape."""

NOT_OURS = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
"""Series that Prometheus makes by itself."""


@dataclass(frozen=True)
class Known:
    """One measured name; ``values`` of a label are empty where they are not a closed list."""

    name: str
    kind: str
    service: str
    labels: dict[str, Sequence[str]]


def known() -> list[Known]:
    """Everything the code exposes."""
    try:
        from tapeline_common.catalogue import catalogue
    except ImportError:
        listed = json.loads((Path(__file__).parent / "contract.json").read_text())
        return [Known(one["name"], one["kind"], one["service"], one["labels"]) for one in listed]
    return [
        Known(one.name, str(one.kind), one.service or EVERY, {label: one.values.get(label, ()) for label in one.labels})
        for one in catalogue()
    ]


def labels_by_series(measures: Sequence[Known]) -> dict[str, set[str]]:
    """Every name that a query may use, with the labels it has."""
    found = {name: labels | ALWAYS for name, labels in NOT_OURS.items()}
    for one in measures:
        labels = set(one.labels) | ALWAYS
        if one.kind == "histogram":
            found |= {one.name + suffix: labels | ({"le"} if suffix == "_bucket" else set()) for suffix in SUFFIXES}
        else:
            found[one.name] = labels
    return found


# ---- services that expose everything ---------------------------------------------------------------------------------

PLAUSIBLE = {
    "instrument": ("BTC-USDT_sim", "ETH-USDT_sim"),
    "strategy": ("ema", "breakout"),
    "preset": ("quick", "slow"),
    "follower": SERVICES[:-1],
    "currency": ("USDT",),
    "venue": ("simulated",),
    "volume": ("data",),
    "author": ("risk", "strategy"),
    "state": ("SUBMITTED", "WORKING"),
}


def _values(measure: Known, label: str) -> Sequence[str]:
    return measure.labels[label] or PLAUSIBLE.get(label, ("A", "B"))


def _samples(measure: Known, scrape: int) -> Iterator[str]:
    """Counters and histograms grow with each scrape, by a different amount for each set of labels."""
    names = list(measure.labels)
    for step, chosen in enumerate(product(*(_values(measure, name) for name in names)), 1):
        labels = ",".join(f'{name}="{value}"' for name, value in zip(names, chosen, strict=True))
        if measure.kind == "histogram":
            for count, edge in enumerate(("0.001", "0.01", "0.1", "1", "+Inf"), 1):
                inside = ",".join(part for part in (labels, f'le="{edge}"') if part)
                yield f"{measure.name}_bucket{{{inside}}} {count * scrape * step}"
            yield f"{measure.name}_sum{{{labels}}} {scrape * step}"
            yield f"{measure.name}_count{{{labels}}} {5 * scrape * step}"
        else:
            yield f"{measure.name}{{{labels}}} {scrape * step if measure.kind == 'counter' else step}"


def exposed(measures: Sequence[Known], service: str, scrape: int) -> str:
    """What a service answers to its scrape of this number."""
    lines = [line for one in measures if one.service in (EVERY, service) for line in _samples(one, scrape)]
    labelled = (
        line.replace("{", f'{{service="{service}"' + ("" if line.split("{")[1].startswith("}") else ","), 1)
        for line in lines
    )
    return "\n".join(labelled) + "\n"


@contextmanager
def everything_exposed(measures: Sequence[Known]) -> Iterator[int]:
    """A server on the yielded port: ``/risk`` answers as risk would on a stack on which everything has happened."""
    scrapes = dict.fromkeys(SERVICES, 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service = self.path.strip("/")
            scrapes[service] += 1
            body = exposed(measures, service, scrapes[service]).encode()
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
