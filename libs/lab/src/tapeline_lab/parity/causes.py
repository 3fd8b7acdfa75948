"""Why two tapes of the same session differ: the closed list, and which cause each configured field belongs to.

The order of the list is the order in which ``diff`` switches them: from where money is counted back to where
information comes in. So a cause is judged on the orders that were, before the causes that change the orders.
Nothing is computed here.
"""

from __future__ import annotations

from enum import StrEnum

from tapeline_common.events import (
    AccountFunded,
    BanditConfigured,
    BarClosed,
    BorrowCharged,
    CodeDeployed,
    CostsConfigured,
    DataRejected,
    Event,
    FeedInterrupted,
    FeedOpened,
    FeedResumed,
    FlattenRequested,
    FundingPublished,
    HaltRequested,
    InstrumentListed,
    LimitsSet,
    PresetRequested,
    PromotionRequested,
    RegimeConfigured,
    ResumeRequested,
    RollbackRequested,
    RunStarted,
    SessionsScheduled,
    StrategyConfigured,
    StrategyDisableRequested,
    StrategyEnableRequested,
    VenueConfigured,
)


class Cause(StrEnum):
    """One cause of a difference.

    CODE: the books' or execution's code, and whatever no other cause explains. FEE, FILL: what the venue charged, and
    at which price, how much and when it filled. FUNDING: rates, and what borrowing cost. LATENCY: when orders arrived.
    RISK: limits, and how orders were judged. SIGNAL: strategies and their parameters. PRESET: presets and their
    choice. MODEL: regimes and the models behind them. CONTROL: what the operator did. INPUT_REVISED: market data.
    """

    CODE = "CODE"
    FEE = "FEE"
    FUNDING = "FUNDING"
    FILL = "FILL"
    LATENCY = "LATENCY"
    RISK = "RISK"
    SIGNAL = "SIGNAL"
    PRESET = "PRESET"
    MODEL = "MODEL"
    CONTROL = "CONTROL"
    INPUT_REVISED = "INPUT_REVISED"


OF_AUTHOR: dict[str, Cause] = {
    "ledger": Cause.CODE,
    "execution": Cause.CODE,
    "venue": Cause.FILL,
    "risk": Cause.RISK,
    "strategy": Cause.SIGNAL,
    "bandit": Cause.PRESET,
    "regime": Cause.MODEL,
    "trainer": Cause.MODEL,
}
"""Whose code is to blame where an author, given the recorded past, decides otherwise."""

OF_INPUT: dict[type[Event], Cause] = {
    RunStarted: Cause.CODE,
    CodeDeployed: Cause.CODE,
    AccountFunded: Cause.CONTROL,
    VenueConfigured: Cause.FILL,
    CostsConfigured: Cause.FILL,
    SessionsScheduled: Cause.INPUT_REVISED,
    InstrumentListed: Cause.INPUT_REVISED,
    LimitsSet: Cause.RISK,
    StrategyConfigured: Cause.SIGNAL,
    RegimeConfigured: Cause.MODEL,
    BanditConfigured: Cause.PRESET,
    PresetRequested: Cause.PRESET,
    HaltRequested: Cause.CONTROL,
    FlattenRequested: Cause.CONTROL,
    StrategyDisableRequested: Cause.CONTROL,
    ResumeRequested: Cause.CONTROL,
    StrategyEnableRequested: Cause.CONTROL,
    PromotionRequested: Cause.MODEL,
    RollbackRequested: Cause.MODEL,
    FeedOpened: Cause.INPUT_REVISED,
    BarClosed: Cause.INPUT_REVISED,
    DataRejected: Cause.INPUT_REVISED,
    FeedInterrupted: Cause.INPUT_REVISED,
    FeedResumed: Cause.INPUT_REVISED,
    FundingPublished: Cause.FUNDING,
}
"""What a changed outside fact is a cause of, unless its field says otherwise."""

OF_FIELD: dict[tuple[type[Event], str], Cause] = {
    (VenueConfigured, "maker_fee"): Cause.FEE,
    (VenueConfigured, "taker_fee"): Cause.FEE,
    (CostsConfigured, "fee_tiers"): Cause.FEE,
    (CostsConfigured, "latency_ms"): Cause.LATENCY,
    (StrategyConfigured, "uses_presets"): Cause.PRESET,
}

OF_INSTRUMENT_COST: dict[str, Cause] = {"borrow_rate": Cause.FUNDING, "liquidation_fee": Cause.FEE}
"""Fields of ``InstrumentCosts``; the others are FILL."""

FUNDING_SAID_BY_VENUE: tuple[type[Event], ...] = (BorrowCharged,)
"""What a venue says that is funding and no fill."""
