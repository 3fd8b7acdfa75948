"""Every limit an order is held against: one function each, which returns what refuses the order or ``None``.

A limit sees a ``Question``: the order and everything about the account that any limit needs, as plain values. Limits
hold no state, know no time but the question's, and do not know each other; which of them apply to an order and in
which order they are asked is said once, at the end of this module.

``None`` for a setting means that it does not limit. Notionals are in account currency, positions in base units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from tapeline_common.control import may_trade
from tapeline_common.events import InstrumentLimits, InstrumentListed, LimitsSet, OrderTerms
from tapeline_common.money import ZERO, is_multiple, plain
from tapeline_common.values import OrderType, Purpose, Refusal, Side, TradingState

NS_PER_MS = 1_000_000
BPS = Decimal(10_000)

_NO_LIMITS = InstrumentLimits()


@dataclass(slots=True)  # not frozen: filling in a frozen one takes longer than asking every limit
class Question:
    """May this order be sent? Nothing writes to it once it is asked.

    Attributes:
        is_decided: the order's id was approved or refused before.
        price: last price of the instrument, heard at ``price_ns``.
        position: signed position of the account in the instrument, over all strategies.
        buys, sells: what is still open of approved orders on each side, both at least zero.
        own_position: signed position of the order's strategy in the instrument.
        own_reducing: what is still open of that strategy's reduce-only orders on the order's side; for an order that
            need not reduce, zero.
        other_exposure: worst-case notional of all other instruments.
        other_open: how many other instruments have a position or an open order.
        daily_loss: equity lost since 00:00 UTC; negative for a gain.
        drawdown: equity below its highest value so far, at least zero.
        exited_ns: when the order's strategy last left a position in the instrument.
    """

    terms: OrderTerms
    decided_ns: int
    now_ns: int
    is_decided: bool
    trading: TradingState
    is_disabled: bool
    limits: LimitsSet | None
    currency: str
    listing: InstrumentListed | None
    price: Decimal | None
    price_ns: int
    position: Decimal
    buys: Decimal
    sells: Decimal
    own_position: Decimal
    own_reducing: Decimal
    other_exposure: Decimal
    other_open: int
    daily_loss: Decimal
    drawdown: Decimal = ZERO
    exited_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """What refuses an order: ``observed`` against ``limit``, in the unit of the limit."""

    reason: Refusal
    observed: str
    limit: str


Limit = Callable[[Question], Breach | None]


# ---- may anything be sent at all ---------------------------------------------------------------------------------


def already_decided(question: Question) -> Breach | None:
    """An order id is decided once, whatever comes under it later."""
    return Breach(Refusal.ORDER_ALREADY_DECIDED, "decided", "one decision") if question.is_decided else None


def trading_halted(question: Question) -> Breach | None:
    """Running: every order; flattening: only those that flatten; halted, or not started: none."""
    if may_trade(question.trading, question.terms):
        return None
    return Breach(Refusal.TRADING_HALTED, question.trading.value, TradingState.RUNNING.value)


def strategy_disabled(question: Question) -> Breach | None:
    """A disabled strategy sends nothing, exits included; flattening is the way to close what it holds."""
    return Breach(Refusal.STRATEGY_DISABLED, "disabled", "enabled") if question.is_disabled else None


def limits_missing(question: Question) -> Breach | None:
    """Before any LimitsSet nothing is approved: no limits said is not the same as no limits."""
    return Breach(Refusal.LIMITS_MISSING, "none set", "LimitsSet") if question.limits is None else None


# ---- is the order well formed ------------------------------------------------------------------------------------


def instrument_unknown(question: Question) -> Breach | None:
    """Only listed instruments are traded."""
    if question.listing is not None:
        return None
    return Breach(Refusal.INSTRUMENT_UNKNOWN, question.terms.instrument, "InstrumentListed")


def currency_mismatch(question: Question) -> Breach | None:
    """Notionals of another quote currency cannot be held against limits in account currency."""
    if question.listing is None or question.listing.quote == question.currency:
        return None
    return Breach(Refusal.CURRENCY_MISMATCH, question.listing.quote, question.currency)


def quantity_invalid(question: Question) -> Breach | None:
    """Quantities are positive, finite and whole lots. What flattens may be the odd rest of a lot: the venue judges."""
    quantity = question.terms.quantity
    if not quantity.is_finite() or quantity <= 0:
        return Breach(Refusal.QUANTITY_INVALID, str(quantity), "more than 0")
    lot = question.listing.lot_size if question.listing is not None else None
    if question.terms.purpose is Purpose.FLATTEN or is_multiple(quantity, lot):
        return None
    return Breach(Refusal.QUANTITY_INVALID, str(quantity), f"multiple of {lot}")


_PRICES: dict[OrderType, tuple[bool, bool]] = {
    OrderType.MARKET: (False, False),
    OrderType.LIMIT: (True, False),
    OrderType.STOP: (False, True),
    OrderType.STOP_LIMIT: (True, True),
}
"""Which of limit price and stop price an order of each type carries; it carries no other."""


def price_invalid(question: Question) -> Breach | None:
    """Exactly the prices that the order's type needs, each positive, finite and a whole number of ticks."""
    terms = question.terms
    tick = question.listing.tick_size if question.listing is not None else None
    needs_limit, needs_stop = _PRICES[terms.order_type]
    for name, price, needed in (
        ("limit_price", terms.limit_price, needs_limit),
        ("stop_price", terms.stop_price, needs_stop),
    ):
        if (price is not None) != needed:
            return Breach(Refusal.PRICE_INVALID, f"{name} {price}", f"{name} {'set' if needed else 'None'}")
        if price is None:
            continue
        if not price.is_finite() or price <= 0:
            return Breach(Refusal.PRICE_INVALID, f"{name} {price}", "more than 0")
        if not is_multiple(price, tick):
            return Breach(Refusal.PRICE_INVALID, f"{name} {price}", f"multiple of {tick}")
    return None


def reduce_only_would_increase(question: Question) -> Breach | None:
    """A reduce-only (or flattening) order closes the strategy's own position, and no more of it than there is.

    Open orders that are not reduce-only do not count: a flatten must not wait for the cancel of an exit.
    """
    terms = question.terms
    if not terms.reduce_only and terms.purpose is not Purpose.FLATTEN:
        return None
    closable = max(ZERO, -terms.side.sign * question.own_position) - question.own_reducing
    if terms.quantity <= closable:
        return None
    return Breach(Refusal.REDUCE_ONLY_WOULD_INCREASE, str(plain(terms.quantity)), str(plain(max(ZERO, closable))))


# ---- is what it was decided on still true ------------------------------------------------------------------------


def input_stale(question: Question) -> Breach | None:
    """``max_input_age_ms``: time from the strategy's decision to this one. Exactly at the limit is still good."""
    return _stale(Refusal.INPUT_STALE, question, question.decided_ns, _limits(question).max_input_age_ms)


def price_missing(question: Question) -> Breach | None:
    """Without a last price no notional is known."""
    return Breach(Refusal.PRICE_MISSING, "none", "a last price") if question.price is None else None


def price_stale(question: Question) -> Breach | None:
    """``max_price_age_ms``: time since the last price was heard. Exactly at the limit is still good."""
    return _stale(Refusal.PRICE_STALE, question, question.price_ns, _limits(question).max_price_age_ms)


def _stale(reason: Refusal, question: Question, since_ns: int, limit_ms: int | None) -> Breach | None:
    age_ns = question.now_ns - since_ns
    if limit_ms is None or age_ns <= limit_ms * NS_PER_MS:
        return None
    return Breach(reason, f"{plain(Decimal(age_ns) / NS_PER_MS)} ms", f"{limit_ms} ms")


def price_collar(question: Question) -> Breach | None:
    """``price_collar_bps``: a buyer's price at most so far above the last price, a seller's at most so far below."""
    bps = _limits(question).price_collar_bps
    if bps is None or question.price is None:
        return None
    terms = question.terms
    sign = terms.side.sign
    bound = question.price * (1 + sign * bps / BPS)
    for price in (terms.limit_price, terms.stop_price):
        if price is not None and sign * (price - bound) > 0:
            return Breach(Refusal.PRICE_COLLAR, str(plain(price)), str(plain(bound)))
    return None


def below_min_notional(question: Question) -> Breach | None:
    """The instrument's ``min_notional``, at the order's own price, or the last price if it has none."""
    least = question.listing.min_notional if question.listing is not None else None
    if least is None:
        return None
    terms = question.terms
    price = terms.limit_price or terms.stop_price or question.price or ZERO
    notional = terms.quantity * price
    return None if notional >= least else Breach(Refusal.BELOW_MIN_NOTIONAL, str(plain(notional)), str(plain(least)))


# ---- may the exposure grow ---------------------------------------------------------------------------------------


def daily_loss(question: Question) -> Breach | None:
    """``max_daily_loss``: no new exposure once the day has lost so much, even before trading is halted for it."""
    limit = _limits(question).max_daily_loss
    if limit is None or not is_loss_at_limit(question.daily_loss, limit):
        return None
    return Breach(Refusal.DAILY_LOSS, str(plain(question.daily_loss)), str(plain(limit)))


def is_loss_at_limit(loss: Decimal, limit: Decimal) -> bool:
    """Losing exactly the limit is losing too much; losing nothing never is, not even with a limit of zero."""
    return loss >= limit and loss > 0


def drawdown(question: Question) -> Breach | None:
    """``max_drawdown``: no new exposure once equity has fallen so far from its highest value."""
    limit = _limits(question).max_drawdown
    if limit is None or not is_loss_at_limit(question.drawdown, limit):
        return None
    return Breach(Refusal.DRAWDOWN, str(plain(question.drawdown)), str(plain(limit)))


def cool_down(question: Question) -> Breach | None:
    """``cool_down_ms``: after it has left a position, a strategy opens none in that instrument for so long.

    Exactly after so long it may. An order that turns a position through zero opens nothing from flat and is not held
    back: refusing it would keep the strategy in.
    """
    limit_ms = _limits(question).cool_down_ms
    if limit_ms is None or question.exited_ns is None or question.own_position:
        return None
    age_ns = question.now_ns - question.exited_ns
    if age_ns >= limit_ms * NS_PER_MS:
        return None
    return Breach(Refusal.COOL_DOWN, f"{plain(Decimal(age_ns) / NS_PER_MS)} ms", f"{limit_ms} ms")


def max_order_notional(question: Question) -> Breach | None:
    """``max_order_notional``, of all instruments and of this one; at the highest of last, limit and stop price."""
    own = _own_limits(question).max_order_notional
    notional = question.terms.quantity * _highest_price(question)
    return _above(Refusal.MAX_ORDER_NOTIONAL, notional, _limits(question).max_order_notional, own)


def max_position(question: Question) -> Breach | None:
    """``max_position``, of all instruments and of this one: what the position becomes, on the order's side, if all
    open orders of that side and this one fill and none of the other side does."""
    own = _own_limits(question).max_position
    return _above(Refusal.MAX_POSITION, abs(worst_position(question)), _limits(question).max_position, own)


def worst_position(question: Question) -> Decimal:
    """Signed position furthest to the order's side that fills can lead to."""
    if question.terms.side is Side.BUY:
        return question.position + question.buys + question.terms.quantity
    return question.position - question.sells - question.terms.quantity


def max_gross_exposure(question: Question) -> Breach | None:
    """``max_gross_exposure``: the worst case of every instrument, open orders included, at last prices, added up."""
    terms = question.terms
    buys = question.buys + (terms.quantity if terms.side is Side.BUY else ZERO)
    sells = question.sells + (terms.quantity if terms.side is Side.SELL else ZERO)
    here = worst_exposure(question.position, buys, sells) * (question.price or ZERO)
    return _above(Refusal.MAX_GROSS_EXPOSURE, question.other_exposure + here, _limits(question).max_gross_exposure)


def worst_exposure(position: Decimal, buys: Decimal, sells: Decimal) -> Decimal:
    """Largest absolute position that any filling of the open orders can lead to."""
    return max(abs(position + buys), abs(position - sells))


def max_open_positions(question: Question) -> Breach | None:
    """``max_open_positions``: instruments with a position or an open order; adding to one of them opens nothing."""
    limit = _limits(question).max_open_positions
    is_open = bool(question.position or question.buys or question.sells)
    if limit is None or is_open or question.other_open < limit:
        return None
    return Breach(Refusal.MAX_OPEN_POSITIONS, str(question.other_open + 1), str(limit))


def _above(reason: Refusal, observed: Decimal, *limits: Decimal | None) -> Breach | None:
    """Against the tightest of the limits that are set; exactly at it is allowed."""
    tightest = min((limit for limit in limits if limit is not None), default=None)
    if tightest is None or observed <= tightest:
        return None
    return Breach(reason, str(plain(observed)), str(plain(tightest)))


def _highest_price(question: Question) -> Decimal:
    prices = (question.price, question.terms.limit_price, question.terms.stop_price)
    return max((price for price in prices if price is not None), default=ZERO)


def _limits(question: Question) -> LimitsSet:
    return question.limits if question.limits is not None else LimitsSet()


def _own_limits(question: Question) -> InstrumentLimits:
    return _limits(question).instruments.get(question.terms.instrument, _NO_LIMITS)


# ---- which limits apply, in which order --------------------------------------------------------------------------

FLATTENING: tuple[Limit, ...] = (
    already_decided,
    trading_halted,
    instrument_unknown,
    quantity_invalid,
    price_invalid,
    reduce_only_would_increase,
)
"""Orders that flatten: getting out must work with stale prices, without limits and for a disabled strategy."""

SIGNALS: tuple[Limit, ...] = (
    already_decided,
    trading_halted,
    strategy_disabled,
    limits_missing,
    instrument_unknown,
    currency_mismatch,
    quantity_invalid,
    price_invalid,
    reduce_only_would_increase,
    input_stale,
    price_missing,
    price_stale,
    price_collar,
    below_min_notional,
)
"""Every signal."""

EXPOSURE: tuple[Limit, ...] = (
    daily_loss,
    drawdown,
    cool_down,
    max_order_notional,
    max_position,
    max_gross_exposure,
    max_open_positions,
)
"""Asked last, and only of signals that may add exposure: no limit may keep one from taking it off."""


NEEDS: dict[Limit, str] = {
    input_stale: "max_input_age_ms",
    price_stale: "max_price_age_ms",
    price_collar: "price_collar_bps",
    daily_loss: "max_daily_loss",
    drawdown: "max_drawdown",
    cool_down: "cool_down_ms",
    max_order_notional: "max_order_notional",
    max_position: "max_position",
    max_gross_exposure: "max_gross_exposure",
    max_open_positions: "max_open_positions",
}
"""Limits that refuse nothing while their setting is ``None``, for all instruments and for each; others always count."""


def settings_of(limits: LimitsSet) -> tuple[str, ...]:
    """Names of the settings of ``NEEDS`` that limit anything, in order."""
    everywhere = (limits, *limits.instruments.values())
    return tuple(
        name
        for name in dict.fromkeys(NEEDS.values())
        if any(getattr(where, name, None) is not None for where in everywhere)
    )


@lru_cache(maxsize=64)
def counting(table: tuple[Limit, ...], settings: tuple[str, ...]) -> tuple[Limit, ...]:
    """The limits of a table that can refuse anything under these settings."""
    return tuple(limit for limit in table if limit not in NEEDS or NEEDS[limit] in settings)


def only_reduces(question: Question) -> bool:
    """Whether no filling of this and all open orders of its side takes the position beyond zero."""
    terms = question.terms
    open_on_side = question.buys if terms.side is Side.BUY else question.sells
    return open_on_side + terms.quantity <= -terms.side.sign * question.position


def judge(question: Question, settings: tuple[str, ...] | None = None) -> Breach | None:
    """The first limit, in the order of its table, that refuses the order; ``None`` approves it.

    Args:
        settings: ``settings_of`` the question's limits, to ask only what can refuse; ``None`` asks every limit. The
            verdict is the same (tests/properties/test_risk_tables_properties.py).
    """
    if question.terms.purpose is Purpose.FLATTEN:
        return _first(FLATTENING, question)
    breach = _first(SIGNALS if settings is None else counting(SIGNALS, settings), question)
    if breach is not None:
        return breach
    exposure = EXPOSURE if settings is None else counting(EXPOSURE, settings)
    return _first(exposure, question) if exposure and not only_reduces(question) else None


def _first(table: tuple[Limit, ...], question: Question) -> Breach | None:
    for limit in table:
        breach = limit(question)
        if breach is not None:
            return breach
    return None
