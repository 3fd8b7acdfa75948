"""The kernel gear: a whole backtest as one compiled loop over columns, equal to the loop gear to the last digit.

Where the loop gear computes in ``Decimal``, this computes in whole numbers: prices in units of their last decimal (or
that of slipped prices, or of ticks), quantities in units that hold size, lot and participation, money in the product
of both and the fee. The units are found from the input, and every product is proved to fit before the run; what does
not fit, and what this gear does not know, is refused with a reason. Nothing is approximated.

The rules themselves are in ``kernel_loop``. This module turns configuration facts into its numbers and its numbers back
into exact amounts; it reads no files and prints nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_backtest import kernel_loop as loop
from tapeline_backtest.compiled import Columns, CompilationRefused, Floats, memory_of, parameter_kinds, specialised
from tapeline_backtest.exact import NotExact, Prices, Whole, allowances, decimals_of, price_columns
from tapeline_backtest.feed import Source
from tapeline_backtest.machine_code import FLOATS, INT_TABLE, INTS
from tapeline_backtest.wide import BASE, HIGHEST
from tapeline_common.events import (
    AccountFunded,
    BanditConfigured,
    CodeDeployed,
    Event,
    InstrumentLimits,
    InstrumentListed,
    LimitsSet,
    Parameters,
    PresetRequested,
    RegimeConfigured,
    RunStarted,
    StrategyConfigured,
    VenueConfigured,
)
from tapeline_common.money import ZERO, plain
from tapeline_common.values import Decline, Refusal, Regime, StrategyId
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import Strategy, validate

DAY_NS = 86_400_000_000_000
MOST = 9 * 10**18
"""What a product of two int64 may reach here."""

Ints = npt.NDArray[np.int64]


class KernelFault(StrEnum):
    """Why the kernel gear does not run something that the loop gear does."""

    SEVERAL_INSTRUMENTS = "SEVERAL_INSTRUMENTS"
    SEVERAL_STRATEGIES = "SEVERAL_STRATEGIES"
    REGIMES = "REGIMES"
    PRESETS = "PRESETS"
    UNKNOWN_SETTING = "UNKNOWN_SETTING"
    NOT_COMPILED = "NOT_COMPILED"
    OTHER_BARS = "OTHER_BARS"
    TARGET_NOT_WHOLE = "TARGET_NOT_WHOLE"
    TOO_MANY_DIGITS = "TOO_MANY_DIGITS"
    MONEY_TOO_LARGE = "MONEY_TOO_LARGE"


class KernelRefused(Exception):
    """Something this gear cannot do exactly. The message says what, and that the loop gear can."""

    def __init__(self, fault: KernelFault, why: str) -> None:
        super().__init__(f"{why}: use --gear loop")
        self.fault = fault


# ---- what is run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Market:
    """One instrument's bars: floats for the strategy, whole numbers for money, all of shape (n,).

    Attributes:
        prices: opens and closes, as two limbs each; of a part, the largest may be one of the whole.
        allowed: most that all fills of a bar may take; ``None`` where that is not limited.
        day_ends: index of the last bar of each UTC day by closing time, a bar that closes at midnight ending its day.
    """

    columns: Columns
    prices: Prices
    allowed: Whole | None
    open_ns: Ints
    close_ns: Ints
    day_ends: Ints

    def __len__(self) -> int:
        return len(self.close_ns)

    def part(self, start: int, stop: int) -> Market:
        """The bars from ``start`` to ``stop``, sharing their memory."""
        columns: Any = tuple(column[start:stop] for column in self.columns)
        allowed = None if self.allowed is None else replace(self.allowed, units=self.allowed.units[start:stop])
        close_ns = self.close_ns[start:stop]
        return replace(
            self,
            columns=columns,
            prices=self.prices.part(start, stop),
            allowed=allowed,
            open_ns=self.open_ns[start:stop],
            close_ns=close_ns,
            day_ends=_day_ends(close_ns),
        )


KNOWN_SOURCE = ("instrument", "path", "file", "digest")
"""What may come with an instrument's bars; finer bars, rates and whatever is added later are for the loop gear."""


def market_of(source: Source, plan: Plan) -> Market:
    """A file's bars for the kernel.

    Raises:
        KernelRefused: they are not the bars the strategy decides on, do not follow each other, or need too many digits.
    """
    for field in dataclasses.fields(source):
        if field.name not in KNOWN_SOURCE and getattr(source, field.name) is not None:
            raise KernelRefused(
                KernelFault.UNKNOWN_SETTING, f"{source.path}: its {field.name} is unknown to the kernel"
            )
    file = source.file
    columns, share, close_ns = file.columns, plan.venue.participation, file.close_ns
    shelf = columns.shelf
    if file.facts.timeframe != plan.timeframe:
        why = f"{file.facts.path}: bars of {file.facts.timeframe} for a strategy that decides on {plan.timeframe}"
        raise KernelRefused(KernelFault.OTHER_BARS, why)
    if any(np.any(columns.open_ns[1:][part] < close_ns[:-1][part]) for part in shelf.parts(len(close_ns))):
        raise KernelRefused(KernelFault.OTHER_BARS, f"{file.facts.path}: bars open before the one before has closed")
    try:
        prices = price_columns(columns)
        allowed = None if share is None else allowances(columns, share, plan.listing.lot_size)
    except NotExact as trouble:
        raise KernelRefused(KernelFault.TOO_MANY_DIGITS, f"{file.facts.path}: {trouble}") from trouble
    return Market(
        columns=(columns.open, columns.high, columns.low, columns.close, columns.volume),
        prices=prices,
        allowed=allowed,
        open_ns=columns.open_ns,
        close_ns=close_ns,
        day_ends=_day_ends(close_ns),
    )


def scaled(column: Whole, decimals: int) -> Ints:
    """The same numbers in a finer unit. Raises ``KernelRefused``."""
    factor = 10 ** (decimals - column.decimals)
    if column.largest * factor >= MOST:
        raise KernelRefused(KernelFault.TOO_MANY_DIGITS, f"volumes need more than 18 digits ({decimals} decimals)")
    return column.changed(lambda some: some * np.int64(factor), decimals).units


def _day_ends(close_ns: Ints) -> Ints:
    """By search, since times ascend: a column of days would be as long as the bars."""
    first, last = (0, -1) if not len(close_ns) else ((int(time_ns) - 1) // DAY_NS for time_ns in close_ns[[0, -1]])
    midnights = np.arange(first + 1, last + 2, dtype=np.int64) * DAY_NS
    return np.append(np.unique(np.searchsorted(close_ns, midnights, side="right") - 1), -1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """One strategy on one instrument under a configuration's facts; ``regimes``: those it trades in, if not all."""

    name: StrategyId
    strategy: Strategy
    parameters: Parameters
    timeframe: str
    size: Decimal
    cash: Decimal
    listing: InstrumentListed
    venue: VenueConfigured
    limits: LimitsSet
    regimes: tuple[Regime, ...] = ()


KNOWN_SETTINGS: dict[type[Event], frozenset[str]] = {
    InstrumentListed: frozenset(
        ("instrument", "name", "venue", "base", "quote", "tick_size", "lot_size", "min_notional", "calendar")
    ),
    VenueConfigured: frozenset(("venue", "maker_fee", "taker_fee", "slippage_bps", "participation")),
    LimitsSet: frozenset(
        (
            "max_order_notional",
            "max_position",
            "max_gross_exposure",
            "max_open_positions",
            "max_daily_loss",
            "max_price_age_ms",
            "max_input_age_ms",
            "price_collar_bps",
            "approval_valid_ms",
            "instruments",
            "max_drawdown",
            "cool_down_ms",
        )
    ),
}
"""Every setting whose meaning ``kernel_loop`` holds; any other must have its default. Ages and the collar cannot matter
here: a market order is decided, judged and sent at the bar whose close is the last price."""


KNOWN_FACTS = (RunStarted, CodeDeployed, AccountFunded, RegimeConfigured, BanditConfigured, StrategyConfigured)
"""Facts of a configuration that hold nothing the kernel would have to know beyond what ``plan_of`` looks at."""


def plan_of(events: Sequence[Event], *, has_regimes: bool = False) -> Plan:
    """The plan that a configuration's facts describe. Raises ``KernelRefused``.

    Args:
        has_regimes: whether whoever runs the plan knows the regime at each bar. This gear itself has no models.
    """
    of = {kind: [event for event in events if type(event) is kind] for kind in (*KNOWN_SETTINGS, StrategyConfigured)}
    configured: list[Any] = of[StrategyConfigured]
    if len(configured) != 1:
        raise KernelRefused(KernelFault.SEVERAL_STRATEGIES, f"the kernel gear runs one strategy, not {len(configured)}")
    strategy: StrategyConfigured = configured[0]
    if len(of[InstrumentListed]) != 1:
        count = len(of[InstrumentListed])
        raise KernelRefused(KernelFault.SEVERAL_INSTRUMENTS, f"the kernel gear runs one instrument, not {count}")
    if strategy.regimes and not has_regimes:
        raise KernelRefused(KernelFault.REGIMES, f"strategy {strategy.strategy!r} looks at regimes")
    if strategy.uses_presets or any(isinstance(event, PresetRequested) for event in events):
        raise KernelRefused(KernelFault.PRESETS, f"strategy {strategy.strategy!r} has presets")
    for event in events:
        if type(event) in KNOWN_SETTINGS:
            _check_known(event, KNOWN_SETTINGS[type(event)])
        elif type(event) not in KNOWN_FACTS:
            raise KernelRefused(KernelFault.UNKNOWN_SETTING, f"{type(event).__name__} is unknown to the kernel")
    kind_of = find(strategy.kind)
    listing: Any = of[InstrumentListed][0]
    venue: Any = of[VenueConfigured][0]
    limits: Any = of[LimitsSet][0]
    funded = sum((event.amount for event in events if isinstance(event, AccountFunded)), ZERO)
    parameters = validate(kind_of, strategy.parameters)
    return Plan(
        strategy.strategy,
        kind_of,
        parameters,
        strategy.timeframe,
        strategy.size,
        funded,
        listing,
        venue,
        limits,
        strategy.regimes,
    )


def _check_known(event: Event, known: frozenset[str]) -> None:
    for field in msgspec.structs.fields(event):
        if field.name in known:
            continue
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        value = getattr(event, field.name)
        if value != default:
            raise KernelRefused(
                KernelFault.UNKNOWN_SETTING, f"{type(event).__name__}.{field.name} is {value!r}, unknown to the kernel"
            )


# ---- numbers in and out ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Units:
    """Decimals of the whole numbers: of fills' prices, of quantities, and of the fee beyond both."""

    price: int
    quantity: int
    fee: int

    @property
    def money(self) -> int:
        return self.price + self.quantity + self.fee


def rules_of(plan: Plan, market: Market) -> tuple[Ints, Units]:
    """The numbers of ``kernel_loop.rules``. Raises ``KernelRefused`` where they do not fit."""
    rules = [0] * loop.RULES
    price = _price_rules(rules, plan, market)
    quantity = _quantity_rules(rules, plan, market)
    fee = max(decimals_of(plan.venue.taker_fee), decimals_of(plan.cash) - price - quantity)
    units = Units(price, quantity, fee)
    rules[loop.ONE] = 10**fee
    rules[loop.RATE] = _whole(plan.venue.taker_fee, fee)
    _limit_rules(rules, plan, units)
    _prove(rules, market)
    return np.array(rules, dtype=np.int64), units


def _price_rules(rules: list[int], plan: Plan, market: Market) -> int:
    """Slippage and ticks; returns the decimals of a fill's price."""
    bps, tick = plan.venue.slippage_bps, plan.listing.tick_size
    extra = 4 + decimals_of(bps) if bps else 0
    slip = _whole(bps, extra - 4) if bps else 0
    moved = market.prices.decimals + extra
    common = moved if tick is None else max(moved, decimals_of(tick))
    price = moved if tick is None else max(market.prices.decimals, decimals_of(tick))
    rules[loop.BUY_FACTOR] = (10**extra + slip) * 10 ** (common - moved)
    rules[loop.SELL_FACTOR] = (10**extra - slip) * 10 ** (common - moved)
    _put_wide(rules, loop.TICK_STEPS_HIGH, 0 if tick is None else _whole(tick, common))
    rules[loop.TICK] = 0 if tick is None else _whole(tick, price)
    rules[loop.PRICE_UP] = 10 ** (price - market.prices.decimals)
    return price


def _quantity_rules(rules: list[int], plan: Plan, market: Market) -> int:
    """Size and lots; returns the decimals of a quantity."""
    lot, allowed = plan.listing.lot_size, market.allowed
    quantity = max(
        decimals_of(plan.size),
        0 if lot is None else decimals_of(lot),
        0 if allowed is None else allowed.decimals,
    )
    rules[loop.IS_CAPPED] = int(allowed is not None)
    rules[loop.SIZE] = _whole(plan.size, quantity)
    rules[loop.LOT] = 0 if lot is None else _whole(lot, quantity)
    return quantity


def _limit_rules(rules: list[int], plan: Plan, units: Units) -> None:
    """Limits in whole units: rounded to where the comparison has the same answer."""
    limits = plan.limits
    own = limits.instruments.get(plan.listing.instrument, InstrumentLimits())
    notional = units.price + units.quantity
    most_notional = _tightest(limits.max_order_notional, own.max_order_notional)
    _put_wide(rules, loop.LEAST_NOTIONAL_HIGH, _least(plan.listing.min_notional, notional, 0))
    _put_wide(rules, loop.MOST_NOTIONAL_HIGH, _most(most_notional, notional))
    _put_wide(rules, loop.MOST_EXPOSURE_HIGH, _most(limits.max_gross_exposure, notional))
    _put_wide(rules, loop.DAILY_LOSS_HIGH, _least(limits.max_daily_loss, units.money, HIGHEST * BASE))
    _put_wide(rules, loop.DRAWDOWN_HIGH, _least(limits.max_drawdown, units.money, HIGHEST * BASE))
    rules[loop.MOST_POSITION] = min(BASE - 1, _most(_tightest(limits.max_position, own.max_position), units.quantity))
    rules[loop.MOST_OPEN] = -1 if limits.max_open_positions is None else limits.max_open_positions
    rules[loop.IS_WATCHED] = int(limits.max_daily_loss is not None or limits.max_drawdown is not None)
    rules[loop.COOL_DOWN_NS] = min(BASE - 1, (limits.cool_down_ms or 0) * 1_000_000)


def _tightest(*limits: Decimal | None) -> Decimal | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _most(limit: Decimal | None, decimals: int) -> int:
    """Largest whole number not above the limit."""
    if limit is None:
        return HIGHEST * BASE
    return min(HIGHEST * BASE, int(limit.scaleb(decimals).to_integral_value(ROUND_FLOOR)))


def _least(limit: Decimal | None, decimals: int, unlimited: int) -> int:
    """Smallest whole number not below the limit."""
    if limit is None:
        return unlimited
    return min(HIGHEST * BASE, int(limit.scaleb(decimals).to_integral_value(ROUND_CEILING)))


def _put_wide(numbers: Any, place: int, value: int) -> None:
    numbers[place], numbers[place + 1] = divmod(value, BASE)


def _whole(value: Decimal, decimals: int) -> int:
    scaled = value.scaleb(decimals)
    whole = int(scaled)
    assert whole == scaled, f"{value} has more than {decimals} decimals"
    return whole


def _prove(rules: list[int], market: Market) -> None:
    """Every product of the loop fits: prices, quantities, volumes, and one amount in its two limbs."""
    price = market.prices.largest
    moved = price * (rules[loop.BUY_FACTOR] + abs(rules[loop.SELL_FACTOR]))
    steps = rules[loop.TICK_STEPS_HIGH] * BASE + rules[loop.TICK_STEPS_LOW]
    ticks = moved // steps + 1 if steps else 0
    fill = max(ticks * rules[loop.TICK] if steps else moved, price * rules[loop.PRICE_UP])
    quantity = 4 * rules[loop.SIZE] + rules[loop.LOT]
    factor = rules[loop.ONE] + abs(rules[loop.RATE])
    if max(moved, fill) >= HIGHEST * BASE or ticks >= 2**50 or rules[loop.SELL_FACTOR] <= 0:
        raise KernelRefused(
            KernelFault.TOO_MANY_DIGITS, "prices with slippage or ticks need more than 36 digits, or fall to zero"
        )
    if quantity >= BASE or max(map(abs, rules)) >= BASE:
        raise KernelRefused(KernelFault.TOO_MANY_DIGITS, "size, lot, slippage or fee need more than 18 digits")
    if quantity * fill * factor >= HIGHEST * BASE:
        raise KernelRefused(KernelFault.MONEY_TOO_LARGE, "one order's money needs more than 36 digits")


# ---- running -----------------------------------------------------------------------------------------------------

_REFUSALS = {
    loop.REFUSED_HALTED: Refusal.TRADING_HALTED,
    loop.REFUSED_LEAST_NOTIONAL: Refusal.BELOW_MIN_NOTIONAL,
    loop.REFUSED_COOL_DOWN: Refusal.COOL_DOWN,
    loop.REFUSED_NOTIONAL: Refusal.MAX_ORDER_NOTIONAL,
    loop.REFUSED_POSITION: Refusal.MAX_POSITION,
    loop.REFUSED_EXPOSURE: Refusal.MAX_GROSS_EXPOSURE,
    loop.REFUSED_OPEN: Refusal.MAX_OPEN_POSITIONS,
}
_DECLINES = {
    loop.DECLINED_HALTED: Decline.TRADING_HALTED,
    loop.DECLINED_REFUSED: Decline.ORDER_REFUSED,
    loop.DECLINED_IN_FLIGHT: Decline.ORDER_IN_FLIGHT,
    loop.DECLINED_BELOW_LOT: Decline.QUANTITY_BELOW_LOT,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. Money and quantities are exact, in account currency and base units.

    Attributes:
        profit, loss: sums of the results after fees of the trades that won and lost.
        invested_bars: bars after which something was held.
        max_drawdown: largest fall of marked equity from its high, as a fraction of the high, in floats.
        daily: equity at the end of each UTC day, in floats, shape (days,).
        order_rows: (bar, signed quantity), int64; empty unless recorded. An order is sent at the close of its bar.
        fill_rows: as ``kernel_loop`` names them, int64, in ``units``; empty unless recorded.
    """

    orders: int
    fills: int
    trades: int
    wins: int
    losses: int
    refused: Mapping[str, int]
    declined: Mapping[str, int]
    fees: Decimal
    slippage: Decimal
    profit: Decimal
    loss: Decimal
    final_cash: Decimal
    final_equity: Decimal
    position: Decimal
    invested_bars: int
    max_drawdown: float
    daily: npt.NDArray[np.float64]
    units: Units
    order_rows: Ints
    fill_rows: Ints


@cache
def _compiled(strategy: Strategy) -> Any:
    return specialised(
        strategy,
        ("tapeline_backtest.scan_loop", "tapeline_backtest.wide", "tapeline_backtest.kernel_loop"),
        "run",
        "int64",
        *(FLOATS, parameter_kinds(strategy), (FLOATS,) * 5, (INTS,) * 6),
        *(INTS, INTS, INTS, FLOATS, INT_TABLE, INT_TABLE, FLOATS),
    )


def prepare(strategy: Strategy) -> Any:
    """The strategy's kernel, compiled or taken from disk. Raises ``KernelRefused``."""
    try:
        return _compiled(strategy)
    except CompilationRefused as trouble:
        raise KernelRefused(KernelFault.NOT_COMPILED, str(trouble).removesuffix("; use the loop gear")) from trouble


def run(plan: Plan, market: Market, *, record: bool, memory: Floats | None = None) -> Outcome:
    """Run a plan over all bars of a market.

    Args:
        record: keep orders and fills, not only their sums.
        memory: the strategy's, after bars before these, as ``compiled.memory_of`` makes a fresh one; it is changed.

    Raises:
        KernelRefused: something this gear does not know, or cannot do exactly.
    """
    kernel = prepare(plan.strategy)
    rules, units = rules_of(plan, market)
    book, seat = fresh(plan, market, units)
    rows = 2 * len(market) if record else 0
    orders, fills = np.empty((rows, 2), dtype=np.int64), np.empty((rows, loop.FILL), dtype=np.int64)
    daily = np.empty(len(market.day_ends), dtype=np.float64)
    status = kernel(
        memory_of(plan.strategy, plan.parameters) if memory is None else memory,
        tuple(plan.parameters.values()),
        market.columns,
        prices_of(market, units),
        market.day_ends,
        rules,
        book,
        seat,
        orders,
        fills,
        daily,
    )
    check_end(status, plan, seat)
    return outcome_of(market, units, book, seat, orders, fills, daily[:-1])


def prices_of(market: Market, units: Units) -> tuple[Ints, ...]:
    """The arrays that ``kernel_loop`` calls prices. Raises ``KernelRefused`` where they do not fit."""
    allowed = market.close_ns if market.allowed is None else scaled(market.allowed, units.quantity)
    return (*market.prices.opens, *market.prices.closes, allowed, market.close_ns)


def check_end(status: int, plan: Plan, seat: npt.NDArray[np.float64]) -> None:
    """Raises ``KernelRefused`` if a run had to be given up."""
    if status == loop.TARGET_NOT_WHOLE:
        name, target = plan.strategy.name, float(seat[loop.TARGET])
        raise KernelRefused(KernelFault.TARGET_NOT_WHOLE, f"strategy {name!r} wants {target}, not -1, 0 or 1")
    if status == loop.MONEY_TOO_LARGE:
        raise KernelRefused(KernelFault.MONEY_TOO_LARGE, "the account's money needs more digits than there are")


def fresh(plan: Plan, market: Market, units: Units) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Books before the first bar: the account is funded when it opens, which begins its day."""
    book = np.zeros(loop.BOOK, dtype=np.int64)
    cash = _whole(plan.cash, units.money)
    if cash >= HIGHEST * BASE:
        raise KernelRefused(KernelFault.MONEY_TOO_LARGE, f"cash of {plan.cash} needs more than 36 digits")
    for place in (loop.CASH_HIGH, loop.REFERENCE_HIGH, loop.HIGHEST_HIGH):
        _put_wide(book, place, cash)
    book[loop.DAY_END_NS] = (int(market.open_ns[0]) // DAY_NS + 1) * DAY_NS
    book[loop.REFUSED_AT] = -1
    seat = np.zeros(loop.SEAT, dtype=np.float64)
    seat[loop.TARGET] = np.nan
    seat[loop.MONEY_UNITS], seat[loop.QUANTITY_UNITS] = 10.0**units.money, 10.0**units.quantity
    return book, seat


def outcome_of(
    market: Market,
    units: Units,
    book: Ints,
    seat: npt.NDArray[np.float64],
    orders: Ints,
    fills: Ints,
    daily: npt.NDArray[np.float64],
) -> Outcome:
    numbers: list[int] = book.tolist()

    def amount(place: int, decimals: int) -> Decimal:
        return plain(Decimal(numbers[place] * BASE + numbers[place + 1]).scaleb(-decimals))

    cash = amount(loop.CASH_HIGH, units.money)
    position = Decimal(numbers[loop.POSITION]).scaleb(-units.quantity)
    last = Decimal(market.prices.closes.at(-1)).scaleb(-market.prices.decimals)
    return Outcome(
        orders=numbers[loop.ORDERS],
        fills=numbers[loop.FILLS],
        trades=numbers[loop.TRADES],
        wins=numbers[loop.WINS],
        losses=numbers[loop.LOSSES],
        refused={
            name: numbers[loop.REFUSED + code] for code, name in _REFUSALS.items() if numbers[loop.REFUSED + code]
        },
        declined={
            name: numbers[loop.DECLINED + code] for code, name in _DECLINES.items() if numbers[loop.DECLINED + code]
        },
        fees=amount(loop.FEES_HIGH, units.money),
        slippage=amount(loop.SLIPPAGE_HIGH, units.price + units.quantity),
        profit=amount(loop.PROFIT_HIGH, units.money),
        loss=amount(loop.LOSS_HIGH, units.money),
        final_cash=cash,
        final_equity=plain(cash + position * last),
        position=plain(position),
        invested_bars=numbers[loop.INVESTED],
        max_drawdown=float(seat[loop.WORST]),
        daily=daily,
        units=units,
        order_rows=orders[: numbers[loop.ORDERS]],
        fill_rows=fills[: numbers[loop.FILLS]],
    )
