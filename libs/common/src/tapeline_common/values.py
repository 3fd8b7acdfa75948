"""Closed vocabularies: every word a fact may use for a side, a state or a reason.

Reasons for saying no are enums, never free text, so that a refusal can be counted, alerted on and compared between a
backtest and a live session. This module holds no behaviour beyond naming.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

InstrumentId = NewType("InstrumentId", str)
"""Opaque token of an instrument (letters, digits, ``-``, ``_``). Names become tokens once, at configuration."""

StrategyId = NewType("StrategyId", str)
"""Name of one configured strategy instance; an instance is bound to exactly its instruments."""

OrderId = NewType("OrderId", str)
"""Our own name of an order, from proposal to last fill: ``<strategy>-<position of the cause>-<index>``."""

ModelId = NewType("ModelId", str)
"""SHA-256 (hex) of a model's canonical bytes."""

DecimalText = NewType("DecimalText", str)
"""An exact decimal as its source printed it: ``Decimal(text)`` for money, ``float(text)`` for indicators."""


class Realm(StrEnum):
    """Who stamps outside facts: the wall clock (LIVE) or the replay clock (REPLAY)."""

    LIVE = "LIVE"
    REPLAY = "REPLAY"


class Side(StrEnum):
    """``sign``: 1 for a buy, -1 for a sale. An attribute of each member: every fill multiplies by it several times."""

    sign: int

    BUY = "BUY"
    SELL = "SELL"

    def __init__(self, word: str) -> None:
        self.sign = 1 if word == "BUY" else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    DAY = "DAY"


class Liquidity(StrEnum):
    MAKER = "MAKER"
    TAKER = "TAKER"


class IntrabarPath(StrEnum):
    """In which order a bar is taken to have reached its prices.

    WORST: whatever is worse for us came first. ADAPTIVE: the extreme nearer to the open came first (O-H-L-C, else
    O-L-H-C).
    """

    WORST = "WORST"
    ADAPTIVE = "ADAPTIVE"


class Purpose(StrEnum):
    """Why an order exists. A FLATTEN order only ever reduces a position and is allowed while flattening.

    LIQUIDATION: the venue's own order, closing what the account can no longer carry.
    """

    SIGNAL = "SIGNAL"
    FLATTEN = "FLATTEN"
    LIQUIDATION = "LIQUIDATION"


class Regime(StrEnum):
    BULL = "BULL"
    BEAR = "BEAR"
    CHOP = "CHOP"
    UNKNOWN = "UNKNOWN"


class TradingState(StrEnum):
    """What may be sent: anything approved, nothing at all, or only orders that flatten."""

    RUNNING = "RUNNING"
    HALTED = "HALTED"
    FLATTENING = "FLATTENING"


class OrderState(StrEnum):
    """Where an order stands. Being in flight is a state, and so is not knowing.

    ``is_terminal``: nothing leads out of it. An attribute of each member, because every report asks for it.
    """

    is_terminal: bool

    SUBMITTED = "SUBMITTED"
    WORKING = "WORKING"
    PARTLY_FILLED = "PARTLY_FILLED"
    CANCEL_SUBMITTED = "CANCEL_SUBMITTED"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    WITHHELD = "WITHHELD"

    def __init__(self, word: str) -> None:
        self.is_terminal = word in ("FILLED", "CANCELED", "EXPIRED", "REJECTED", "WITHHELD")


class PositionSide(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"


class DataFault(StrEnum):
    """Why a bar, or a trade that bars are built from, was not accepted as it came."""

    GAP = "GAP"
    DUPLICATE = "DUPLICATE"
    REVISED = "REVISED"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    HIGH_BELOW_LOW = "HIGH_BELOW_LOW"
    OPEN_OUTSIDE_RANGE = "OPEN_OUTSIDE_RANGE"
    CLOSE_OUTSIDE_RANGE = "CLOSE_OUTSIDE_RANGE"
    NOT_FINITE = "NOT_FINITE"
    NOT_A_NUMBER_TEXT = "NOT_A_NUMBER_TEXT"
    NON_POSITIVE_PRICE = "NON_POSITIVE_PRICE"
    NEGATIVE_VOLUME = "NEGATIVE_VOLUME"
    OFF_GRID = "OFF_GRID"
    NON_POSITIVE_SIZE = "NON_POSITIVE_SIZE"
    SIDE_MISSING = "SIDE_MISSING"


class FeedTroubleKind(StrEnum):
    """Two families of outside errors: the line failed (retry), or the request is wrong (a person must act).

    HISTORY_MISSING: the source was asked repeatedly and has no bars of a stretch of time; the feed goes on after it.
    """

    INTERRUPTED = "INTERRUPTED"
    RATE_LIMITED = "RATE_LIMITED"
    REFUSED = "REFUSED"
    MALFORMED = "MALFORMED"
    HISTORY_MISSING = "HISTORY_MISSING"


class Decline(StrEnum):
    """Why a strategy with a signal did not propose an order."""

    REGIME_UNKNOWN = "REGIME_UNKNOWN"
    REGIME_BLOCKED = "REGIME_BLOCKED"
    PRESET_MISSING = "PRESET_MISSING"
    STRATEGY_DISABLED = "STRATEGY_DISABLED"
    TRADING_HALTED = "TRADING_HALTED"
    ORDER_IN_FLIGHT = "ORDER_IN_FLIGHT"
    ORDER_REFUSED = "ORDER_REFUSED"
    QUANTITY_BELOW_LOT = "QUANTITY_BELOW_LOT"
    INPUT_STALE = "INPUT_STALE"
    PARAMETERS_INVALID = "PARAMETERS_INVALID"
    LEG_MISSING = "LEG_MISSING"


class Refusal(StrEnum):
    """Why risk refused an order."""

    TRADING_HALTED = "TRADING_HALTED"
    STRATEGY_DISABLED = "STRATEGY_DISABLED"
    LIMITS_MISSING = "LIMITS_MISSING"
    INSTRUMENT_UNKNOWN = "INSTRUMENT_UNKNOWN"
    QUANTITY_INVALID = "QUANTITY_INVALID"
    PRICE_INVALID = "PRICE_INVALID"
    PRICE_MISSING = "PRICE_MISSING"
    PRICE_STALE = "PRICE_STALE"
    INPUT_STALE = "INPUT_STALE"
    PRICE_COLLAR = "PRICE_COLLAR"
    BELOW_MIN_NOTIONAL = "BELOW_MIN_NOTIONAL"
    MAX_ORDER_NOTIONAL = "MAX_ORDER_NOTIONAL"
    MAX_POSITION = "MAX_POSITION"
    MAX_GROSS_EXPOSURE = "MAX_GROSS_EXPOSURE"
    MAX_OPEN_POSITIONS = "MAX_OPEN_POSITIONS"
    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    COOL_DOWN = "COOL_DOWN"
    REDUCE_ONLY_WOULD_INCREASE = "REDUCE_ONLY_WOULD_INCREASE"
    ORDER_ALREADY_DECIDED = "ORDER_ALREADY_DECIDED"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"


class HaltReason(StrEnum):
    OPERATOR = "OPERATOR"
    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    BOOKS_MISMATCH = "BOOKS_MISMATCH"
    LIFECYCLE_VIOLATED = "LIFECYCLE_VIOLATED"


class Withheld(StrEnum):
    """Why a recorded submission was not sent after all."""

    TRADING_HALTED = "TRADING_HALTED"
    APPROVAL_EXPIRED = "APPROVAL_EXPIRED"


class Rejection(StrEnum):
    """Why the venue rejected an order."""

    INSTRUMENT_UNKNOWN = "INSTRUMENT_UNKNOWN"
    CLIENT_ORDER_ID_USED = "CLIENT_ORDER_ID_USED"
    QUANTITY_INVALID = "QUANTITY_INVALID"
    PRICE_INVALID = "PRICE_INVALID"
    BELOW_MIN_NOTIONAL = "BELOW_MIN_NOTIONAL"
    MARGIN_INSUFFICIENT = "MARGIN_INSUFFICIENT"
    SHORT_NOT_ALLOWED = "SHORT_NOT_ALLOWED"
    ORDER_UNKNOWN = "ORDER_UNKNOWN"


class CancelReason(StrEnum):
    OPERATOR_HALT = "OPERATOR_HALT"
    FLATTEN = "FLATTEN"
    IMMEDIATE_OR_CANCEL = "IMMEDIATE_OR_CANCEL"
    FILL_OR_KILL = "FILL_OR_KILL"
    STRATEGY_DISABLED = "STRATEGY_DISABLED"
    REDUCE_ONLY = "REDUCE_ONLY"
    LIQUIDATION = "LIQUIDATION"
    REQUESTED = "REQUESTED"


class TrainingFault(StrEnum):
    """Why a training run gave no model."""

    BAD_SETTING = "BAD_SETTING"
    TOO_FEW_BARS = "TOO_FEW_BARS"
    NO_VARIATION = "NO_VARIATION"
    NO_USABLE_FIT = "NO_USABLE_FIT"
    FAULTY_MODEL = "FAULTY_MODEL"


class PromotionRefusal(StrEnum):
    MODEL_UNKNOWN = "MODEL_UNKNOWN"
    HASH_MISMATCH = "HASH_MISMATCH"
    MODEL_INVALID = "MODEL_INVALID"
    ALREADY_PROMOTED = "ALREADY_PROMOTED"
    NOTHING_TO_ROLL_BACK_TO = "NOTHING_TO_ROLL_BACK_TO"


class PresetRefusal(StrEnum):
    STRATEGY_UNKNOWN = "STRATEGY_UNKNOWN"
    PRESET_NAME_USED = "PRESET_NAME_USED"
    PRESETS_NOT_USED = "PRESETS_NOT_USED"
    CONTEXT_INVALID = "CONTEXT_INVALID"


class AppendRefusal(StrEnum):
    """Why the ledger did not record what it was asked to."""

    MALFORMED = "MALFORMED"
    AUTHOR_UNKNOWN = "AUTHOR_UNKNOWN"
    NOT_YOUR_EVENT = "NOT_YOUR_EVENT"
    ID_CONFLICT = "ID_CONFLICT"
    ID_MISSING = "ID_MISSING"
    CAUSE_UNKNOWN = "CAUSE_UNKNOWN"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    TIME_NOT_ALLOWED = "TIME_NOT_ALLOWED"
    STREAM_INVALID = "STREAM_INVALID"
    NOT_WRITABLE = "NOT_WRITABLE"


class ControlRefusal(StrEnum):
    """Why a control request changed nothing."""

    MALFORMED = "MALFORMED"
    ACTION_UNKNOWN = "ACTION_UNKNOWN"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    ISSUER_UNKNOWN = "ISSUER_UNKNOWN"
    SEQUENCE_USED = "SEQUENCE_USED"
    EXPIRED = "EXPIRED"
    NOT_RECORDED = "NOT_RECORDED"


class StudyKind(StrEnum):
    SWEEP = "SWEEP"
    WALK_FORWARD = "WALK_FORWARD"
    SENSITIVITY = "SENSITIVITY"
    COMPARISON = "COMPARISON"


class SearchMethod(StrEnum):
    """How settings are chosen. SOBOL: an even sequence, scrambled by the seed. BAYESIAN: learns from results."""

    GRID = "GRID"
    RANDOM = "RANDOM"
    SOBOL = "SOBOL"
    BAYESIAN = "BAYESIAN"


class TrialPart(StrEnum):
    """What a ground is for: judged as it is, searched on, or a test of what was found."""

    WHOLE = "WHOLE"
    IN_SAMPLE = "IN_SAMPLE"
    OUT_OF_SAMPLE = "OUT_OF_SAMPLE"


class TrialRefusal(StrEnum):
    """Why a trial gave no result. NOT_TOGETHER: its values contradict each other. FAILED: the strategy raised."""

    NOT_TOGETHER = "NOT_TOGETHER"
    GEAR_REFUSED = "GEAR_REFUSED"
    FAILED = "FAILED"
