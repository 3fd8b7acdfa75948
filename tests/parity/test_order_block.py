"""Orders in block mode: compiled stretches give the tape, the states and the report of the exact path."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.gears import facts_of, file_of, finished_in_both, settings_of
from tests.parity.test_block_mode import bars_file
from tests.parity.test_kernel_gear import FIRST_NS, FLAT, LONG, SITUATIONS, bars, hold

from tapeline_backtest import compiled, order_block
from tapeline_backtest.kept import flows_by_instrument, results_by_instrument
from tapeline_backtest.runner import Finished
from tapeline_common.events import ModelPromoted, OrderFilled, OrderProposed, RegimeUpdated, TradeDeclined
from tapeline_common.settings import RegimeTable, RiskTable, Settings, VenueTable
from tapeline_common.values import Decline, Regime, Side
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_regime import stretching, training
from tapeline_strategy.sdk import Strategy

pytest.importorskip("numba", reason="block mode compiles")

FIT = cache(training.fit)
"""The same bars are fitted again and again here, and the same model comes of them."""


@pytest.fixture(autouse=True)
def _fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "fit", FIT)


def same(settings: Settings, file: BarFile, chunk_bars: int = 8192) -> Finished:
    exact, block = finished_in_both(settings, file, chunk_bars)
    assert block.collected == exact.collected
    assert sums_of(block) == sums_of(exact), "what rows add up to is what their events add up to"
    assert block.states == exact.states
    assert (block.facts, block.tape_hash) == (exact.facts, exact.tape_hash)
    return block


def sums_of(finished: Finished) -> list[Any]:
    flows = flows_by_instrument(finished.collected.fills.sums()).values()
    moved = [[each.time_ns.tolist(), each.moved.tolist(), each.paid.tolist()] for each in flows]
    amounts = [(each.quantity, each.fees, each.slippage) for each in flows]
    return [moved, amounts, results_by_instrument(finished.collected.trades.sums())]


def drawn(chance: random.Random) -> Settings:
    """One strategy on one instrument with any costs and limits that the kernel knows."""
    kind = chance.choice(("ema_cross", "ema_cross", "momentum_breakout", "trend_follow"))
    fast = chance.randrange(2, 12)
    parameters: dict[str, Any] = {}
    if kind == "ema_cross":
        parameters = {"fast": fast, "slow": fast + chance.randrange(1, 30)}
    elif kind == "trend_follow":
        parameters = {"trend": chance.randrange(5, 60), "atr": 9, "stop_atr": 1.0, "short": chance.random() < 0.5}
    has_grid = chance.random() < 0.5
    settings = settings_of(
        kind,
        parameters,
        size=Decimal(chance.choice(("1", "0.1", "0.00037"))),
        cash=Decimal(chance.choice(("100000", "54321.123"))),
        venue=VenueTable(
            taker_fee=Decimal(chance.choice(("0", "0.001", "0.00025"))),
            slippage_bps=Decimal(chance.choice(("0", "2.5"))),
            participation=chance.choice((None, None, Decimal("0.0005"), Decimal(1))),
        ),
        risk=RiskTable(
            max_daily_loss=chance.choice((None, None, Decimal(9), Decimal(40))),
            max_drawdown=chance.choice((None, None, Decimal(5), Decimal(60))),
            cool_down_ms=chance.choice((None, None, 600_000)),
            max_position=chance.choice((None, None, Decimal("0.05"))),
            max_price_age_ms=60_000,
        ),
        tick_size=chance.choice((Decimal("0.01"), Decimal("0.50"))) if has_grid else None,
        lot_size=Decimal("0.0001") if has_grid else None,
    )
    regime = RegimeTable(enabled=chance.random() < 0.4, train_bars=300, refit_bars=chance.choice((200, 100_000)))
    return msgspec.structs.replace(settings, regime=regime)


def filtered(settings: Settings, *regimes: Regime, **changes: Any) -> Settings:
    """The same settings for a strategy that trades in these regimes only, told by a model of 300 bars."""
    table = msgspec.structs.replace(settings.strategy[0], regimes=regimes)
    regime = RegimeTable(**{"enabled": True, "train_bars": 300, "refit_bars": 100_000, **changes})
    return msgspec.structs.replace(settings, strategy=(table,), regime=regime)


@pytest.mark.parametrize("seed", range(40))
def test_any_configuration_gives_the_same_tape(seed: int, tmp_path: Path) -> None:
    """Fees, slippage, grids, limits, regimes, holes and borders of chunks, hours and days: hash, fills and states."""
    chance = random.Random(seed)
    settings = drawn(chance)
    file = read_bars(bars_file(tmp_path / "bars.parquet", chance, chance.randrange(200, 1500)))
    same(settings, file, chance.choice((7, 100, 8192)))


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_situation_of_the_order_path_gives_the_same_tape(name: str) -> None:
    """Refusals, declines, partial fills, halts and turns come out the same, wherever the compiled code gives up."""
    same(*SITUATIONS[name])
    same(*SITUATIONS[name], chunk_bars=3)


def test_almost_every_order_takes_the_compiled_path(tmp_path: Path) -> None:
    """The comparison means something: the exact path is left with the bars that begin a day and those before them."""
    chance = random.Random(1)
    file = read_bars(bars_file(tmp_path / "bars.parquet", chance, 6_000))
    block = same(settings_of("ema_cross", {"fast": 2, "slow": 5}), file)
    orders = block.collected.submitted
    assert orders > 500
    assert block.passed_orders > 0.95 * orders
    assert block.passed > 5_900


def test_regimes_are_named_by_the_compiled_path_too(tmp_path: Path) -> None:
    """With a promoted model every bar is echoed and every order names a regime, and orders are still passed."""
    chance = random.Random(3)
    settings = settings_of("ema_cross", {"fast": 2, "slow": 5})
    settings = msgspec.structs.replace(settings, regime=RegimeTable(True, train_bars=600, refit_bars=100_000))
    block = same(settings, read_bars(bars_file(tmp_path / "bars.parquet", chance, 4_000)))
    assert block.states["regime"].instruments.popitem()[1].current is not None
    assert block.passed_orders > 100


@pytest.mark.parametrize("seed", range(15))
def test_a_strategy_that_trades_in_some_regimes_gives_the_same_tape(seed: int, tmp_path: Path) -> None:
    """With any costs and limits: declines, orders and models come where the exact path has them, with and without a
    model, when others are fitted on the way, and wherever chunks, hours and days end."""
    chance = random.Random(1000 + seed)
    settings = drawn(chance)
    file = read_bars(bars_file(tmp_path / "bars.parquet", chance, chance.randrange(400, 1200)))
    regimes = chance.choice(((Regime.BULL,), (Regime.BULL, Regime.CHOP), (Regime.BEAR,), (Regime.BEAR, Regime.CHOP)))
    enabled, refit_bars = chance.random() < 0.8, chance.choice((200, 100_000))
    same(filtered(settings, *regimes, enabled=enabled, refit_bars=refit_bars), file, chance.choice((7, 100, 8192)))


def test_what_a_regime_keeps_it_from_is_passed_over_too(tmp_path: Path) -> None:
    """The comparison means something: neither orders nor declines nor waiting for a regime need the exact path."""
    file = read_bars(bars_file(tmp_path / "bars.parquet", random.Random(5), 4_000))
    block = same(filtered(settings_of("ema_cross", {"fast": 2, "slow": 5}), Regime.BULL, Regime.CHOP), file)
    assert block.collected.declined[Decline.REGIME_BLOCKED] > 50
    assert block.collected.declined[Decline.REGIME_UNKNOWN] > 5
    assert block.collected.submitted > 100
    assert block.passed_orders > 0.95 * block.collected.submitted
    assert block.passed > 3_900


# ---- where it may not be taken -----------------------------------------------------------------------------------

PLAIN = settings_of("scripted", {})


def of_strategy(**changes: Any) -> Settings:
    return msgspec.structs.replace(PLAIN, strategy=(msgspec.structs.replace(PLAIN.strategy[0], **changes),))


OTHERS = {
    "two strategies": msgspec.structs.replace(
        PLAIN, strategy=(*PLAIN.strategy, msgspec.structs.replace(PLAIN.strategy[0], name="second"))
    ),
    "latency": msgspec.structs.replace(PLAIN, venue=VenueTable(latency_ms=5)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_kernel_does_not_know_stays_on_the_exact_path(name: str) -> None:
    """Not one order of such a run is computed by the kernel, and block mode still gives its tape."""
    block = same(OTHERS[name], bars(*hold("100", LONG, 20), *hold("101", FLAT, 20)))
    assert block.passed_orders == 0


# ---- it can be wrong ---------------------------------------------------------------------------------------------


@cache
def long_and_short(first_minute: int) -> tuple[Settings, BarFile]:
    """Turns, exits and holes over the end of an hour, at a price with decimals."""
    prices = [100 + (index * 7919 % 23) / 10 for index in range(140)]
    rows = [
        (first_minute + index + (index > 33) + 2 * (index > 90), price, price + 0.3, price - 0.3, price + 0.1, volume)
        for index, price in enumerate(prices)
        for volume in (1000 + (1, 1, 2, 0, 0, 0, 2, 1)[index // 3 % 8],)
    ]
    settings = settings_of(
        "scripted", {}, venue=VenueTable(Decimal(0), Decimal("0.00075"), Decimal("1.5"), None), size=Decimal("1.5")
    )
    return settings, file_of([(row[0], *map(float, row[1:])) for row in rows], FIRST_NS)


@cache
def in_some_regimes(first_minute: int) -> tuple[Settings, BarFile]:
    """Calm and wild prices in turn with holes among them, traded both ways in the calm ones only."""
    chance = random.Random(11)
    price, rows = 1000.0, []
    for index in range(620):
        opened, spread = price, 4.0 if index // 40 % 2 else 0.5
        price = round(price + chance.gauss(0.0, spread), 2)
        minute = first_minute + index + (index > 333) + 2 * (index > 470)
        volume = 1000 + (1, 1, 0, 0, 0, 2, 1, 2, 0, 1)[index // 7 % 10]
        rows.append((minute, opened, max(opened, price) + 0.1, min(opened, price) - 0.1, price, volume))
    settings = settings_of("scripted", {}, venue=VenueTable(Decimal(0), Decimal("0.001"), Decimal(0), None))
    return filtered(settings, Regime.BULL, Regime.CHOP), file_of(
        [(row[0], *map(float, row[1:])) for row in rows], FIRST_NS
    )


def interpreted(strategy: Strategy, old: str = "", new: str = "") -> Callable[..., int]:
    """The compiled path without numba, with one piece of its text replaced."""
    names = ("scan_loop", "wide", "kernel_loop", "order_loop")
    text = compiled._module_text(strategy, tuple(f"tapeline_backtest.{name}" for name in names))
    assert not old or text.count(old) == 1, f"{old!r} is in the text {text.count(old)} times"
    namespace: dict[str, Any] = {"__name__": "interpreted"}
    exec(compile(text.replace(old, new), "interpreted", "exec"), namespace)  # noqa: S102 (the project's own text)
    namespace["step"] = strategy.step
    found: Callable[..., int] = namespace["follow"]
    return found


MUTANTS = {
    "an open order is left behind": ("and (book[WORKING] == 0 or bar + 1 < stop)", ""),
    "a refusal is passed over": ("and answers(book) - said == book[DECLINED + barred[bar]] - declined", ""),
    "the mark is at this bar's price": (
        "high, low = prices[CLOSES_HIGH][bar - 1], prices[CLOSES_LOW][bar - 1]",
        "high, low = prices[CLOSES_HIGH][bar], prices[CLOSES_LOW][bar]",
    ),
    "the mark is of this hour": (
        "told[row, OTHER_NS] = (time_ns - 1) // HOUR_NS * HOUR_NS", "told[row, OTHER_NS] = time_ns"
    ),
    "a gap is of no version": (
        "                told[row, VERSION] = next_version(INSTRUMENT_VERSION, notes)",
        "                told[row, VERSION] = notes[INSTRUMENT_VERSION]",
    ),
    "a trade keeps the fee of its turn": (
        "fee_high, fee_low = difference(fee_high, fee_low, closing_high, closing_low)", "pass"
    ),
    "results are not added up": ("note(notes, RESULT_HIGH, result_high, result_low)", "pass"),
    "the entry is forgotten": ("note(notes, ENTRY_HIGH, high, low)", "pass"),
    "exposure is signed": (
        "gross_high, gross_low = multiple(price_high, price_low, abs(book[POSITION]))",
        "gross_high, gross_low = multiple(price_high, price_low, book[POSITION])",
    ),
    "the strategy hears the fill first": (
        "proposed_pos = notes[HEAD] + 1\n    if decided", "proposed_pos = notes[HEAD] + 2\n    if decided"
    ),
    "the order is named after its approval": (
        "notes[WORKING_POS] = decided_pos", "notes[WORKING_POS] = approval"
    ),
    "the regime keeps from nothing": ("book[BARRED] = barred[bar]", "book[BARRED] = 0"),
    "the regime is that of the bar before": ("book[BARRED] = barred[bar]", "book[BARRED] = barred[bar - 1]"),
    "the regime keeps from exits": ("and not is_reduced(expected, wanted)", ""),
    "a turn goes through whole": ("not is_half_allowed(target, book)", "True"),
    "what is declined is not said": ("or notes[BARRED_BY] != 0):", "):"),
    "a decline is of no version": (
        "fact(layout, bar, decided_pos, root, time_ns, notes, told)\n"
        "        told[row, VERSION] = next_version(STRATEGY_VERSION, notes)",
        "fact(layout, bar, decided_pos, root, time_ns, notes, told)\n"
        "        told[row, VERSION] = notes[STRATEGY_VERSION]",
    ),
    "it decides before it hears the regime": ("if notes[IS_LATE] != 0:", "if notes[IS_LATE] != notes[IS_LATE]:"),
    "nothing is remembered to go back to": (
        "keep(kept_memory, kept_book, kept_seat, kept_notes, memory, book, seat, notes)\n"
        "            bar, begun = kept_bar, kept_begun", "bar, begun = kept_bar, kept_begun",
    ),
}  # fmt: skip


@cache
def exact_of(name: str) -> Finished:
    return finished_in_both(*situations()[name])[0]


def situations() -> dict[str, tuple[Settings, BarFile]]:
    return {**SITUATIONS, "turns": long_and_short(0), "turns late in the hour": long_and_short(41), **of_regimes()}


def of_regimes() -> dict[str, tuple[Settings, BarFile]]:
    return {"some regimes": in_some_regimes(0), "some regimes, late in the day": in_some_regimes(1200)}


def differs(name: str, follow: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(order_block, "_compiled", lambda _strategy: follow)
    try:
        _, block = finished_in_both(*situations()[name], only_block=True)
    except (AssertionError, ArithmeticError, LookupError):
        return True
    exact = exact_of(name)
    return (block.tape_hash, block.collected, block.states) != (exact.tape_hash, exact.collected, exact.states)


def test_interpreted_the_rules_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mutants below are changes of: without a change nothing differs, anywhere."""
    names = list(situations())
    expected = Counter(name for name in names if exact_of(name))
    assert len(expected) == len(names)
    for name in names:
        strategy = _strategy_of(name)
        assert not differs(name, interpreted(strategy), monkeypatch), name


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_stretch_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is changed in what a stretch tells shows in some situation as a difference from the exact path."""
    for name in situations():
        exact_of(name)
    changed = {strategy: interpreted(strategy, *MUTANTS[mutant]) for strategy in {_strategy_of("turns")}}
    assert any(differs(name, changed[_strategy_of(name)], monkeypatch) for name in situations())


def _strategy_of(name: str) -> Strategy:
    from tapeline_strategy.catalogue import find

    return find(situations()[name][0].strategy[0].kind)


# ---- regimes -----------------------------------------------------------------------------------------------------


def test_the_situations_of_regimes_are_what_they_are_called() -> None:
    """A promotion on the way; orders and declines before and after it; regimes that change while something is held;
    exits in regimes that it does not trade in; the first half of a turn; missing bars in each."""
    facts = facts_of(*in_some_regimes(0))
    events = [fact.event for fact in facts]
    promoted = next(index for index, event in enumerate(events) if isinstance(event, ModelPromoted))
    declined = [(index, event.reason) for index, event in enumerate(events) if isinstance(event, TradeDeclined)]
    assert {reason for index, reason in declined if index < promoted} == {Decline.REGIME_UNKNOWN}
    assert {reason for index, reason in declined if index > promoted} == {Decline.REGIME_BLOCKED}
    blocked = {fact.correlation for fact in facts if isinstance(fact.event, TradeDeclined)}
    proposed = [fact for fact in facts if isinstance(fact.event, OrderProposed)]
    exits = [fact for fact in proposed if fact.event.regime is Regime.BEAR]
    assert [fact for fact in exits if fact.correlation in blocked], "a turn of which the first half is allowed"
    assert [fact for fact in exits if fact.correlation not in blocked], "an exit that nothing is said of"
    held, seen = Decimal(0), set[Regime]()
    changes = 0
    for event in events:
        if isinstance(event, OrderFilled):
            held += event.quantity if event.side is Side.BUY else -event.quantity
            seen.clear()
        if isinstance(event, RegimeUpdated) and held:
            seen.add(event.regime)
            changes += len(seen) == 2
    assert changes > 3


@pytest.mark.parametrize("name", ["some regimes", "some regimes, late in the day"])
@pytest.mark.parametrize("chunk_bars", [3, 50, 8192])
def test_every_situation_of_regimes_gives_the_same_tape(name: str, chunk_bars: int) -> None:
    same(*of_regimes()[name], chunk_bars=chunk_bars)


def test_a_wrong_look_ahead_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stretch decided by must be what the regime core then says."""
    right = stretching.regimes_ahead

    def wrong(state: Any, block: Any, start: int, stop: int) -> Any:
        return (right(state, block, start, stop) + 1) % 3

    monkeypatch.setattr(stretching, "regimes_ahead", wrong)
    with pytest.raises(AssertionError, match="looked ahead"):
        finished_in_both(*in_some_regimes(0), only_block=True)
