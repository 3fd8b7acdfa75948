"""Ten alerts fire for real: a fault in a running stack, the shipped rules and routes, a webhook within a minute.

One stack for all, on an exchange of our own. Each fault is made from outside as it could happen, told within 60 s,
repaired, and told to be over. ``make alerts-test`` runs this and prints how long each took.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.alerts.desk import TOLD_WITHIN_S, Desk, eventually, running_desk, small_disk

from tapeline_common.events import BalanceReported, OrderOutcomeUnknown

pytestmark = [pytest.mark.monitoring, pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(480)]

CONFIG = """
[run]
name = "alerts"
seed = 3
[feed]
kind = "exchange"
exchange = "binance"
base_url = "EXCHANGE"
timeframe = "1s"
poll_ms = 200
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
lot_size = "0.00001"
[risk]
max_daily_loss = "2000"
[retention]
mirror_size_mib = 64
[regime]
train_bars = 300
refit_bars = 60
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
parameters = { fast = 10, slow = 60 }
"""

DISK_MIB = 1_200
THICK = 100_000.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bool]]:
    """Where everything of the desk lies, and whether that is a small disk of its own."""
    folder = tmp_path_factory.mktemp("desk")
    for each in (folder, folder.parent):
        each.chmod(0o755)
    with small_disk(folder, DISK_MIB) as is_own:
        yield folder, is_own


@pytest.fixture(scope="module")
def desk(disk: tuple[Path, bool]) -> Iterator[Desk]:
    missing = [name for name in ("prometheus", "prometheus-alertmanager") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: deploy/monitoring_tools.sh installs them on Debian")
    with running_desk(disk[0], CONFIG) as running:
        yield running
        print(f"\n{'alert':<22}{'told after':>12}{'over after':>12}", file=sys.__stdout__)
        for name, (fired_s, over_s) in running.measured.items():
            print(f"{name:<22}{fired_s:>10.1f} s{over_s:>10.1f} s", file=sys.__stdout__)


@pytest.fixture(autouse=True)
def calm(desk: Desk) -> None:
    """One fault at a time: the last one is over, and trading runs."""
    desk.calm()
    if desk.value('tapeline_trading_state{state="RUNNING"}') == 0.0:
        assert desk.tapeline("resume", "--reason", "drill").returncode == 0
        eventually(lambda: desk.value('tapeline_trading_state{state="RUNNING"}') == 1.0, "trading to go on")


class HeldDown:
    """A service that is killed again as soon as it is back."""

    def __init__(self, desk: Desk, service: str) -> None:
        self._desk, self._service = desk, service
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def start(self) -> None:
        self._thread.start()

    def release(self) -> None:
        self._enough.set()
        self._thread.join()

    def _hold(self) -> None:
        while not self._enough.wait(0.05):
            with suppress(psutil.NoSuchProcess):
                self._desk.kill(self._service)


def signalled(pid: int, number: signal.Signals) -> None:
    """A server and all its processes."""
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def pages(desk: Desk, since_s: float) -> set[str]:
    """Names of the pages that reached the webhook since then."""
    told = [each for each in desk.webhook.told if each.at_s >= since_s and each.status == "firing"]
    return {each.name for each in told if each.labels["severity"] == "page"}


def test_the_watchdog_comes_and_nothing_else(desk: Desk) -> None:
    """A healthy stack pages nobody; the pipeline proves itself, and the webhook refuses nobody who has the token."""
    eventually(lambda: desk.webhook.heard("Watchdog", "firing", 0.0), "the Watchdog")
    assert pages(desk, 0.0) == set()
    assert desk.webhook.refused == 0


def test_a_service_is_killed_and_held_down(desk: Desk) -> None:
    """Killed each time it comes back."""
    held = HeldDown(desk, "risk")
    desk.drill("ServiceDown", held.start, held.release, service="risk")


def test_the_feed_stalls(desk: Desk) -> None:
    """The exchange answers, and nothing new."""

    def freeze(is_frozen: bool) -> None:
        desk.market.is_frozen = is_frozen

    desk.drill("FeedStale", lambda: freeze(True), lambda: freeze(False), instrument="BTC-USDT_sim")


def test_postgres_stops(desk: Desk) -> None:
    """All its processes freeze, as on a disk that hangs. Nobody is told of the symptoms."""
    pid, began_s = desk.postgres_pid(), time.monotonic()

    def only_the_cause() -> None:
        assert pages(desk, began_s) == {"PostgresDown"}

    desk.drill(
        "PostgresDown",
        lambda: signalled(pid, signal.SIGSTOP),
        lambda: signalled(pid, signal.SIGCONT),
        during=only_the_cause,
    )


def test_nats_stops(desk: Desk) -> None:
    """nats-server freezes. Nobody is told of the symptoms."""
    pid, began_s = desk.nats_pid(), time.monotonic()

    def only_the_cause() -> None:
        assert pages(desk, began_s) == {"NatsDown"}

    desk.drill(
        "NatsDown",
        lambda: signalled(pid, signal.SIGSTOP),
        lambda: signalled(pid, signal.SIGCONT),
        during=only_the_cause,
    )


async def _overwrite(dsn: str, pos: int, payload: bytes | None) -> bytes:
    """Replace a row's payload by going around the triggers; ``None``: change one byte. Returns what was there."""
    owner = await asyncpg.connect(dsn)
    try:
        await owner.execute("SET session_replication_role = replica")
        before: bytes = await owner.fetchval("SELECT payload FROM tape WHERE pos = $1", pos)
        partition = await owner.fetchval("SELECT tableoid::regclass::text FROM tape WHERE pos = $1", pos)
        await owner.execute(f"ALTER TABLE {partition} DISABLE TRIGGER ALL")
        changed = before[:40] + b"X" + before[41:] if payload is None else payload
        await owner.execute("UPDATE tape SET payload = $2 WHERE pos = $1", pos, changed)
    finally:
        await owner.close()
    return before


def test_a_row_is_tampered_with(desk: Desk) -> None:
    """A superuser changes one byte of the past; putting it back ends the alarm."""
    dsn = (desk.data / "secrets" / "owner-dsn").read_text().strip().rpartition("/")[0] + "/tapeline"
    before: list[bytes] = []

    def verified_is(code: int) -> None:
        assert desk.tapeline("verify").returncode == code

    desk.drill(
        "ChainFault",
        lambda: before.append(asyncio.run(_overwrite(dsn, 30, None))),
        lambda: asyncio.run(_overwrite(dsn, 30, before[0])),
        during=lambda: verified_is(1),
    )
    verified_is(0)


def test_an_order_is_stuck_unknown(desk: Desk) -> None:
    """An open order's answer was lost; its fill, when trading is thick again, ends the doubt."""
    eventually(lambda: desk.value("sum(tapeline_position_quantity)") > 0, "a position")
    known = {fact["event"]["order"] for fact in desk.tail("OrderAccepted", 5)}
    desk.market.volume = 0.0
    desk.market.jump(-0.03)  # so that the strategy wants out, and nobody buys

    def opened() -> dict[str, str]:
        latest: dict[str, str] = desk.tail("OrderAccepted")[-1]["event"]
        return {} if latest["order"] in known else latest

    order = eventually(opened, "an order that does not fill")
    unknown = OrderOutcomeUnknown(order["order"], order["client_order_id"], "the answer was lost on the way")

    def thicken() -> None:
        desk.market.volume = THICK

    identity = f"unknown:{order['client_order_id']}"
    desk.drill("OrderUnknown", lambda: desk.say("venue", "execution", identity, unknown), thicken)


def test_books_and_venue_differ(desk: Desk) -> None:
    """The venue reports an empty account; the right balances end it. Trading is halted meanwhile."""
    number = time.time_ns()

    def report(serial: int, balances: dict[str, Decimal]) -> None:
        desk.say("venue", "execution", f"balances:{serial}", BalanceReported("sim", balances))

    def report_the_truth() -> None:
        differences = desk.tail("BooksReconciled")[-1]["event"]["differences"]
        report(number + 1, {currency: -Decimal(difference) for currency, difference in differences.items()})

    desk.drill(
        "BooksMismatch", lambda: report(number, {}), report_the_truth, during=lambda: is_halted(desk), venue="sim"
    )


def is_halted(desk: Desk) -> None:
    assert desk.value('tapeline_trading_state{state="HALTED"}') == 1.0


def test_the_daily_loss_is_hit(desk: Desk) -> None:
    """The price falls by a third with a position open; a higher limit ends the alarm."""
    eventually(lambda: desk.value("sum(tapeline_position_quantity)") > 0, "a position")

    def raise_the_limit() -> None:
        text = desk.config.read_text()
        desk.config.write_text(text.replace('max_daily_loss = "2000"', 'max_daily_loss = "90000"'))
        desk.kill("ledger")

    desk.drill(
        "DailyLoss",
        lambda: desk.market.jump(-0.33),
        raise_the_limit,
        during=lambda: is_halted(desk),
        limit="daily_loss",
    )


def test_the_model_drifts(desk: Desk) -> None:
    """Volatility breaks. When that is over, promoting a model of the calm market starts the detectors anew."""
    registered = eventually(lambda: desk.tail("ModelRegistered", 100)[1:], "a model that waits for its promotion")
    waiting, calm = registered[-1]["event"]["model"], desk.market.noise

    def shake() -> None:
        desk.market.noise = 8 * calm

    def promote() -> None:
        desk.market.noise = calm
        done = desk.tapeline("promote", waiting)
        assert done.returncode == 0, done.stderr

    desk.drill("ModelDrift", shake, promote, over_within_s=240.0, instrument="BTC-USDT_sim")


def test_the_disk_is_nearly_full(desk: Desk, disk: tuple[Path, bool]) -> None:
    """A file takes the disk of the data folder to nine tenths; deleting it ends the alarm."""
    folder, is_own = disk
    if not is_own:
        pytest.skip("needs a small disk of its own: root on Linux, to mount a tmpfs")
    ballast = folder / "ballast"

    def fill() -> None:
        usage = shutil.disk_usage(folder)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, usage.free - usage.total // 10)

    desk.drill("DiskNearlyFull", fill, ballast.unlink, volume="data")


def test_each_was_told_within_a_minute(desk: Desk) -> None:
    """All ten, or nine where the disk could not be had; and each was handed to the stack's own notifier, too."""
    assert len(desk.measured) >= 9
    assert max(told_s for told_s, _ in desk.measured.values()) <= TOLD_WITHIN_S
    assert desk.notified() >= set(desk.measured)
