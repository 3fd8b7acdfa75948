"""A stack, its exchange, Prometheus, Alertmanager and a webhook, each a process or a server of its own.

The rules and routes are those that are shipped, waits included; only addresses and the pace of scrapes differ. What is
done to the stack is done from outside: signals, a full disk, SQL, facts said with a service's own key.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import yaml
from tests.alerts.market import Market
from tests.alerts.rules import ROOT

from tapeline_common import bus
from tapeline_common.embedded import Running, running_stack
from tapeline_common.events import Event
from tapeline_common.servers import free_port
from tapeline_common.tape_nats import NatsTape
from tapeline_common.wire import Answer, Draft

T = TypeVar("T")

PATIENCE_S = 90.0
TOLD_WITHIN_S = 60.0
SCRAPE_S = 1
LOOK_S = 0.1


def _load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


monitoring = _load("monitoring")


def eventually(check: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
    """Wait for progress: the first answer that is not empty."""
    deadline_s = time.monotonic() + within_s
    while True:
        with suppress(OSError):
            found = check()
            if found:
                return found
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(LOOK_S)


@dataclass(frozen=True)
class Told:
    """One alert in one notification, and when it reached the webhook (monotonic clock)."""

    at_s: float
    name: str
    status: str
    labels: dict[str, str]
    summary: str
    runbook: str


class Webhook:
    """Takes Alertmanager's notifications; refuses those without the right token."""

    def __init__(self, token: str) -> None:
        self.told: list[Told] = []
        self.refused = 0
        self._token = token
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/alerts"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def heard(self, name: str, status: str, since_s: float, **labels: str) -> Told | None:
        """The first notification of an alert since then, if any."""
        for told in list(self.told):
            wanted = told.name == name and told.status == status and told.at_s >= since_s
            if wanted and labels.items() <= told.labels.items():
                return told
        return None

    def _take(self, payload: Any) -> None:
        now_s = time.monotonic()
        for alert in payload["alerts"]:
            labels, words = alert["labels"], alert["annotations"]
            self.told.append(
                Told(now_s, labels["alertname"], alert["status"], labels, words["summary"], words["runbook"])
            )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_allowed = self.headers.get("Authorization") == f"Bearer {webhook._token}"
                if is_allowed:
                    webhook._take(json.loads(body))
                else:
                    webhook.refused += 1
                self.send_response(200 if is_allowed else 401)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        return Handler


@dataclass
class Desk:
    """Everything that runs, and how to disturb it.

    Attributes:
        measured: alert → seconds from the fault to the webhook, and from the repair to the word that it is over.
    """

    folder: Path
    market: Market
    webhook: Webhook
    prometheus: str
    measured: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "tapeline.toml"

    def running(self) -> Running:
        return eventually(lambda: running_stack(self.data), "a running stack")

    def pid(self, service: str) -> int:
        return eventually(lambda: self.running().services.get(service, 0), f"a process of {service}")

    def kill(self, service: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid(service), signal.SIGKILL)

    def postgres_pid(self) -> int:
        return int((self.data / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def nats_pid(self) -> int:
        return int((self.data / "nats" / "nats.pid").read_text())

    def tapeline(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tapeline_common.cli", *words, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def tail(self, event: str, lines: int = 1) -> list[dict[str, Any]]:
        """The latest facts of a type, oldest first."""
        said = self.tapeline("tail", "--type", event, "--lines", str(lines), "--json").stdout
        return [json.loads(line) for line in said.splitlines() if line.strip()]

    def say(self, author: str, service: str, identity: str, event: Event) -> None:
        """Have an outside fact recorded, with the key of the service whose fact it is."""
        asyncio.run(self._say(author, service, Answer(0, (Draft(event, identity),))))

    async def _say(self, author: str, service: str, answer: Answer) -> None:
        seed_file = str(self.data / "keys" / f"{service}.nk")
        client = await bus.connect(self.running().nats_url, name=service, seed_file=seed_file)
        try:
            receipt = await NatsTape(client).append(author, answer)
        finally:
            await client.close()
        assert receipt.ok, receipt

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What Prometheus answers at this moment."""
        with urlopen(f"http://{self.prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=5) as reply:
            result = json.load(reply)["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in result]

    def value(self, expression: str) -> float:
        """The one value of an expression, once there is one."""
        return eventually(lambda: self.ask(expression), f"a value of {expression}")[0][1]

    def drill(
        self,
        name: str,
        spoil: Callable[[], object],
        mend: Callable[[], object],
        *,
        during: Callable[[], object] = lambda: None,
        over_within_s: float = 120.0,
        **labels: str,
    ) -> None:
        """Make a fault, wait for its alert at the webhook, mend it, wait until the webhook is told that it is over.

        Args:
            during: what must hold while the alert fires.
            labels: of the alert.
        """
        began_s = time.monotonic()
        try:
            spoil()
            fired = self._told(name, "firing", began_s, TOLD_WITHIN_S, labels)
            assert fired.runbook == f"docs/runbooks/{name}.md"
            assert fired.labels["service"]
            during()
        finally:
            mended_s = time.monotonic()
            mend()
        over = self._told(name, "resolved", mended_s, over_within_s, labels)
        self.measured[name] = (fired.at_s - began_s, over.at_s - mended_s)

    def _told(self, name: str, status: str, since_s: float, within_s: float, labels: dict[str, str]) -> Told:
        what = f"{name} {labels} to be told as {status}"
        return eventually(lambda: self.webhook.heard(name, status, since_s, **labels), what, within_s)

    def calm(self, within_s: float = 180.0) -> None:
        """Wait until every target is up and no page fires or is about to: one fault at a time."""
        loud = f'ALERTS{{severity="page",alertname!~"{"|".join(LOOKS_BACK)}"}}'
        what = f"targets to be up, and no {loud}"
        eventually(lambda: not self.ask("up == 0") and not self.ask(loud), what, within_s)

    def notified(self) -> set[str]:
        """Names of the alerts that reached the stack's own notifier, as it says itself."""
        return {labels["alertname"] for labels, _ in self.ask('tapeline_alerts_received_total{status="firing"} > 0')}


LOOKS_BACK = ("HaltedByRisk", "ServiceRestarting")
"""Go on firing for minutes after a fault, by design."""


@contextmanager
def _child(command: list[str], log: Path, stop: signal.Signals = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait(10)


def _quicken(file: Path) -> None:
    """Scrapes and evaluations every second instead of every five; the rules and their waits stay."""
    configuration = yaml.safe_load(file.read_text())
    configuration["global"].update(
        scrape_interval=f"{SCRAPE_S}s", scrape_timeout=f"{SCRAPE_S}s", evaluation_interval=f"{SCRAPE_S}s"
    )
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))


def _tell_too(file: Path, url: str, token_file: Path) -> None:
    """Beside the notifier, a webhook that keeps what it is told, with the same settings."""
    configuration = yaml.safe_load(file.read_text())
    webhooks = configuration["receivers"][0]["webhook_configs"]
    ours = copy.deepcopy(webhooks[0])
    ours["url"] = url
    ours["http_config"]["authorization"]["credentials_file"] = str(token_file)
    webhooks.append(ours)
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))


@contextmanager
def running_desk(folder: Path, config: str) -> Iterator[Desk]:
    """Everything up, the stack trading; everything down afterwards, whatever happened."""
    market, webhook = Market(), Webhook("orchid")
    market.start()
    webhook.start()
    token_file = folder / "token"
    token_file.write_text("orchid")
    prometheus, alertmanager = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    desk = Desk(folder, market, webhook, prometheus)
    desk.config.write_text(config.replace("EXCHANGE", market.url))
    up = [sys.executable, "-m", "tapeline_common.cli", "up", "--data", str(desk.data), "--config", str(desk.config)]
    try:
        with _child([*up, "--json"], folder / "up.log", signal.SIGINT):
            notifier = eventually(lambda: monitoring.notifier_of(desk.data), "the stack's notifier")
            written = monitoring.write(desk.data, prometheus, alertmanager, notifier)
            _quicken(written["prometheus"])
            _tell_too(written["alertmanager"], webhook.url, token_file)
            routing, scraping = monitoring.commands(written, prometheus, alertmanager)
            with _child(routing, folder / "alertmanager.log"), _child(scraping, folder / "prometheus.log"):
                what = "a first fill, as Prometheus sees it"
                eventually(lambda: desk.ask("sum(tapeline_fills_total) > 0"), what, 240.0)
                yield desk
    finally:
        market.stop()
        webhook.stop()


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[bool]:
    """A disk of its own under ``folder`` (root on Linux), else the one that is there; says which."""
    is_own = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None
    if is_own:
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0755", "tapeline-alerts", str(folder)]
        is_own = subprocess.run(mounted, capture_output=True, check=False).returncode == 0
    try:
        yield is_own
    finally:
        if is_own:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
