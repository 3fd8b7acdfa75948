"""Whether a recorded submission may still leave: one rule for the one who sends and the one who receives.

The execution core asks it when its own ``OrderSubmitted`` is reached on the tape, the simulated venue when it hears the
same fact; because both ask the same question of the same facts, the venue is silent exactly when execution says
``OrderWithheld``. It sends nothing and keeps no order.

A core's clock is the latest stamp *it* has heard, so two cores agree on the time only if they hear the same facts.
``HEARD_BY_BOTH`` is that set; a core with nothing to learn from one of them takes it with
``core.keep_clock``.
"""

from __future__ import annotations

from tapeline_common.control import may_trade
from tapeline_common.core import Stamp
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    CancelSubmitted,
    CostsConfigured,
    Event,
    FlattenRequested,
    FundingPublished,
    HaltRequested,
    InstrumentListed,
    OrderApproved,
    OrderSubmitted,
    OrderTerms,
    RunStarted,
    SessionsScheduled,
    StrategyDisableRequested,
    TradingHalted,
    TradingResumed,
    VenueConfigured,
)
from tapeline_common.values import TradingState, Withheld

HEARD_BY_BOTH: tuple[type[Event], ...] = (
    RunStarted,
    AccountFunded,
    VenueConfigured,
    CostsConfigured,
    SessionsScheduled,
    InstrumentListed,
    BarClosed,
    FundingPublished,
    OrderApproved,
    OrderSubmitted,
    CancelSubmitted,
    HaltRequested,
    TradingHalted,
    FlattenRequested,
    TradingResumed,
    StrategyDisableRequested,
)
"""What decides both clocks. Reports of the simulated venue carry the stamp of one of these and add nothing."""


def withheld(trading: TradingState, terms: OrderTerms, valid_until_ns: int, stamp: Stamp) -> Withheld | None:
    """Why an approved order may not be sent at this stamp; ``None`` when it may. The last valid moment still counts."""
    if not may_trade(trading, terms):
        return Withheld.TRADING_HALTED
    if stamp.time_ns > valid_until_ns:
        return Withheld.APPROVAL_EXPIRED
    return None
