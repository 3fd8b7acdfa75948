"""The double-entry books: accounts, postings that sum to zero, and positions.

Every entry (funding the account, a fill with its fee, a funding payment) is a list of postings whose amounts sum to
exactly zero in every currency; an entry that does not is a bug and raises. Sums and products are exact and are made in
a context that traps rounding. Division happens for averages and shares only, and no cash flow depends on a quotient:
whatever an average lost in its last digit is in the result of the trade that closes it.

Positions use the average-cost method: reducing leaves the average entry price alone, adding moves it. A fill that
crosses zero closes one trade and opens the next.

This module knows no clock, no last prices, no equity and no facts beyond the fill it posts and the trade it closes;
valuing is the business of ``core``.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.money import ZERO, plain, ratio
from tapeline_common.values import InstrumentId, PositionSide, StrategyId

CASH = "cash"
FEES = "fees"
FUNDING = "funding"
BORROWING = "borrowing"
CAPITAL = "capital"

_EXACT = decimal.Context(
    prec=60, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
)
"""Sixty digits, as in ``money``, but losing one of them raises: books that round are wrong books."""


class BooksViolated(Exception):
    """A posting that must not exist: its entry does not sum to zero, or a fill moves nothing. Always a bug."""


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One side of an entry. Amounts are signed: an asset that grows is positive, its source negative."""

    account: str
    currency: str
    amount: Decimal


@dataclass(slots=True)
class Position:
    """What one strategy holds of one instrument. Quantities in base units, money in the quote currency, both signed.

    Attributes:
        cash: exact cash out (negative) and in since the position was last flat, without fees and funding.
        basis_quantity, basis_value: quantity and its value at entry when it was last added to; their quotient is the
            average entry price of whatever is left.
        entered_quantity, entered_value: unsigned sums of the fills that opened or added since flat.
        fees, funding: of the open trade; what borrowing cost is part of its funding.
        decision: preset decision of the order that opened the trade.
        trades, closed_pnl: number of closed trades and the sum of their results.
        total_fees: fees of every fill so far.
    """

    quantity: Decimal = ZERO
    cash: Decimal = ZERO
    basis_quantity: Decimal = ZERO
    basis_value: Decimal = ZERO
    entered_quantity: Decimal = ZERO
    entered_value: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    opened_ns: int = 0
    decision: str = ""
    trades: int = 0
    closed_pnl: Decimal = ZERO
    total_fees: Decimal = ZERO

    @property
    def cost(self) -> Decimal:
        """Signed value of what is held, at its average entry price."""
        if self.quantity == self.basis_quantity:
            return self.basis_value
        return ratio(self.basis_value * self.quantity, self.basis_quantity)

    @property
    def average_price(self) -> Decimal:
        """Average entry price of what is held; zero when flat."""
        return ratio(self.basis_value, self.basis_quantity) if self.quantity else ZERO

    @property
    def realised_pnl(self) -> Decimal:
        """Result so far before fees and funding, the realised part of the open trade included. Exact when flat."""
        return self.closed_pnl + self.cash + self.cost


@dataclass(slots=True)
class Books:
    """Account → currency → balance, and the positions by instrument and strategy, both in order of first use."""

    balances: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    positions: dict[InstrumentId, dict[StrategyId, Position]] = field(default_factory=dict)


# ---- entries -----------------------------------------------------------------------------------------------------


def post(books: Books, entry: Sequence[Posting]) -> None:
    """Post one entry, whole.

    Raises:
        BooksViolated: the amounts do not sum to zero in some currency. Nothing is posted then.
        decimal.Inexact: a balance would need more than 60 digits. The books are then to be thrown away.
    """
    # `+` within the exact context: the context's own `add` takes three times as long, and a fill has twelve of them.
    outer = decimal.getcontext()
    decimal.setcontext(_EXACT)
    try:
        _post(books, entry)
    finally:
        decimal.setcontext(outer)


def _post(books: Books, entry: Sequence[Posting]) -> None:
    sums: dict[str, Decimal] = {}
    for posting in entry:
        currency = posting.currency
        sums[currency] = sums[currency] + posting.amount if currency in sums else posting.amount
    for currency, total in sums.items():
        if total:
            raise BooksViolated(f"the entry {list(entry)} sums to {total} {currency}, not to zero")
    accounts = books.balances
    for posting in entry:
        balances = accounts.get(posting.account)
        if balances is None:
            balances = accounts[posting.account] = {}
        currency = posting.currency
        balances[currency] = balances.get(currency, ZERO) + posting.amount


def post_capital(books: Books, currency: str, amount: Decimal) -> None:
    """The account was funded (positive) or withdrawn from (negative)."""
    post(books, (Posting(CASH, currency, amount), Posting(CAPITAL, currency, -amount)))


def post_fill(
    books: Books, fill: OrderFilled, base: str, quote: str, fee_in_quote: Decimal, decision: str, time_ns: int
) -> TradeClosed | None:
    """Post a fill's base leg, quote leg and fee, and move the strategy's position.

    Args:
        fee_in_quote: the fee's worth in ``quote``, for the position's statistics; the fee itself is posted in its own
            currency. Negative for a rebate.
        decision: preset decision of the fill's order; kept if the fill opens a trade.

    Returns:
        The trade this fill closed, if it did.

    Raises:
        BooksViolated: the fill's quantity is not positive.
    """
    if not fill.quantity > 0:
        raise BooksViolated(f"fill {fill.trade_id!r} of order {fill.order!r} has quantity {fill.quantity}, not above 0")
    moved = fill.quantity * fill.side.sign
    value = _EXACT.multiply(moved, fill.price)
    instrument = fill.instrument
    market = f"market:{instrument}"
    entry = [
        Posting(position_account(fill.strategy, instrument), base, moved),
        Posting(market, base, -moved),
        Posting(CASH, quote, -value),
        Posting(market, quote, value),
    ]
    if fill.fee:
        entry.append(Posting(CASH, fill.fee_currency, -fill.fee))
        entry.append(Posting(FEES, fill.fee_currency, fill.fee))
    post(books, entry)

    position = _position_of(books, instrument, fill.strategy)
    position.total_fees += fee_in_quote
    held = position.quantity
    crosses = held and (held > 0) != (moved > 0) and abs(held) < fill.quantity
    if not crosses:
        return _move(position, fill, moved, fee_in_quote, decision, time_ns)
    closing_fee = ratio(fee_in_quote * abs(held), fill.quantity)
    closed = _move(position, fill, -held, closing_fee, decision, time_ns)
    _move(position, fill, moved + held, fee_in_quote - closing_fee, decision, time_ns)
    return closed


def _position_of(books: Books, instrument: InstrumentId, strategy: StrategyId) -> Position:
    holders = books.positions.get(instrument)
    if holders is None:
        holders = books.positions[instrument] = {}
    position = holders.get(strategy)
    if position is None:
        position = holders[strategy] = Position()
    return position


def post_funding(
    books: Books, instrument: InstrumentId, quote: str, rate: Decimal, mark_price: Decimal
) -> list[tuple[StrategyId, Decimal]]:
    """Post a perpetual's funding for every open position of the instrument.

    Returns:
        What each strategy paid (negative) or received, in order of the strategies' first fills.
    """
    payments = funding_payments(books, instrument, rate, mark_price)
    _pay(books, instrument, quote, FUNDING, payments)
    return payments


def funding_payments(
    books: Books, instrument: InstrumentId, rate: Decimal, mark_price: Decimal
) -> list[tuple[StrategyId, Decimal]]:
    """``-quantity * mark_price * rate`` of every open position: longs pay shorts while the rate is positive."""
    if not rate:
        return []
    notional_rate = _EXACT.multiply(mark_price, rate)
    return [
        (strategy, _EXACT.multiply(-position.quantity, notional_rate))
        for strategy, position in books.positions.get(instrument, {}).items()
        if position.quantity
    ]


def post_borrowing(
    books: Books, instrument: InstrumentId, quote: str, rate: Decimal, price: Decimal
) -> list[tuple[StrategyId, Decimal]]:
    """Post what borrowing cost every short position of the instrument.

    Returns:
        What each strategy paid (negative), in order of the strategies' first fills.
    """
    payments = borrowing_payments(books, instrument, rate, price)
    _pay(books, instrument, quote, BORROWING, payments)
    return payments


def borrowing_payments(
    books: Books, instrument: InstrumentId, rate: Decimal, price: Decimal
) -> list[tuple[StrategyId, Decimal]]:
    """``quantity * price * rate`` of every short position, which is below zero."""
    value_rate = _EXACT.multiply(price, rate)
    return [
        (strategy, _EXACT.multiply(position.quantity, value_rate))
        for strategy, position in books.positions.get(instrument, {}).items()
        if position.quantity < 0 and value_rate
    ]


def _pay(
    books: Books, instrument: InstrumentId, quote: str, account: str, payments: list[tuple[StrategyId, Decimal]]
) -> None:
    for strategy, amount in payments:
        post(books, (Posting(CASH, quote, amount), Posting(account, quote, -amount)))
        books.positions[instrument][strategy].funding += amount


# ---- what the books say ------------------------------------------------------------------------------------------


def position_account(strategy: StrategyId, instrument: InstrumentId) -> str:
    """The account that holds a strategy's base units of an instrument."""
    return f"position:{strategy}:{instrument}"


def balance(books: Books, account: str, currency: str) -> Decimal:
    return books.balances.get(account, {}).get(currency, ZERO)


def is_open(books: Books) -> bool:
    """Whether any strategy holds anything."""
    for holders in books.positions.values():
        for position in holders.values():
            if position.quantity:
                return True
    return False


def imbalances(books: Books) -> dict[str, Decimal]:
    """Currency → sum over all accounts, where it is not zero. Empty unless there is a bug."""
    sums: dict[str, Decimal] = {}
    for balances in books.balances.values():
        for currency, amount in balances.items():
            sums[currency] = _EXACT.add(sums.get(currency, ZERO), amount)
    return {currency: total for currency, total in sums.items() if total}


# ---- positions ---------------------------------------------------------------------------------------------------


def _move(
    position: Position, fill: OrderFilled, moved: Decimal, fee: Decimal, decision: str, time_ns: int
) -> TradeClosed | None:
    """Change a position by a quantity that does not cross zero; a position that becomes flat closes its trade."""
    value = _EXACT.multiply(moved, fill.price)
    held = position.quantity
    becomes = held + moved
    if not held:
        position.opened_ns = time_ns
        position.decision = decision
    if not held or (held > 0) == (moved > 0):
        position.basis_value = position.cost + value
        position.basis_quantity = becomes
        position.entered_quantity += abs(moved)
        position.entered_value += abs(value)
    position.quantity = becomes
    position.cash -= value
    position.fees += fee
    if becomes:
        return None
    return _close(position, fill, PositionSide.LONG if held > 0 else PositionSide.SHORT, time_ns)


def _close(position: Position, fill: OrderFilled, side: PositionSide, time_ns: int) -> TradeClosed:
    """End the trade of a position that has just become flat."""
    position.trades += 1
    position.closed_pnl += position.cash
    left_value = position.entered_value + (position.cash if side is PositionSide.LONG else -position.cash)
    trade = TradeClosed(
        trade=f"{fill.strategy}-{fill.instrument}-{position.trades}",
        strategy=fill.strategy,
        instrument=fill.instrument,
        side=side,
        quantity=tidy(position.entered_quantity),
        entry_price=ratio(position.entered_value, position.entered_quantity),
        exit_price=ratio(left_value, position.entered_quantity),
        opened_ns=position.opened_ns,
        closed_ns=time_ns,
        pnl=tidy(position.cash),
        fees=tidy(position.fees),
        decision=position.decision,
        funding=tidy(position.funding),
    )
    position.quantity = position.cash = position.fees = position.funding = ZERO
    position.basis_quantity = position.basis_value = ZERO
    position.entered_quantity = position.entered_value = ZERO
    position.decision = ""
    return trade


def tidy(amount: Decimal) -> Decimal:
    """One text per amount on the tape: no trailing zeros, no exponent, no negative zero."""
    return plain(amount) if amount else ZERO
