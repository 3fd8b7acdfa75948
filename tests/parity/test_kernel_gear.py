"""The kernel gear equals the loop gear in every situation of the order path, and a wrong kernel is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest
from tests.gears import NAME, Ran, file_of, in_kernel, in_loop, settings_of

from tapeline_backtest import compiled, kernel
from tapeline_backtest.feed import Source
from tapeline_backtest.kernel import KernelFault, KernelRefused, plan_of
from tapeline_backtest.kernel_runner import run_kernel
from tapeline_common.events import Event, InstrumentListed, LimitsSet, VenueConfigured
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.settings import InstrumentTable, PresetTable, RiskInstrumentTable, RiskTable, Settings, VenueTable
from tapeline_common.values import Decline, Realm, Refusal, Regime
from tapeline_marketdata.files import BarFile
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import Strategy

FIRST_NS = 1_700_006_400_000_000_000  # 2023-11-15 00:00 UTC


def _scripted(_memory: Any, _open: float, _high: float, _low: float, _close: float, volume: float) -> float:
    last = volume % 10.0
    return 1.0 if last == 1.0 else (-1.0 if last == 2.0 else 0.0)


SCRIPTED = Strategy(
    "scripted", "Wants what the last digit of the volume says.", (), lambda _: 1, lambda _: [], _scripted
)
catalogue.add(SCRIPTED)

LONG, SHORT, FLAT = 1, 2, 0


def bars(*steps: tuple[str, int], volume: int = 1000, first_minute: int = 0) -> BarFile:
    """Bars of (price, what the script wants); a bar opens at the price before it, or at ``"open>close"``."""
    rows, before = [], steps[0][0].rpartition(">")[2]
    for index, (text, wanted) in enumerate(steps):
        opened, _, closed = text.rpartition(">")
        prices = (float(opened or before), float(closed))
        rows.append((first_minute + index, prices[0], max(prices), min(prices), prices[1], volume + wanted))
        before = closed
    return file_of(rows, FIRST_NS)


def hold(price: str, wanted: int, count: int = 1) -> tuple[tuple[str, int], ...]:
    return ((price, wanted),) * count


def costs(fee: str = "0", slippage: str = "0", participation: str | None = None) -> VenueTable:
    return VenueTable(Decimal(0), Decimal(fee), Decimal(slippage), participation and Decimal(participation))  # type: ignore[arg-type]


def script(file: BarFile, **changes: Any) -> tuple[Settings, BarFile]:
    return settings_of("scripted", {}, **changes), file


IN_AND_OUT = (
    *hold("100", FLAT),
    *hold("101.5", LONG, 3),
    *hold("103", FLAT, 3),
    *hold("99", SHORT, 2),
    *hold("98", LONG, 2),
)
FLIPS = tuple((str(100 + index % 3), (LONG, FLAT)[index // 2 % 2]) for index in range(120))
FALL = (*hold("100", LONG, 3), *hold("95", LONG), *hold("90", LONG, 2), *hold("90", FLAT, 2), *hold("80", LONG, 4))

SITUATIONS: dict[str, tuple[Settings, BarFile]] = {
    "fees, slippage and ticks": script(
        bars(*IN_AND_OUT), venue=costs("0.00075", "2.5"), tick_size=Decimal("0.03"), size=Decimal("1.37")
    ),
    "slippage without ticks": script(bars(*IN_AND_OUT), venue=costs("0.001", "0.7"), size=Decimal("0.5")),
    "a taker who is paid": script(bars(*IN_AND_OUT), venue=costs("-0.0002", "1")),
    "an off-grid open is moved to the tick against us": script(bars(*IN_AND_OUT), tick_size=Decimal("0.4")),
    "gaps between close and open": script(
        bars(("100", FLAT), ("100", LONG), ("107.25>106", LONG), ("99>101", FLAT), ("88.5>90", FLAT), ("90", FLAT))
    ),
    "lots cut what is wanted": script(bars(*IN_AND_OUT), lot_size=Decimal("0.4"), size=Decimal("1.5")),
    "less than a lot is declined": script(bars(*IN_AND_OUT), lot_size=Decimal(2)),
    "participation carries over": script(
        bars(*hold("100", LONG, 9), *hold("104", FLAT, 9), *hold("99", SHORT, 14)),
        venue=costs("0.001", participation="0.0021"), size=Decimal(10), lot_size=Decimal("0.5"),
    ),
    "participation without lots": script(
        bars(*hold("100", LONG, 5), *hold("104", FLAT, 9)), size=Decimal(2),
        venue=costs("0.001", participation="0.0007"),
    ),
    "two orders at once, and a third has to wait": script(
        bars(*hold("100", LONG, 3), *hold("104", SHORT, 3), *hold("99", LONG, 3), *hold("97", FLAT, 40)),
        venue=costs(participation="0.001"), size=Decimal(9), lot_size=Decimal(1),
    ),
    "no volume, no fill": script(
        bars(*hold("100", LONG, 9), volume=0), venue=costs(participation="0.5"), lot_size=Decimal(1)
    ),
    "an order too large is tried again": script(
        bars(*hold("100", LONG, 31)), risk=RiskTable(max_order_notional=Decimal(99))
    ),
    "an order exactly large enough": script(bars(*IN_AND_OUT), risk=RiskTable(max_order_notional=Decimal("101.5"))),
    "a turn is held against the position limit": script(
        bars(*IN_AND_OUT), risk=RiskTable(instrument=(RiskInstrumentTable(NAME, None, Decimal("0.5")),))
    ),
    "a turn is held against the notional limit, an exit is not": script(
        bars(*hold("100", LONG, 3), *hold("100", SHORT, 14), *hold("100", FLAT, 3)),
        risk=RiskTable(max_order_notional=Decimal(100)),
    ),
    "exposure": script(bars(*IN_AND_OUT), risk=RiskTable(max_gross_exposure=Decimal("101.4"))),
    "no open positions": script(bars(*IN_AND_OUT), risk=RiskTable(max_open_positions=0)),
    "too small an order": script(bars(*IN_AND_OUT), min_notional=Decimal("101.6")),
    "an order of exactly the least notional": script(bars(*IN_AND_OUT), min_notional=Decimal("101.5")),
    "a cool-down": script(bars(*FLIPS), risk=RiskTable(cool_down_ms=240_000)),
    "exactly cooled down": script(bars(*FLIPS), risk=RiskTable(cool_down_ms=60_000)),
    "a loss of exactly the day's limit": script(bars(*FALL), risk=RiskTable(max_daily_loss=Decimal(10))),
    "a loss on a fill": script(
        bars(("100", LONG), ("100", LONG), ("100>112", LONG), ("112", FLAT), ("101>112", LONG), *hold("112", LONG, 3)),
        risk=RiskTable(max_daily_loss=Decimal(5)), venue=costs("0.1"),
    ),
    "yesterday's loss is yesterday's": script(
        bars(*hold("100", LONG, 4), ("91", LONG), *hold("85", LONG, 2), *hold("85", FLAT, 3), first_minute=1435),
        risk=RiskTable(max_daily_loss=Decimal(10)),
    ),
    "the day begins with the bar that closes at midnight": script(
        bars(*hold("100", LONG, 3), ("95", LONG), ("90", LONG), *hold("84", FLAT, 4), first_minute=1436),
        risk=RiskTable(max_daily_loss=Decimal(10)),
    ),
    "a drawdown": script(
        bars(*hold("100", LONG, 3), *hold("130", LONG, 2), *hold("120.01", LONG, 1), *hold("120", LONG, 2), *FLIPS),
        risk=RiskTable(max_drawdown=Decimal(10)),
    ),
    "a halt cancels what is open": script(
        bars(*hold("100", LONG, 2), ("50", LONG), *hold("50", SHORT, 5)), size=Decimal(9), lot_size=Decimal(1),
        venue=costs(participation="0.003"), risk=RiskTable(max_drawdown=Decimal(60)),
    ),
    "an order on the last bar": script(bars(*hold("100", FLAT, 3), *hold("100", LONG))),
    "no cash": script(bars(*IN_AND_OUT), cash=Decimal(0), venue=costs("0.001")),
    "amounts beyond 64 bits": script(
        bars(*IN_AND_OUT), size=Decimal("1234567890.12345"), venue=costs("0.00075", "2.5"), cash=Decimal("1e15")
    ),
}  # fmt: skip


@cache
def loop_of(name: str) -> Ran:
    return in_loop(*SITUATIONS[name])


Kernel = Callable[..., int]


def interpreted(strategy: Strategy, old: str = "", new: str = "") -> Kernel:
    """The kernel without numba, with one piece of its text replaced."""
    text = compiled._module_text(
        strategy, ("tapeline_backtest.scan_loop", "tapeline_backtest.wide", "tapeline_backtest.kernel_loop")
    )
    assert not old or text.count(old) == 1, f"{old!r} is in the text {text.count(old)} times"
    namespace: dict[str, Any] = {"__name__": "interpreted"}
    exec(compile(text.replace(old, new), "interpreted", "exec"), namespace)  # noqa: S102 (the project's own text)
    namespace["step"] = strategy.step
    found: Kernel = namespace["run"]
    return found


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_situation_is_equal_to_the_last_digit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills, trades and report of the kernel's rules, run by the interpreter, are those of the loop gear."""
    monkeypatch.setattr(kernel, "prepare", interpreted)
    assert in_kernel(*SITUATIONS[name]) == loop_of(name)


def test_compiled_the_rules_are_the_same() -> None:
    """All situations again in machine code: wrapping and types add nothing."""
    for name, (table, file) in SITUATIONS.items():
        assert in_kernel(table, file) == loop_of(name), name


def test_the_situations_are_what_they_are_called() -> None:
    """Each reason to refuse or decline that a market order can meet is met, and so is every kind of fill."""
    reasons = {reason for name in SITUATIONS for key in ("refused", "declined") for reason in loop_of(name).report[key]}
    assert reasons == {
        Refusal.TRADING_HALTED, Refusal.BELOW_MIN_NOTIONAL, Refusal.COOL_DOWN, Refusal.MAX_ORDER_NOTIONAL,
        Refusal.MAX_POSITION, Refusal.MAX_GROSS_EXPOSURE, Refusal.MAX_OPEN_POSITIONS, Decline.ORDER_REFUSED,
        Decline.ORDER_IN_FLIGHT, Decline.QUANTITY_BELOW_LOT, Decline.TRADING_HALTED,
    }  # fmt: skip
    carried = loop_of("participation carries over").report
    assert carried["fills"] > carried["orders"] == 3
    assert loop_of("a drawdown").report["orders"] == 1
    assert loop_of("amounts beyond 64 bits").report["slippage"] != "0"


MUTANTS = {
    "no fee": ("sign * rules[ONE] + rules[RATE]", "sign * rules[ONE]"),
    "the fee is earned": ("sign * rules[ONE] + rules[RATE]", "sign * rules[ONE] - rules[RATE]"),
    "a buyer's tick rounds down": ("if sign > 0 and not at_least(grid_high", "if sign > 9 and not at_least(grid_high"),
    "a seller's slippage helps him": ("else rules[SELL_FACTOR]", "else rules[BUY_FACTOR]"),
    "fills at the close": (
        "fill_price(open_high, open_low, sign", "fill_price(prices[CLOSES_HIGH][bar], prices[CLOSES_LOW][bar], sign"
    ),
    "the rest of an order is lost": ("book[place] = open_quantity - signed", "book[place] = 0"),
    "each order has the whole allowance": ("left -= quantity", "left -= 0"),
    "lots are ignored": ("quantity -= quantity % rules[LOT]", "quantity -= 0"),
    "a refusal is tried again a bar late": ("< RETRY_BARS", "<= RETRY_BARS"),
    "a third order at once": (">= MAX_WORKING", "> MAX_WORKING"),
    "the cool-down is a bar longer": ("since_ns < rules[COOL_DOWN_NS]", "since_ns <= rules[COOL_DOWN_NS]"),
    "an exit is held against limits": ("if on_side <= -sign * position", "if on_side < -sign * position"),
    "the least notional is exclusive": (
        "if not at_least(notional_high, notional_low, rules[LEAST",
        "if at_least(rules[LEAST_NOTIONAL_HIGH], rules[LEAST_NOTIONAL_LOW], notional_high, notional_low"
        ") and rules[LEAST_NOTIONAL_LOW] > 0 or not at_least(notional_high, notional_low, rules[LEAST",
    ),
    "exactly the loss limit is allowed": (
        "return at_least(loss_high, loss_low, limit_high, limit_low) and",
        "return at_least(loss_high, loss_low - 1, limit_high, limit_low) and",
    ),
    "the day begins a bar late": ("if close_ns >= book[DAY_END_NS]", "if close_ns > book[DAY_END_NS]"),
    "the day begins after its first move": ("equity_at(max(bar - 1, 0)", "equity_at(bar"),
    "fills are not watched": (
        "rules[IS_WATCHED] != 0 and book[IS_HALTED] == 0 and is_at", "rules[IS_WATCHED] > 1 and is_at"
    ),
    "a halt leaves orders open": ("book[WORKING] = book[FIRST] = book[SECOND] = 0", "pass"),
    "a refusal leaves the target settled": (
        "book[REFUSED_AT] = bar\n        unsettle(book, seat)", "book[REFUSED_AT] = bar"
    ),
    "a carry is lost between limbs": ("(high + other_high + 1, low - BASE)", "(high + other_high, low - BASE)"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_kernel_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is changed in the kernel's rules shows in some situation as a difference from the loop gear."""
    monkeypatch.setattr(kernel, "prepare", lambda strategy: interpreted(strategy, *MUTANTS[mutant]))
    assert any(differs(name) for name in SITUATIONS)


def differs(name: str) -> bool:
    try:
        return in_kernel(*SITUATIONS[name]) != loop_of(name)
    except (AssertionError, KernelRefused):
        return True  # its own books contradict the ledger's


# ---- what it refuses ---------------------------------------------------------------------------------------------


def _half(_memory: Any, _open: float, _high: float, _low: float, _close: float, _volume: float) -> float:
    return 0.5


HALF = Strategy("half", "Wants half of its size.", (), lambda _: 1, lambda _: [], _half)
catalogue.add(HALF)

PLAIN = settings_of("scripted", {})
SOME = bars(*IN_AND_OUT)


def with_strategy(**changes: Any) -> Settings:
    return msgspec.structs.replace(PLAIN, strategy=(msgspec.structs.replace(PLAIN.strategy[0], **changes),))


REFUSED = {
    "two instruments": (
        msgspec.structs.replace(PLAIN, instrument=(*PLAIN.instrument, InstrumentTable("ETH/USD"))),
        KernelFault.SEVERAL_INSTRUMENTS,
    ),
    "two strategies": (
        msgspec.structs.replace(
            PLAIN, strategy=(*PLAIN.strategy, msgspec.structs.replace(PLAIN.strategy[0], name="second"))
        ),
        KernelFault.SEVERAL_STRATEGIES,
    ),
    "regimes": (with_strategy(regimes=(Regime.BULL,)), KernelFault.REGIMES),
    "presets": (with_strategy(preset=(PresetTable("calm", {}),)), KernelFault.PRESETS),
    "a strategy that decides on other bars": (
        msgspec.structs.replace(PLAIN, feed=msgspec.structs.replace(PLAIN.feed, timeframe="5m")),
        KernelFault.OTHER_BARS,
    ),
    "costs it does not know": (
        msgspec.structs.replace(PLAIN, venue=msgspec.structs.replace(PLAIN.venue, latency_ms=5)),
        KernelFault.UNKNOWN_SETTING,
    ),
    "half a size": (with_strategy(kind="half"), KernelFault.TARGET_NOT_WHOLE),
    "too fine a size": (with_strategy(size=Decimal("0.1234567890123456789")), KernelFault.TOO_MANY_DIGITS),
    "too fine a slippage": (
        msgspec.structs.replace(PLAIN, venue=costs("0", "0.12345678901234567")), KernelFault.TOO_MANY_DIGITS
    ),
    "too much money": (
        msgspec.structs.replace(PLAIN, run=msgspec.structs.replace(PLAIN.run, cash=Decimal("1e40"))),
        KernelFault.MONEY_TOO_LARGE,
    ),
    "one order of too much money": (
        msgspec.structs.replace(with_strategy(size=Decimal("12345678901234.567")), venue=costs("0.0001", "0.123456")),
        KernelFault.MONEY_TOO_LARGE,
    ),
    "a turn whose fee the ledger rounds": (
        msgspec.structs.replace(
            with_strategy(size=Decimal("1.2345678912345678")), venue=costs("0.000123456789", "0.1")
        ),
        KernelFault.MONEY_TOO_LARGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_with_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never an approximation: the reason is of a closed vocabulary and the message names the gear that can."""
    monkeypatch.setattr(kernel, "prepare", interpreted)
    table, fault = REFUSED[name]
    with pytest.raises(KernelRefused, match="use --gear loop") as refused:
        kernel_of(table)
    assert refused.value.fault is fault


def kernel_of(table: Settings) -> None:
    opening = [each.event for each in opening_facts(table, realm=Realm.REPLAY, code_version="test")]
    run_kernel(opening, [Source(instrument_id(table.instrument[0]), "made.parquet", SOME, "digest")])


def test_every_fault_is_shown_to_happen() -> None:
    """The table leaves out only what the next test shows."""
    assert {fault for _, fault in REFUSED.values()} == set(KernelFault) - {KernelFault.NOT_COMPILED}


def test_a_strategy_that_cannot_be_compiled_is_refused() -> None:
    """A class of one's own runs in the loop gear only."""
    with pytest.raises(KernelRefused, match=r"'unnumbered' cannot be compiled: .*: use --gear loop") as refused:
        kernel.prepare(replace(SCRIPTED, name="unnumbered", is_numeric=False))
    assert refused.value.fault is KernelFault.NOT_COMPILED


@pytest.mark.parametrize(
    ("kind", "name"), [(VenueConfigured, "participation"), (LimitsSet, "max_drawdown"), (InstrumentListed, "lot_size")]
)
def test_a_setting_it_does_not_know_is_refused(kind: type[Event], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue or a limit that learns something new is not run as if it had not: only the default passes."""
    limited = RiskTable(max_drawdown=Decimal(5))
    set_up = settings_of("scripted", {}, venue=costs(participation="0.1"), risk=limited, lot_size=Decimal(1))
    known = kernel.KNOWN_SETTINGS
    monkeypatch.setattr(kernel, "KNOWN_SETTINGS", {**known, kind: known[kind] - {name}})
    facts = [
        [each.event for each in opening_facts(table, realm=Realm.REPLAY, code_version="test")]
        for table in (PLAIN, set_up)
    ]
    assert plan_of(facts[0]).size == 1
    with pytest.raises(KernelRefused, match=rf"{kind.__name__}\.{name} is .*, unknown to the kernel") as refused:
        plan_of(facts[1])
    assert refused.value.fault is KernelFault.UNKNOWN_SETTING


@pytest.mark.parametrize("name", ["detail", "funding"])
def test_what_comes_with_the_bars_is_refused(name: str) -> None:
    """Finer bars and funding rates change what a run comes to: they are not passed over in silence."""
    opening = [each.event for each in opening_facts(PLAIN, realm=Realm.REPLAY, code_version="test")]
    plain = Source(instrument_id(PLAIN.instrument[0]), "made.parquet", SOME, "digest")
    assert len(kernel.market_of(plain, plan_of(opening))) == len(SOME)
    with pytest.raises(KernelRefused, match=rf"made.parquet: its {name} is unknown to the kernel") as refused:
        kernel.market_of(replace(plain, **{name: object()}), plan_of(opening))
    assert refused.value.fault is KernelFault.UNKNOWN_SETTING


def test_no_setting_is_listed_that_is_none() -> None:
    """A misspelt name in the kernel's list would let a setting through that it does not hold."""
    for kind, known in kernel.KNOWN_SETTINGS.items():
        assert known <= set(kind.__struct_fields__)
