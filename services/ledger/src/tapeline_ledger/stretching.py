"""The ledger's core over a stretch: fills that open, close or turn one position, posted together."""

from __future__ import annotations

from decimal import Decimal

from tapeline_common.money import ZERO
from tapeline_common.stretch import Stretch
from tapeline_common.values import InstrumentId, StrategyId
from tapeline_ledger.books import CASH, FEES, Position, position_account
from tapeline_ledger.core import State, fill_name


def plain_position(state: State, strategy: StrategyId, instrument: InstrumentId) -> Position | None:
    """The position (an empty one before the first fill), if a stretch can go on from it: nothing else is held, and all
    of it came from fills that added up to one price."""
    listing = state.listings.get(instrument)
    if listing is None or listing.quote != state.currency or set(state.books.balances.get(CASH, {})) - {listing.quote}:
        return None
    for holders in state.books.positions.values():
        for holder, other in holders.items():
            if holder != strategy and other.quantity:
                return None
    position = state.books.positions.get(instrument, {}).get(strategy)
    if position is None:
        return Position()
    is_plain = (
        position.quantity == position.basis_quantity
        and position.cash == -position.basis_value
        and position.entered_quantity == abs(position.quantity)
        and position.entered_value == abs(position.basis_value)
        and not position.funding
        and not position.decision
    )
    return position if is_plain else None


def fees_of(state: State, strategy: StrategyId, instrument: InstrumentId) -> Decimal:
    """Fees of every fill of a position so far."""
    position = state.books.positions.get(instrument, {}).get(strategy)
    return ZERO if position is None else position.total_fees


def learn_stretch(state: State, stretch: Stretch) -> None:
    state.prices[stretch.instrument] = stretch.bar.close
    state.hour_end_ns = max(state.hour_end_ns, stretch.hour_end_ns)
    if stretch.mark is not None:
        state.marks, state.marked_pos = (stretch.mark,), stretch.marked_pos
    if not stretch.orders:
        return
    for each in stretch.orders:
        state.counted[fill_name(each.order, each.trade_id)] = each.filled_pos
    state.closed = stretch.closed
    position = state.books.positions.setdefault(stretch.instrument, {}).setdefault(stretch.strategy, Position())
    _post(state, stretch, stretch.position - position.quantity)
    position.total_fees += stretch.paid
    position.trades, position.closed_pnl = stretch.trades, stretch.closed_pnl
    _hold(position, stretch)


def _post(state: State, stretch: Stretch, moved: Decimal) -> None:
    """The sums of the fills' entries."""
    listing = state.listings[stretch.instrument]
    balances = state.books.balances
    spent = balances[CASH].get(listing.quote, ZERO) - stretch.cash
    market = f"market:{stretch.instrument}"
    sums = [
        (position_account(stretch.strategy, stretch.instrument), listing.base, moved),
        (market, listing.base, -moved),
        (market, listing.quote, spent - stretch.paid),
        (CASH, listing.quote, -spent),
    ]
    if stretch.paid:
        sums.append((FEES, listing.quote, stretch.paid))
    for account, currency, amount in sums:
        owned = balances.setdefault(account, {})
        owned[currency] = owned.get(currency, ZERO) + amount


def _hold(position: Position, stretch: Stretch) -> None:
    """What is left of the trades: nothing, or one that a single fill opened."""
    quantity, trade = stretch.position, stretch.open
    value = ZERO if trade is None else quantity * trade.price
    position.quantity = position.basis_quantity = quantity
    position.basis_value, position.cash = value, -value
    position.entered_quantity, position.entered_value = abs(quantity), abs(value)
    position.fees = ZERO if trade is None else trade.fees
    if stretch.closed is not None:
        position.opened_ns = stretch.closed.opened_ns
    if trade is not None:
        position.opened_ns = trade.opened_ns
