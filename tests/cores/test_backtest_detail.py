"""Finer bars in a backtest: which are used, in what order they are said, who hears them, and what is refused."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.backtesting import synthetic_file, write_bars

from tapeline_backtest.command import _sources, _with_files, backtest, deciding_on, settings_of_call
from tapeline_backtest.feed import DetailUnusable, Source, detail, script, source
from tapeline_backtest.report import Collected
from tapeline_backtest.runner import run_loop
from tapeline_common.events import BarClosed, DataRejected, FeedOpened, OrderFilled, RegimeConfigured
from tapeline_common.opening import opening_facts
from tapeline_common.settings import parse
from tapeline_common.testing import given
from tapeline_common.values import DecimalText, InstrumentId, Realm
from tapeline_marketdata.files import read_bars
from tapeline_regime import core as regime

MINUTE_MS = 60_000
FIRST_MS = 1_700_000_100_000
"""A multiple of five minutes."""
X = InstrumentId("X")
Row = tuple[int, float, float, float, float, float]


def minutes(count: int, *, without: tuple[int, ...] = (), start: int = 0) -> list[Row]:
    return [
        (FIRST_MS + index * MINUTE_MS, 100.0 + index, 101.0 + index, 99.0 + index, 100.5 + index, 10.0)
        for index in range(start, count)
        if index not in without
    ]


def fives(rows: list[Row], *, without: tuple[int, ...] = ()) -> list[Row]:
    """Bars of five minutes made of whole bars of one."""
    made = []
    for index in range(0, len(rows) - 4, 5):
        some = rows[index : index + 5]
        highs, lows = max(row[2] for row in some), min(row[3] for row in some)
        made.append((some[0][0], some[0][1], highs, lows, some[-1][4], sum(row[5] for row in some)))
    return [row for index, row in enumerate(made) if index not in without]


def sourced(folder: Path, coarse: list[Row], fine: list[Row]) -> Source:
    path, finer = str(write_bars(folder / "five.parquet", coarse)), str(write_bars(folder / "one.parquet", fine))
    one = source(X, path, read_bars(path, timeframe="5m"))
    return Source(X, path, one.file, one.digest, detail(finer, read_bars(finer, timeframe="1m"), one.file))


def said(one: Source) -> list[str]:
    """Bars by their length and the minutes of their opening, gaps as such."""
    lines = []
    for outside in script([], [one]):
        event = outside.event
        if isinstance(event, BarClosed):
            lines.append(f"{event.timeframe}@{(event.open_ns // 1_000_000 - FIRST_MS) // MINUTE_MS}")
        elif isinstance(event, DataRejected):
            lines.append("gap")
    return lines


def test_detail_comes_before_the_bar_that_it_makes_up(tmp_path: Path) -> None:
    """The last minute closes with its bar and is said first: only so can the venue fill on it."""
    rows = minutes(10)
    ones = [f"1m@{index}" for index in range(10)]
    assert said(sourced(tmp_path, fives(rows), rows)) == [*ones[:5], "5m@0", *ones[5:], "5m@5"]


def test_incomplete_detail_is_left_out(tmp_path: Path) -> None:
    """One minute missing: its bar is said alone and fills by itself. So is a bar that no detail reaches."""
    rows = minutes(15)
    found = said(sourced(tmp_path, fives(rows), minutes(10, without=(7,))))
    assert found == [*(f"1m@{index}" for index in range(5)), "5m@0", "5m@5", "5m@10"]


def test_detail_outside_the_bars_is_not_used(tmp_path: Path) -> None:
    """Before the first, after the last, within a gap, and off the grid."""
    rows = minutes(20)
    one = sourced(tmp_path, fives(rows, without=(0, 2)), [*rows, (FIRST_MS + 20 * MINUTE_MS + 1, *rows[0][1:])])
    assert said(one) == [
        *(f"1m@{index}" for index in range(5, 10)), "5m@5", *(f"1m@{index}" for index in range(15, 20)), "gap", "5m@15",
    ]  # fmt: skip
    assert one.detail is not None
    assert one.detail.covered == 2


def test_where_detail_came_from_is_on_the_tape(tmp_path: Path) -> None:
    """Its own fact with its digest, and how much of the bars it covers."""
    rows = minutes(10)
    one = sourced(tmp_path, fives(rows), minutes(10, start=5))
    facts = [outside.event for outside in script([], [one]) if isinstance(outside.event, FeedOpened)]
    assert [(fact.source, fact.timeframe) for fact in facts] == [("five.parquet", "5m"), ("one.parquet", "1m")]
    assert "detail of 1 of 2 bars" in facts[1].detail


@pytest.mark.parametrize("timeframe", ["5m", "10m", "2m"])
def test_bars_that_do_not_divide_are_refused(tmp_path: Path, timeframe: str) -> None:
    """Neither as long, nor longer, nor at odds; the message names file, lengths and fix."""
    path = str(write_bars(tmp_path / "odd.parquet", minutes(1)))
    coarse = read_bars(write_bars(tmp_path / "five.parquet", fives(minutes(10))), timeframe="5m")
    with pytest.raises(DetailUnusable) as refused:
        detail(path, read_bars(path, timeframe=timeframe), coarse)
    assert str(refused.value) == (
        f"{path}: its bars of {timeframe} cannot make up bars of 5m: give a file of shorter bars that divide them"
    )


# ---- the whole run -----------------------------------------------------------------------------------------------


def market(folder: Path, bars: int = 3_000) -> tuple[Path, Path]:
    """The synthetic market's minutes, and the bars of five minutes that they make up."""
    fine = synthetic_file(folder / "BTCUSDT_1m.parquet", bars)
    columns = read_bars(fine).columns
    names = (columns.open, columns.high, columns.low, columns.close, columns.volume)
    numbers = zip(*(each.tolist() for each in names), strict=True)
    rows = [(ns // 1_000_000, *row) for ns, row in zip(columns.open_ns.tolist(), numbers, strict=True)]
    skipped = (-(rows[0][0] // MINUTE_MS)) % 5
    return fine, write_bars(folder / "BTCUSDT_5m.parquet", fives(rows[skipped:]))


def ran(coarse: Path, fine: Path | None, **more: Any) -> Collected:
    zero = Decimal(0)
    call: dict[str, Any] = defaultdict(lambda: None, strategy="ema_cross", params=("fast=5", "slow=12"), names=())
    call |= {"size": Decimal(1), "cash": Decimal(1_000_000), "fee": zero, "slippage_bps": zero, "data": (str(coarse),)}
    call |= {"detail": () if fine is None else (str(fine),), "funding": ()}
    settings, files = settings_of_call(call | more)
    settings = _with_files(settings, call)
    sources = _sources(settings, files, None, None)
    opening = opening_facts(deciding_on(settings, sources[0].file, None), realm=Realm.REPLAY, code_version="1")
    return run_loop(script(opening, sources)).collected


def prices(collected: Collected) -> list[tuple[int, Decimal]]:
    return [(fill.side.sign, fill.price) for _, fill in collected.fills]


def test_orders_at_the_open_fill_alike_and_earlier(tmp_path: Path) -> None:
    """The first minute opens where its bar does: same prices, known four minutes sooner. Strategies hear no minute."""
    fine, coarse = market(tmp_path)
    alone, detailed = ran(coarse, None), ran(coarse, fine)
    assert len(alone.fills) > 20
    assert prices(alone) == prices(detailed)
    sooner = {one[0] - other[0] for one, other in zip(alone.fills, detailed.fills, strict=True)}
    assert sooner == {4 * 60 * 10**9}


def test_a_strategy_follows_the_bars_of_the_file(tmp_path: Path) -> None:
    """Whatever length they have: five minutes were never named in a setting."""
    _, coarse = market(tmp_path, 600)
    assert ran(coarse, None).submitted > 0


def test_the_command_takes_detail_and_costs(tmp_path: Path) -> None:
    """From the file to the report, with every option of costs; too many files of detail are a wrong call."""
    fine, coarse = market(tmp_path, 600)
    base = ["-s", "ema_cross", "-p", "fast=5", "-p", "slow=12", "--data", str(coarse), "--json"]
    dear = (
        "--maker-fee", "-0.0001", "--half-spread-bps", "1", "--volume-impact", "0.1", "--root-impact", "1",
        "--latency-ms", "250", "--intrabar", "adaptive", "--borrow-rate", "0.1",
    )  # fmt: skip
    plain = CliRunner().invoke(backtest, [*base, "--detail", str(fine)])
    costly = CliRunner().invoke(backtest, [*base, "--detail", str(fine), *dear])
    assert (plain.exit_code, costly.exit_code) == (0, 0), (plain.output, costly.output)
    assert '"slippage":"0"' in plain.stdout
    assert '"slippage":"0"' not in costly.stdout
    wrong = CliRunner().invoke(backtest, [*base, "--detail", str(fine), "--detail", str(fine)])
    assert wrong.exit_code == 2
    same = CliRunner().invoke(backtest, [*base, "--detail", str(coarse)])
    assert same.exit_code == 4
    assert "cannot make up bars of 5m" in same.output


# ---- regimes -----------------------------------------------------------------------------------------------------


def test_regimes_are_of_the_bars_that_strategies_hear() -> None:
    """With detail the timeframe that counts is named; without, the fact is written as ever."""
    text = '[[instrument]]\nname = "BTC/USDT"\ndetail = "one.parquet"\n[[instrument]]\nname = "ETH/USDT"\n'
    facts = [opening.event for opening in opening_facts(parse(text), realm=Realm.REPLAY, code_version="1")]
    assert [fact.timeframe for fact in facts if isinstance(fact, RegimeConfigured)] == ["1m", ""]


@pytest.mark.parametrize(("timeframe", "counted"), [("", 2), ("5m", 1), ("1h", 0)])
def test_regimes_do_not_count_other_bars(timeframe: str, counted: int) -> None:
    """Neither learnt nor answered."""
    one = DecimalText("1")
    bars = [BarClosed(X, name, 0, 1, one, one, one, one, one) for name in ("1m", "5m")]
    state = given(regime.CORE, RegimeConfigured(X, 300, 250, True, timeframe), *bars).state
    assert state.instruments[X].since_request == counted
    answered = given(regime.CORE, RegimeConfigured(X, 300, 250, True, timeframe)).when(bars[0]).decisions
    assert len(answered) == (timeframe == "")


def test_a_fill_of_detail_is_a_fill_like_any_other(tmp_path: Path) -> None:
    """Nothing is filled twice: what the minutes gave, their bar does not give again."""
    fine, coarse = market(tmp_path, 900)
    fills = [fill for _, fill in ran(coarse, fine, participation=Decimal("0.001")).fills]
    by_order: dict[str, Decimal] = {}
    for fill in fills:
        assert isinstance(fill, OrderFilled)
        by_order[fill.order] = by_order.get(fill.order, Decimal(0)) + fill.quantity
    assert by_order
    assert max(by_order.values()) <= 2
