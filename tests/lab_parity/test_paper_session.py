"""The acceptance: a paper session recorded by the embedded stack, with real NATS and Postgres, explained to the end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from tests.e2e.test_stack import CONFIG as STACK_CONFIG
from tests.lab_parity.sessions import write_bars

from tapeline_common.control_request import Action, ControlRequest
from tapeline_common.embedded import Stack
from tapeline_common.events import BarClosed, ModelRegistered, OrderFilled, PresetRewarded
from tapeline_common.operator_client import OperatorClient, operator
from tapeline_common.tape import TapeUnavailable, read_all
from tapeline_common.wire import Fact, decode_facts, encode
from tapeline_lab.parity.diff import Switches, diff
from tapeline_lab.parity.diff_report import DiffReport
from tapeline_lab.parity.record import record_of
from tapeline_lab.parity.rerun import installed_gear
from tapeline_lab.parity.runs import read_run

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

CONFIG = STACK_CONFIG.replace('"e2e"', '"parity"').replace("train_bars = 300", "train_bars = 250")
PATIENCE_S = 120.0
RICH_ENOUGH = (OrderFilled, PresetRewarded, ModelRegistered)
"""What the session must have seen before it ends: fills, rewarded presets, a fitted model."""


@dataclass(frozen=True)
class Session:
    """A recorded session: the stopped stack's folder, and what was said of it while it still ran."""

    folder: Path
    while_running: DiffReport
    of_database: DiffReport


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("paper")
    for each in (folder, folder.parent):
        each.chmod(0o755)
    (folder / "tapeline.toml").write_text(CONFIG)
    return asyncio.run(record(folder / "data", folder / "tapeline.toml"))


async def record(folder: Path, config: Path) -> Session:
    """Trade until there is enough to compare, halt and resume once, and look at the tape from outside as well."""
    stack = Stack(folder, config)
    try:
        await stack.start()
        async with operator(folder) as client:
            await eventually(lambda: has_all(client), "fills, rewards and a model")
            await client.control(Action.HALT, ControlRequest(reason="drill"))
        running = await told(folder)
        database = await told((folder / "secrets" / "ledger-dsn").read_text().strip())
    finally:
        await stack.stop()
    return Session(folder, running, database)


async def has_all(client: OperatorClient) -> bool:
    try:
        found = decode_facts(await read_all(client.tape, types=[kind.__name__ for kind in RICH_ENOUGH]))
    except TapeUnavailable:
        return False
    kinds = [type(fact.event) for fact in found]
    return all(kinds.count(kind) > 0 for kind in RICH_ENOUGH) and kinds.count(OrderFilled) > 30


async def eventually(check: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not await check():
        assert asyncio.get_running_loop().time() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def told(run: Path | str, *words: str) -> DiffReport:
    """What the command says, called as a user does; its exit code must fit what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tapeline_common.cli", "diff", str(run), "--json", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    said, wrong = await process.communicate()
    assert process.returncode in (0, 1), wrong.decode()
    report = msgspec.json.decode(said, type=DiffReport)
    assert process.returncode == (report.same < report.decisions or report.equity_gap != 0)
    return report


def explained(report: DiffReport) -> set[str]:
    """The causes that anything is put down to; their shares add up to the whole gap, exactly."""
    assert sum((row.equity for row in report.causes.values()), Decimal(0)) == report.equity_gap
    assert sum((row.equity_bps for row in report.causes.values()), Decimal(0)) == report.equity_gap_bps
    assert sum(row.decisions for row in report.causes.values()) == report.decisions - report.same
    return {cause for cause, row in report.causes.items() if row.decisions or row.equity}


def assert_the_same(report: DiffReport) -> None:
    assert report.parity_percent == Decimal("100.00")
    assert (report.same, report.equity_gap, report.differences) == (report.decisions, 0, [])
    assert report.kinds["FILL"].same > 30


async def test_unchanged_code_gives_100_percent(session: Session) -> None:
    """From a running stack, from its database, and from its folder once it is stopped."""
    assert_the_same(session.while_running)
    assert_the_same(session.of_database)
    stopped = await told(session.folder)
    assert_the_same(stopped)
    assert stopped.kinds["REGIME"].same > 1
    assert stopped.kinds["PRESET"].same > 3
    assert stopped.decisions >= session.of_database.decisions


def test_it_is_the_same_tape_but_for_what_was_under_way(session: Session) -> None:
    """Decided anew by the session's timetable: every recorded byte, in its place."""
    record = record_of(read_run(str(session.folder)))

    found = diff(record, installed_gear(), Switches())

    assert [encode(fact) for fact in found.today.facts] == [encode(fact) for fact in record.facts]


def test_a_tick_of_slippage_is_found(session: Session) -> None:
    """One tick on every taker fill: FILL, and nothing else is named."""
    report = asyncio.run(told(session.folder, "--slippage-ticks", "1"))

    assert explained(report) == {"FILL"}
    assert report.equity_gap < 0


def test_a_changed_preset_is_found(session: Session) -> None:
    """Other parameters of a preset: PRESET, whatever orders follow."""
    report = asyncio.run(
        told(session.folder, "--set", "preset.breakout.quick.lookback=4", "--set", "preset.breakout.slow.lookback=6")
    )

    assert explained(report) == {"PRESET"}
    assert report.kinds["INTENT"].same < report.kinds["INTENT"].recorded


def test_a_revised_bar_is_found(session: Session, tmp_path: Path) -> None:
    """The exchange says another bar today, one that filled an order: INPUT_REVISED."""
    facts = read_run(str(session.folder))
    filling = {fact.cause for fact in facts if isinstance(fact.event, OrderFilled)}
    bar = next(fact.event for fact in facts if fact.pos in filling and isinstance(fact.event, BarClosed))
    heard = [
        fact.event for fact in facts if isinstance(fact.event, BarClosed) and fact.event.instrument == bar.instrument
    ]
    dearer = {name: f"{Decimal(getattr(bar, name)) + 50}" for name in ("open", "high", "low", "close")}
    revised = [msgspec.structs.replace(each, **dearer) if each is bar else each for each in heard]
    name = "BTC/USDT" if bar.instrument.startswith("BTC") else "ETH/USDT"
    as_heard = write_bars(tmp_path / "heard.csv", heard)
    as_today = write_bars(tmp_path / "today.csv", revised)

    same = asyncio.run(told(session.folder, "--instrument", name, "--data", str(as_heard)))
    report = asyncio.run(told(session.folder, "--instrument", name, "--data", str(as_today)))

    assert_the_same(same)
    assert explained(report) == {"INPUT_REVISED"}
    assert report.causes["INPUT_REVISED"].by_facts == 1


def test_the_model_fitted_again_is_the_model(session: Session) -> None:
    """The trainer is deterministic: fitted anew from the same bars it is the same model, and all is the same."""
    assert_the_same(asyncio.run(told(session.folder, "--refit")))


def fills_of(facts: list[Fact]) -> list[OrderFilled]:
    return [fact.event for fact in facts if isinstance(fact.event, OrderFilled)]


def test_a_backtest_of_its_events_has_the_same_orders_and_equity(session: Session, tmp_path: Path) -> None:
    """A backtest over the session's bars, against the session replayed with answers at once: identical orders, and
    equity to 1e-9 (in fact to the last digit)."""
    from tests.gears import Facts

    from tapeline_backtest.feed import Source, script
    from tapeline_backtest.runner import run_loop
    from tapeline_common.opening import opening_facts
    from tapeline_common.settings import load
    from tapeline_common.values import InstrumentId, Realm
    from tapeline_ledger import core as ledger
    from tapeline_marketdata.files import read_bars

    record = record_of(read_run(str(session.folder)))
    halted = next(fact.pos for fact in record.facts if type(fact.event).__name__ == "HaltRequested")
    record = record_of(record.facts[: halted - 1])
    bars = [fact.event for fact in record.facts if isinstance(fact.event, BarClosed)]
    paper = diff(record, installed_gear(), Switches(lock_step=True)).today

    sources = []
    for token in ("BTC-USDT_sim", "ETH-USDT_sim"):
        file = write_bars(tmp_path / f"{token}.csv", [bar for bar in bars if bar.instrument == token])
        sources.append(Source(InstrumentId(token), str(file), read_bars(file), "digest"))
    kept = Facts()
    opening = opening_facts(load(session.folder / "started-with.toml"), realm=Realm.REPLAY, code_version="test")
    finished = run_loop(script(opening, sources), recorder=kept)

    def orders(facts: list[Fact]) -> list[tuple[object, ...]]:
        return [
            (fill.strategy, fill.instrument, fill.side, fill.quantity, fill.price, fill.fee) for fill in fills_of(facts)
        ]

    assert orders(paper.facts) == orders(kept.facts)
    assert abs(ledger.equity(paper.states["ledger"]) - ledger.equity(finished.books)) <= Decimal("1e-9")
