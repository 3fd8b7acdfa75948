"""Whether trading may go on: one fold of the control facts, shared by every core that must obey it.

Nothing heard means halted. Halting needs only the request; running again needs risk to say ``TradingResumed``.
This module judges nobody's signature (the ledger's door does) and sends nothing.
"""

from __future__ import annotations

from tapeline_common.events import (
    Event,
    FlattenRequested,
    HaltRequested,
    OrderTerms,
    RunStarted,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.values import Purpose, TradingState

AFTER: dict[type[Event], TradingState] = {
    RunStarted: TradingState.RUNNING,
    HaltRequested: TradingState.HALTED,
    TradingHalted: TradingState.HALTED,
    FlattenRequested: TradingState.FLATTENING,
    TradingResumed: TradingState.RUNNING,
}
"""The trading state after each control fact, whatever it was before. A restart of a tape is no second RunStarted."""


def may_trade(state: TradingState, terms: OrderTerms) -> bool:
    """Whether an order with these terms may be approved or sent now."""
    if state is TradingState.RUNNING:
        return True
    return state is TradingState.FLATTENING and terms.purpose is Purpose.FLATTEN
