"""The risk core over a stretch: every order is approved, and no loss reaches its limit."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tapeline_common.money import ZERO
from tapeline_common.stretch import Stretch
from tapeline_common.values import InstrumentId, StrategyId, TradingState

if TYPE_CHECKING:
    from tapeline_risk.core import Book, State


def plain_book(state: State, strategy: StrategyId, instrument: InstrumentId) -> Book | None:
    """The instrument's book, if it is the only one, no order is open and no loss was said to be at its limit."""
    book = state.books.get(instrument)
    if book is None or book.price is None or len(state.books) > 1:
        return None
    is_plain = (
        state.trading is TradingState.RUNNING
        and state.limits is not None
        and strategy not in state.disabled
        and not state.breached
        and not state.reserved
        and book.own.get(strategy, ZERO) == book.position
    )
    return book if is_plain else None


def learn_stretch(state: State, stretch: Stretch) -> None:
    book = state.books[stretch.instrument]
    book.price, book.price_ns = stretch.bar.close, stretch.last.time_ns
    if stretch.orders:
        book.position = book.own[stretch.strategy] = stretch.position
        for each in stretch.orders:
            state.decided[each.order] = 1
        if stretch.exited_ns:
            book.exits[stretch.strategy] = stretch.exited_ns
    state.equity = stretch.cash + stretch.position * Decimal(stretch.bar.close)
    if stretch.highest is not None:
        state.highest = stretch.highest
