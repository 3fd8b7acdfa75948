"""Every fact the platform can record, grouped by the one author who may say it.

A fact is past tense, frozen and complete. The union is closed: what is not in ``SAYS`` cannot be recorded, and each
type belongs to exactly one author. Fields may be added with defaults; a fact is never renamed or retyped, a new
meaning is a new fact.

Money, prices and quantities are ``Decimal``; the prices of a bar are decimal text as the source printed it (exact, and
free of conversion on the hot path); floats appear in indicators and models only. Times are UTC nanoseconds.

This module holds no behaviour. ``about`` names the field that says which stream a fact belongs to: everything about
one instrument, order or strategy shares a stream and counts its versions.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import msgspec

from tapeline_common.values import (
    CancelReason,
    DataFault,
    DecimalText,
    Decline,
    FeedTroubleKind,
    HaltReason,
    InstrumentId,
    IntrabarPath,
    Liquidity,
    ModelId,
    OrderId,
    OrderState,
    OrderType,
    PositionSide,
    PresetRefusal,
    PromotionRefusal,
    Purpose,
    Realm,
    Refusal,
    Regime,
    Rejection,
    SearchMethod,
    Side,
    StrategyId,
    StudyKind,
    TimeInForce,
    TrainingFault,
    TrialPart,
    TrialRefusal,
    Withheld,
)

ParameterValue: TypeAlias = int | float | str | bool
Parameters: TypeAlias = dict[str, ParameterValue]


class Event(msgspec.Struct, frozen=True, tag_field="type", tag=True, forbid_unknown_fields=True, gc=False):
    """Base of every fact. ``about``: the field naming the stream, or empty for facts about the whole run."""

    about: ClassVar[str] = ""
    schema: ClassVar[int] = 1


# ---- operator: configuration and control -------------------------------------------------------------------------


class RunStarted(Event, frozen=True, gc=False):
    """The first fact of every tape. ``tape`` makes client order ids unique across tapes."""

    run: str
    tape: str
    realm: Realm
    seed: int
    currency: str
    code_version: str


class CodeDeployed(Event, frozen=True, gc=False):
    """The tape goes on under other code than the one named last. Decisions before it belong to the older code."""

    code_version: str


class AccountFunded(Event, frozen=True, gc=False):
    about: ClassVar[str] = "account"
    account: str
    currency: str
    amount: Decimal


class VenueConfigured(Event, frozen=True, gc=False):
    """Costs and fill rules of a simulated venue. Rates are fractions of notional; ``None`` means no cap.

    Attributes:
        slippage_bps: adverse move of every taker fill, in basis points of the price.
        participation: most of a bar's volume that our fills may take, as a fraction; the rest carries over.
    """

    about: ClassVar[str] = "venue"
    venue: str
    maker_fee: Decimal
    taker_fee: Decimal
    slippage_bps: Decimal
    participation: Decimal | None = None


class FeeTier(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Fees of an account that has traded at least ``traded`` in the last thirty days. Below zero is a rebate."""

    traded: Decimal
    maker_fee: Decimal
    taker_fee: Decimal


class InstrumentCosts(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What trading one instrument costs besides fees. What is configured together adds up; zero is not charged.

    Attributes:
        slippage_bps: adverse move of every taker fill, in basis points of the price.
        half_spread_bps: half the spread in basis points of the price, paid by takers.
        half_spread_ticks: half the spread in ticks, paid by takers.
        volume_impact: taker fills move the price by this fraction times the square of our share of the bar's volume.
        root_impact: taker fills move the price by this times volatility times the root of quantity over volume.
        root_window_bars: how many bars before the fill volatility and volume of ``root_impact`` are measured over.
        borrow_rate: what lending costs a short position in a year, as a fraction of its value.
        initial_margin: fraction of a position's value that the account must be worth to open it.
        maintenance_margin: fraction of a position's value below which it is liquidated.
        liquidation_fee: paid on top of the taker fee when liquidated, as a fraction of notional.
        short_selling: whether more may be sold than is held.
    """

    slippage_bps: Decimal = Decimal(0)
    half_spread_bps: Decimal = Decimal(0)
    half_spread_ticks: Decimal = Decimal(0)
    volume_impact: Decimal = Decimal(0)
    root_impact: Decimal = Decimal(0)
    root_window_bars: int = 1_440
    borrow_rate: Decimal = Decimal(0)
    initial_margin: Decimal = Decimal(0)
    maintenance_margin: Decimal = Decimal(0)
    liquidation_fee: Decimal = Decimal(0)
    short_selling: bool = True


class CostsConfigured(Event, frozen=True, gc=False):
    """What a simulated venue costs beyond ``VenueConfigured``. Said only if something of it is used.

    Attributes:
        fee_tiers: by traded notional, lowest first; empty: the flat fees of ``VenueConfigured``.
        latency_ms: how long an order is on its way to the venue.
        intrabar: in which order a bar is taken to have reached its prices.
        instruments: costs by instrument; they replace ``slippage_bps`` of ``VenueConfigured``, which holds for others.
    """

    about: ClassVar[str] = "venue"
    venue: str
    fee_tiers: tuple[FeeTier, ...] = ()
    latency_ms: int = 0
    intrabar: IntrabarPath = IntrabarPath.WORST
    instruments: dict[InstrumentId, InstrumentCosts] = {}


class InstrumentLimits(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Limits of one instrument; ``None`` means not limited, and says so on the tape."""

    max_order_notional: Decimal | None = None
    max_position: Decimal | None = None


class SessionsScheduled(Event, frozen=True, gc=False):
    """When an instrument trades. Without this fact it always does.

    Attributes:
        zone: whose local time the sessions are in.
        weekly: sessions as minutes since Monday 00:00 local time, from and up to; past a week's end where it is later.
        offsets: since when (UTC ns) local time is how many seconds ahead of UTC.
        closed: days since 1970-01-01, local time, on which no session begins.
    """

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    zone: str
    weekly: tuple[tuple[int, int], ...]
    offsets: tuple[tuple[int, int], ...]
    closed: tuple[int, ...] = ()


class LimitsSet(Event, frozen=True, gc=False):
    """What risk enforces. ``None`` means not limited. Notionals are in account currency, positions in base units.

    Attributes:
        max_daily_loss: loss since 00:00 UTC, marked to market, at which trading halts.
        max_price_age_ms: how old the last price may be when an order is judged.
        max_input_age_ms: how old a strategy's decision may be when risk judges it.
        price_collar_bps: how far a limit or stop price may lie from the last price, on the aggressive side.
        max_drawdown: fall of equity from its highest value, marked to market, at which trading halts.
        cool_down_ms: how long a strategy that left a position opens none in that instrument.
    """

    max_order_notional: Decimal | None = None
    max_position: Decimal | None = None
    max_gross_exposure: Decimal | None = None
    max_open_positions: int | None = None
    max_daily_loss: Decimal | None = None
    max_price_age_ms: int | None = None
    max_input_age_ms: int | None = None
    price_collar_bps: Decimal | None = None
    approval_valid_ms: int = 60_000
    instruments: dict[InstrumentId, InstrumentLimits] = {}
    max_drawdown: Decimal | None = None
    cool_down_ms: int | None = None


class StrategyConfigured(Event, frozen=True, gc=False):
    """One strategy instance, bound to exactly these instruments. ``regimes`` empty: it does not look at regimes."""

    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    kind: str
    instruments: tuple[InstrumentId, ...]
    timeframe: str
    size: Decimal
    parameters: Parameters
    regimes: tuple[Regime, ...] = ()
    uses_presets: bool = False


class RegimeConfigured(Event, frozen=True, gc=False, omit_defaults=True):
    """Whether and how regimes are learnt for an instrument. ``train_bars`` is the rolling window of a fit.

    Attributes:
        timeframe: whose bars count, where finer ones are heard as well; every bar, and not written, if empty.
    """

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    train_bars: int
    refit_bars: int
    promote_first: bool
    timeframe: str = ""


class BanditConfigured(Event, frozen=True, gc=False):
    """Settings of the preset bandit: prior precision, exploration scale, discount and probability floor per arm."""

    prior_precision: float
    scale: float
    discount: float
    floor: float


class PresetRequested(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    preset: str
    parameters: Parameters


class HaltRequested(Event, frozen=True, gc=False):
    issuer: str
    reason: str


class FlattenRequested(Event, frozen=True, gc=False):
    issuer: str
    reason: str


class StrategyDisableRequested(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    issuer: str
    reason: str


class ResumeRequested(Event, frozen=True, gc=False):
    """Loosening: carries the operator's sequence and Ed25519 signature as verified at the door."""

    issuer: str
    reason: str
    sequence: int
    signature: str


class StrategyEnableRequested(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    issuer: str
    reason: str
    sequence: int
    signature: str


class PromotionRequested(Event, frozen=True, gc=False):
    about: ClassVar[str] = "model"
    model: ModelId
    issuer: str
    reason: str
    sequence: int
    signature: str


class RollbackRequested(Event, frozen=True, gc=False):
    """Go back to the model promoted before the current one."""

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    issuer: str
    reason: str
    sequence: int
    signature: str


# ---- marketdata --------------------------------------------------------------------------------------------------


class InstrumentListed(Event, frozen=True, gc=False):
    """What can be traded. ``None`` for tick or lot: prices or quantities are taken as they are."""

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    name: str
    venue: str
    base: str
    quote: str
    tick_size: Decimal | None = None
    lot_size: Decimal | None = None
    min_notional: Decimal | None = None
    calendar: str = "24/7"


class FeedOpened(Event, frozen=True, gc=False, omit_defaults=True):
    """Where bars come from, and what was found out about the source (time unit, timeframe, content hash).

    Attributes:
        stale_after_ns: how long after its opening a bar of this feed is too old to act on, because a later one has
            closed since; 0: never, because its bars do not close by the clock that stamps facts (files, a simulated
            market).
    """

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    source: str
    timeframe: str
    detail: str
    stale_after_ns: int = 0


class BarClosed(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    timeframe: str
    open_ns: int
    close_ns: int
    open: DecimalText
    high: DecimalText
    low: DecimalText
    close: DecimalText
    volume: DecimalText


class DataRejected(Event, frozen=True, gc=False):
    """A bar or trade that was not accepted as it came, or (GAP) bars that never came."""

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    fault: DataFault
    open_ns: int
    detail: str


class FeedInterrupted(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    kind: FeedTroubleKind
    detail: str


class FeedResumed(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    backfilled: int


class FundingPublished(Event, frozen=True, gc=False):
    """A perpetual's funding rate took effect: longs pay shorts ``rate`` of notional at ``mark_price``."""

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    rate: Decimal
    mark_price: Decimal


# ---- venue -------------------------------------------------------------------------------------------------------


class OrderAccepted(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    venue_order_id: str


class OrderRejected(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    reason: Rejection
    detail: str


class FillCosts(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What the slippage of a fill is made of: quote currency per unit, positive against us, exactly summing to it.

    Attributes:
        latency: the price moved while the order was on its way.
        path: the bar's worst price was taken where the bar does not tell the one at that moment.
        fixed: ``slippage_bps``.
        spread: half the spread.
        volume: impact by our share of the bar's volume.
        root: impact by the square root of quantity over volume.
        grid: rounding to the tick; below zero where the order's limit kept costs off.
    """

    latency: Decimal
    path: Decimal
    fixed: Decimal
    spread: Decimal
    volume: Decimal
    root: Decimal
    grid: Decimal


class OrderFilled(Event, frozen=True, gc=False, omit_defaults=True):
    """One execution. Every cost is visible here.

    Attributes:
        slippage: adverse difference per unit between ``price`` and the undisturbed price, in quote currency.
        trade_id: the venue's name of this execution; a fill is counted once by (order, trade_id).
        costs: what ``slippage`` is made of, from a simulated venue with more costs than a fixed slippage; not written
            otherwise.
    """

    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    strategy: StrategyId
    instrument: InstrumentId
    trade_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    slippage: Decimal
    costs: FillCosts | None = None


class OrderCanceled(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    reason: CancelReason


class OrderExpired(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str


class OrderOutcomeUnknown(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    detail: str


class BalanceReported(Event, frozen=True, gc=False):
    """What the venue says we hold, per currency, after exactly the fills recorded before this fact.

    Attributes:
        heard: last position whose capital and funding are in ``balances``; 0 means everything before this fact.
    """

    about: ClassVar[str] = "venue"
    venue: str
    balances: dict[str, Decimal]
    heard: int = 0


class BorrowCharged(Event, frozen=True, gc=False):
    """A simulated venue charged every short position of an instrument for the UTC days that ended since the last time.

    Attributes:
        days: how many days ended.
        rate: fraction of the position's value, for all these days together.
        price: what positions were valued at.
    """

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    days: int
    rate: Decimal
    price: Decimal


# ---- ledger ------------------------------------------------------------------------------------------------------


class PositionChanged(Event, frozen=True, gc=False):
    """A strategy's position after a fill. Signed quantity in base units; money in the instrument's quote currency."""

    about: ClassVar[str] = "instrument"
    strategy: StrategyId
    instrument: InstrumentId
    quantity: Decimal
    average_price: Decimal
    realised_pnl: Decimal
    fees: Decimal


class TradeClosed(Event, frozen=True, gc=False):
    """A position returned to flat (or turned). ``decision`` is the preset decision the opening order was made under.

    Attributes:
        pnl: exact sum of the cash flows of the trade's fills, in quote currency, before ``fees`` and ``funding``.
        funding: paid (negative) or received (positive) while the trade was open, borrowing included.
    """

    about: ClassVar[str] = "strategy"
    trade: str
    strategy: StrategyId
    instrument: InstrumentId
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    opened_ns: int
    closed_ns: int
    pnl: Decimal
    fees: Decimal
    decision: str
    funding: Decimal = Decimal(0)


class EquityMarked(Event, frozen=True, gc=False):
    """Cash plus positions at their last prices, in account currency."""

    marked_ns: int
    cash: Decimal
    equity: Decimal
    exposure: Decimal


class FundingPosted(Event, frozen=True, gc=False):
    """Funding paid (negative) or received (positive) by a strategy's position."""

    about: ClassVar[str] = "instrument"
    strategy: StrategyId
    instrument: InstrumentId
    amount: Decimal
    currency: str


class BorrowPosted(Event, frozen=True, gc=False):
    """What borrowing cost (negative) a strategy's short position."""

    about: ClassVar[str] = "instrument"
    strategy: StrategyId
    instrument: InstrumentId
    amount: Decimal
    currency: str


class BooksReconciled(Event, frozen=True, gc=False):
    """The books against what the venue reported. ``differences`` is empty when they agree."""

    about: ClassVar[str] = "venue"
    venue: str
    differences: dict[str, Decimal]


# ---- trainer: the regime service's worker ------------------------------------------------------------------------


class ModelRegistered(Event, frozen=True, gc=False):
    """A trained model, whole: the tape needs no file to replay it. ``arrays`` are the model's plain numbers."""

    about: ClassVar[str] = "instrument"
    model: ModelId
    instrument: InstrumentId
    arrays: dict[str, Any]
    bars: int
    first_open_ns: int
    last_open_ns: int
    log_likelihood: float
    restarts: int


class TrainingFailed(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    reason: TrainingFault
    detail: str


# ---- regime ------------------------------------------------------------------------------------------------------


class RegimeUpdated(Event, frozen=True, gc=False):
    """Filtered probabilities of BULL, BEAR and CHOP after the bar opened at ``bar_open_ns``.

    UNKNOWN with no probabilities means that no model is promoted; it is said once, and again when a model goes away.
    """

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    bar_open_ns: int
    regime: Regime
    probabilities: tuple[float, ...]
    model: ModelId | None
    log_likelihood: float | None


class TrainingRequested(Event, frozen=True, gc=False):
    """Asks the trainer for a model of the bars up to here."""

    about: ClassVar[str] = "instrument"
    instrument: InstrumentId
    bars: int


class ModelPromoted(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    model: ModelId
    instrument: InstrumentId
    previous: ModelId | None
    reason: str


class ModelRolledBack(Event, frozen=True, gc=False):
    about: ClassVar[str] = "instrument"
    model: ModelId
    instrument: InstrumentId
    previous: ModelId
    reason: str


class PromotionRefused(Event, frozen=True, gc=False):
    about: ClassVar[str] = "subject"
    subject: str
    reason: PromotionRefusal
    detail: str


# ---- bandit ------------------------------------------------------------------------------------------------------


class PresetRegistered(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    preset: str
    parameters: Parameters


class PresetRefused(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    preset: str
    reason: PresetRefusal
    detail: str


class PresetChosen(Event, frozen=True, gc=False):
    """Which preset a strategy uses from now on, with everything needed to judge the choice later.

    ``presets``, ``means``, ``deviations`` and ``propensities`` are parallel; the chosen one was drawn from
    ``propensities``.
    """

    about: ClassVar[str] = "strategy"
    decision: str
    strategy: StrategyId
    instrument: InstrumentId
    preset: str
    presets: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    propensities: tuple[float, ...]
    context: tuple[float, ...]


class PresetRewarded(Event, frozen=True, gc=False):
    about: ClassVar[str] = "strategy"
    decision: str
    strategy: StrategyId
    preset: str
    trade: str
    reward: float


# ---- strategy ----------------------------------------------------------------------------------------------------


class OrderTerms(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What is to be done, carried unchanged from proposal to submission."""

    strategy: StrategyId
    instrument: InstrumentId
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    purpose: Purpose = Purpose.SIGNAL
    decision: str = ""


class OrderProposed(Event, frozen=True, gc=False):
    """A strategy wants to trade. ``decided_ns`` is its clock, so that risk can tell how old the thought is."""

    about: ClassVar[str] = "order"
    order: OrderId
    terms: OrderTerms
    decided_ns: int
    bar_open_ns: int
    target: Decimal
    regime: Regime


class TradeDeclined(Event, frozen=True, gc=False):
    """There was a signal and it was not acted on, or the reason for standing aside changed."""

    about: ClassVar[str] = "strategy"
    strategy: StrategyId
    instrument: InstrumentId
    reason: Decline
    bar_open_ns: int
    target: Decimal
    detail: str = ""


class LiquidationOrdered(Event, frozen=True, gc=False):
    """A simulated venue closes a position that the account cannot carry; its fill follows. Said as ``venue``.

    Attributes:
        equity: what the account is worth at the bar's worst price for the position.
        needed: maintenance margin of all positions there; more than ``equity``.
    """

    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    terms: OrderTerms
    equity: Decimal
    needed: Decimal


# ---- risk --------------------------------------------------------------------------------------------------------


class OrderApproved(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    terms: OrderTerms
    valid_until_ns: int


class OrderRefused(Event, frozen=True, gc=False):
    """``observed`` and ``limit`` in the unit of the limit that refused."""

    about: ClassVar[str] = "order"
    order: OrderId
    strategy: StrategyId
    instrument: InstrumentId
    reason: Refusal
    observed: str
    limit: str


class LimitBreached(Event, frozen=True, gc=False):
    reason: HaltReason
    observed: str
    limit: str


class TradingHalted(Event, frozen=True, gc=False):
    reason: HaltReason
    detail: str


class TradingResumed(Event, frozen=True, gc=False):
    detail: str


# ---- execution ---------------------------------------------------------------------------------------------------


class OrderSubmitted(Event, frozen=True, gc=False):
    """The intent to send, recorded before anything is sent. ``approval`` is the tape position of the approval."""

    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    terms: OrderTerms
    approval: int
    valid_until_ns: int


class OrderWithheld(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    reason: Withheld


class CancelSubmitted(Event, frozen=True, gc=False):
    about: ClassVar[str] = "order"
    order: OrderId
    client_order_id: str
    reason: CancelReason


class LifecycleViolated(Event, frozen=True, gc=False):
    """The venue said something that an order in this state cannot do. Nothing was changed by it."""

    about: ClassVar[str] = "order"
    order: OrderId
    state: OrderState | None
    event: str
    detail: str


# ---- laboratory: studies, which have tapes of their own ----------------------------------------------------------


class StudyGround(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What trials of a study run on: one instrument's bars in one period.

    Attributes:
        instrument: its name.
        source: name of the file.
        digest: SHA-256 of the file's bytes.
        timeframe: bars that the strategy decides on, made of the file's if those are shorter.
        part: what the period is for.
        fold: pairs of training and test are counted from 0; -1 where there are none.
        first_open_ns: opening time of the first bar on which a trial may trade.
        last_close_ns: end of the last such bar.
        bars: from the first to the last of them.
        warm_up_bars: bars before them that a trial hears without trading.
        days: UTC days on which bars close, each of which gives one return.
        trials: most trials that run here.
    """

    instrument: str
    source: str
    digest: str
    timeframe: str
    part: TrialPart
    fold: int
    first_open_ns: int
    last_close_ns: int
    bars: int
    warm_up_bars: int
    days: int
    trials: int


class StudyOpened(Event, frozen=True, gc=False):
    """A study began: everything its results follow from. The same content is the same study, with the same tape.

    Attributes:
        study: name made from all other fields.
        kind: what the study is for.
        strategies: kinds of strategy, in the order of the call.
        space: values that were to be tried, by strategy and parameter, as text.
        candidates: how many settings of each strategy are tried on each ground of a search.
        objective: the figure that is searched for.
        gear: gear that trials run in; one that cannot run a trial hands it to the loop gear.
        configuration: everything else that trials run under, as JSON.
        skipped: settings that were left out because their values do not go together.
        total: how many trials the study has when it is finished.
    """

    about: ClassVar[str] = "study"
    study: str
    kind: StudyKind
    method: SearchMethod
    strategies: tuple[str, ...]
    space: dict[str, dict[str, tuple[str, ...]]]
    candidates: int
    skipped: int
    objective: str
    seed: int
    gear: str
    code_version: str
    configuration: str
    grounds: tuple[StudyGround, ...]
    total: int


class TrialFigures(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a trial came to. Money in account currency, exact; ratios are fractions, annualised by the calendar.

    Attributes:
        bars: bars on which it could trade.
        days: UTC days, each of which gave a return.
        omega: sum of the days' gains over the sum of their losses.
        expectancy: mean result of a trade, in money.
        sqn: square root of the number of trades, times the mean of their results over its deviation (Van Tharp);
            only where the study asked for it.
        exposure_share: share of the bars after which something was held.
        market_change: last close over first close, less one.
        refused, declined: how often each reason was given.
    """

    bars: int
    days: int
    net_profit: Decimal
    total_return: float
    final_equity: Decimal
    fees: Decimal
    slippage: Decimal
    max_drawdown: float
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    omega: float | None
    orders: int
    fills: int
    trades: int
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    sqn: float | None
    exposure_share: float
    market_change: float
    refused: dict[str, int]
    declined: dict[str, int]


class TrialFinished(Event, frozen=True, gc=False):
    """One strategy with one setting ran on one ground of a study.

    Attributes:
        study: name of the study.
        number: trials of a study are numbered from 0 in the order in which they are recorded.
        ground: index in the study's ``grounds``.
        first_open_ns: opening time of the first bar it could trade on.
        last_close_ns: end of the last one.
        seed: seed of what the trial itself draws.
        figures: what it came to.
        returns: SHA-256 of its daily returns as little-endian binary64, which are kept beside the tape.
    """

    about: ClassVar[str] = "study"
    study: str
    number: int
    strategy: str
    parameters: Parameters
    instrument: str
    timeframe: str
    ground: int
    first_open_ns: int
    last_close_ns: int
    seed: int
    figures: TrialFigures
    returns: str


class TrialRefused(Event, frozen=True, gc=False):
    """A trial gave no result. It counts as tried.

    Attributes:
        study: name of the study.
        number: as in ``TrialFinished``.
        ground: index in the study's ``grounds``.
    """

    about: ClassVar[str] = "study"
    study: str
    number: int
    strategy: str
    parameters: Parameters
    ground: int
    reason: TrialRefusal
    detail: str


class StudyFinished(Event, frozen=True, gc=False):
    """Every trial of a study is on its tape.

    Attributes:
        study: name of the study.
        finished: trials with a result.
        refused: trials without one.
        best: number of the best trial by the objective, -1 for none; of a walk-forward, of the best test.
    """

    about: ClassVar[str] = "study"
    study: str
    finished: int
    refused: int
    best: int


# ---- who says what -----------------------------------------------------------------------------------------------

SAYS: dict[str, tuple[type[Event], ...]] = {
    "operator": (
        RunStarted,
        CodeDeployed,
        AccountFunded,
        VenueConfigured,
        CostsConfigured,
        SessionsScheduled,
        LimitsSet,
        StrategyConfigured,
        RegimeConfigured,
        BanditConfigured,
        PresetRequested,
        HaltRequested,
        FlattenRequested,
        StrategyDisableRequested,
        ResumeRequested,
        StrategyEnableRequested,
        PromotionRequested,
        RollbackRequested,
    ),
    "marketdata": (
        InstrumentListed,
        FeedOpened,
        BarClosed,
        DataRejected,
        FeedInterrupted,
        FeedResumed,
        FundingPublished,
    ),
    "venue": (
        OrderAccepted,
        OrderRejected,
        OrderFilled,
        OrderCanceled,
        OrderExpired,
        OrderOutcomeUnknown,
        BalanceReported,
        BorrowCharged,
        LiquidationOrdered,
    ),
    "ledger": (PositionChanged, TradeClosed, EquityMarked, FundingPosted, BorrowPosted, BooksReconciled),
    "trainer": (ModelRegistered, TrainingFailed),
    "regime": (RegimeUpdated, TrainingRequested, ModelPromoted, ModelRolledBack, PromotionRefused),
    "bandit": (PresetRegistered, PresetRefused, PresetChosen, PresetRewarded),
    "strategy": (OrderProposed, TradeDeclined),
    "risk": (OrderApproved, OrderRefused, LimitBreached, TradingHalted, TradingResumed),
    "execution": (OrderSubmitted, OrderWithheld, CancelSubmitted, LifecycleViolated),
    "laboratory": (StudyOpened, TrialFinished, TrialRefused, StudyFinished),
}
"""Author → the types only it may say. The order of authors is the order in which replay records their answers.

The laboratory writes tapes of studies and is on no bus: no service has it among its authors, so nobody is permitted to
say its facts there.
"""

AUTHOR_OF: dict[type[Event], str] = {event: author for author, events in SAYS.items() for event in events}
EVENT_BY_NAME: dict[str, type[Event]] = {event.__name__: event for event in AUTHOR_OF}

RUN_STREAM = "run"
"""The stream of facts that are about the whole run."""


STREAMS: dict[type[Event], Callable[[Any], str]] = {
    event: attrgetter(event.about) if event.about else lambda _event: RUN_STREAM for event in AUTHOR_OF
}
"""How the stream of each type is found."""


def stream_of(event: Event) -> str:
    """The stream a fact belongs to: the value of its ``about`` field, or ``run``."""
    return STREAMS[type(event)](event)
