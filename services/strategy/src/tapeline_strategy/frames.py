"""Strategies in Freqtrade's shape: three methods over a frame of bars, run on point-in-time windows.

At every bar the methods get a new frame of the bars so far, at most ``WINDOW_BARS`` or ``startup_candle_count`` of
them, and the last row decides. Later rows do not exist yet, so nothing that looks ahead can find anything there, and a
fresh object is made for every bar, so nothing is kept but what is in ``Follower``. It is slow, by construction: use it
to carry a strategy over, and write what it found as a plain one.

What carries over is in the documentation's table. What does not is refused by name when the class is read, with the
reason; nothing of a strategy is silently left out. The frames have no times and no name of the pair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Bar, Number, Parameter, Strategy

WINDOW_BARS = 500
"""Rows of a frame, where the strategy does not ask for more: about what an exchange gives in one answer."""

MINUTES = {"m": 1, "h": 60, "d": 1_440, "w": 10_080}

METHODS = ("populate_indicators", "populate_entry_trend", "populate_exit_trend")

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("populate_buy_trend", "populate_sell_trend"), "it is of an older interface: name it entry and exit"
    ),
    **dict.fromkeys(
        ("trailing_stop", "use_custom_stoploss", "custom_stoploss", "custom_exit", "custom_roi"),
        "a stop that moves needs the state of a trade: write a plain strategy (trend_follow has such a stop)",
    ),
    **dict.fromkeys(
        ("custom_entry_price", "custom_exit_price", "adjust_entry_price", "adjust_exit_price", "adjust_order_price"),
        "strategies say how much exposure they want and never at which price",
    ),
    **dict.fromkeys(
        ("custom_stake_amount", "adjust_trade_position", "position_adjustment_enable", "leverage"),
        "the size of a position is the instance's `size` and risk's limits",
    ),
    **dict.fromkeys(
        ("confirm_trade_entry", "confirm_trade_exit", "check_entry_timeout", "check_exit_timeout", "order_filled"),
        "orders are risk's and execution's; a strategy does not see them",
    ),
    **dict.fromkeys(
        ("informative_pairs",), "an instance hears one instrument in one timeframe, and no other"
    ),
    **dict.fromkeys(("bot_start", "bot_loop_start"), "a strategy does nothing but answer bars"),
    **dict.fromkeys(("protections",), "limits are configured in [risk]: cool_down_ms, max_drawdown, max_daily_loss"),
    **dict.fromkeys(
        ("exit_profit_only", "ignore_roi_if_entry_signal", "ignore_buying_expired_candle_after"),
        "it is not carried over",
    ),
}  # fmt: skip
"""What a class may not have (or must have false), and why."""


class FramesRefused(ValueError):
    """A class that cannot be carried over. The message names what is in the way, and the way out."""


@dataclass(frozen=True, slots=True)
class Tunable:
    """A parameter declared as an attribute of the class; in its methods ``self.name.value`` is what was chosen."""

    kind: type[Number]
    low: Number
    high: Number
    value: Number


class IntParameter(Tunable):
    """A whole number from ``low`` to ``high``. Other keywords (``space``, ``optimize``, ``load``) mean nothing here."""

    def __init__(self, low: int, high: int, *, default: int, **_other: Any) -> None:
        super().__init__(int, low, high, default)


class DecimalParameter(Tunable):
    """A number from ``low`` to ``high``."""

    def __init__(self, low: float, high: float, *, default: float, **_other: Any) -> None:
        super().__init__(float, float(low), float(high), float(default))


class BooleanParameter(Tunable):
    """True or false."""

    def __init__(self, *, default: bool, **_other: Any) -> None:
        super().__init__(bool, False, True, default)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a class says beside its methods.

    Attributes:
        window: rows of a frame.
        roi: (minutes held, gain at which to leave), the longest time first.
        stoploss: loss at which to leave, as a fraction below zero.
    """

    written: type[Any]
    names: tuple[str, ...]
    startup: int
    window: int
    minutes: int
    can_short: bool
    uses_exits: bool
    stoploss: float
    roi: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class Follower:
    """One setting of such a strategy following one instrument.

    Attributes:
        side: +1, -1 or 0, as decided at the last bar.
        price: where the position was taken: the open of the bar after the decision; 0 until that bar is there.
        held: bars since then.
    """

    values: tuple[Number, ...]
    rows: deque[Bar]
    side: int = 0
    price: float = 0.0
    held: int = 0
    bars: int = 0

    def on_bar(self, rules: Rules, bar: Bar) -> float:
        """Wanted exposure after this bar: -1, 0 or 1, or NaN until ``startup_candle_count`` bars are there."""
        self.rows.append(bar)
        self.bars += 1
        if self.side:
            self.held += 1
            if self.price == 0.0:
                self.price = bar.open
        if self.bars < rules.startup:
            return nan
        left = 0
        if self.side and self._is_over(rules, bar):
            left, self.side = self.side, 0
        signals = _signals(rules, self.values, self.rows)
        if self.side and rules.uses_exits and signals.exits(self.side):
            left, self.side = self.side, 0
        if not self.side:
            entered = signals.entered(can_short=rules.can_short)
            self.side = entered if entered != left else 0
            self.price, self.held = 0.0, 0
        return float(self.side)

    def _is_over(self, rules: Rules, bar: Bar) -> bool:
        """Stop loss, touched within the bar, or the gain that is enough after this time, at its close."""
        worst = bar.low if self.side > 0 else bar.high
        if self.side * (worst - self.price) <= rules.stoploss * self.price:
            return True
        gain = self.side * (bar.close - self.price)
        minutes = self.held * rules.minutes
        enough = next((least for after, least in rules.roi if minutes >= after), None)
        return enough is not None and gain >= enough * self.price


@dataclass(frozen=True, slots=True)
class Signals:
    """The last row's signals."""

    enter_long: bool
    exit_long: bool
    enter_short: bool
    exit_short: bool

    def exits(self, side: int) -> bool:
        """An exit is one only where no entry of the same side stands beside it."""
        return (self.exit_long and not self.enter_long) if side > 0 else (self.exit_short and not self.enter_short)

    def entered(self, *, can_short: bool) -> int:
        """The side to enter; 0 where signals contradict each other."""
        long = self.enter_long and not self.exit_long
        short = can_short and self.enter_short and not self.exit_short
        return int(long) - int(short)


def _signals(rules: Rules, values: tuple[Number, ...], rows: deque[Bar]) -> Signals:
    """Run the three methods over the bars so far."""
    import pandas

    frame = pandas.DataFrame(list(rows), columns=list(Bar._fields), dtype=float)
    strategy = rules.written()
    for name, value in zip(rules.names, values, strict=True):
        declared = getattr(strategy, name)
        setattr(strategy, name, Tunable(declared.kind, declared.low, declared.high, value))
    try:
        for method in METHODS:
            frame = getattr(strategy, method)(frame, {})
    except KeyError as trouble:
        trouble.add_note(f"{rules.written.__name__}: frames have the columns {', '.join(Bar._fields)} and no metadata")
        raise
    last = frame.iloc[-1]
    return Signals(*(bool(last.get(name, 0) == 1) for name in Signals.__slots__))


def from_frames(written: type[Any]) -> Strategy:
    """The strategy of a class with ``populate_indicators``, ``populate_entry_trend`` and ``populate_exit_trend``.

    It goes by the name of the class. Its ``IntParameter``, ``DecimalParameter`` and ``BooleanParameter`` attributes are
    its parameters.

    Raises:
        FramesRefused: something in it does not carry over, or pandas is missing.
    """
    rules = _rules(written)
    declared = {name: _tunable(written, name) for name in rules.names}
    return Strategy(
        name=written.__name__,
        description=_sentence(written),
        parameters=tuple(
            Parameter(name, each.kind, each.value, each.low, each.high, f"{name} of {written.__name__}")
            for name, each in declared.items()
        ),
        warm_up=lambda _parameters: rules.startup,
        start=lambda parameters: _start(rules, parameters),
        step=lambda memory, *numbers: memory.on_bar(rules, Bar(*numbers[-len(Bar._fields) :])),
        is_numeric=False,
        timeframe=written.timeframe,
        settles=lambda _parameters: rules.window,
        carries=("side", "price", "held"),
    )


def _start(rules: Rules, parameters: Parameters) -> Follower:
    values: Any = tuple(parameters.values())
    return Follower(values, deque(maxlen=rules.window))


def _sentence(written: type[Any]) -> str:
    text = (written.__doc__ or "").strip().partition("\n")[0]
    return text or f"{written.__name__}, carried over by the adapter for frames."


def _tunables(written: type[Any]) -> tuple[str, ...]:
    """Names of its parameters, as declared; those of base classes first."""
    names = (name for base in reversed(written.__mro__) for name, value in vars(base).items() if _is_tunable(value))
    return tuple(dict.fromkeys(name for name in names if _is_tunable(getattr(written, name))))


def _is_tunable(value: object) -> bool:
    return isinstance(value, Tunable)


def _tunable(written: type[Any], name: str) -> Tunable:
    found: Tunable = getattr(written, name)
    return found


def _rules(written: type[Any]) -> Rules:
    _refuse_what_does_not_carry_over(written)
    startup = max(1, int(getattr(written, "startup_candle_count", 1)))
    roi = {int(after): float(least) for after, least in dict(getattr(written, "minimal_roi", {})).items()}
    stoploss = float(getattr(written, "stoploss", -1.0))
    if not -1.0 <= stoploss < 0.0:
        raise FramesRefused(f"stoploss is {stoploss}: use a fraction from -1 (none) to below 0, such as -0.1")
    return Rules(
        written=written,
        names=_tunables(written),
        startup=startup,
        window=max(WINDOW_BARS, startup),
        minutes=_minutes(written),
        can_short=bool(getattr(written, "can_short", False)),
        uses_exits=bool(getattr(written, "use_exit_signal", True)),
        stoploss=stoploss if stoploss > -1.0 else -float("inf"),
        roi=tuple(sorted(roi.items(), reverse=True)),
    )


def _refuse_what_does_not_carry_over(written: type[Any]) -> None:
    missing = [name for name in METHODS if not callable(getattr(written, name, None))]
    if missing:
        raise FramesRefused(f"{', '.join(missing)} is missing: a strategy over frames has all of {', '.join(METHODS)}")
    for base in written.__mro__:
        if base.__module__.partition(".")[0] == "freqtrade":
            raise FramesRefused(f"it inherits from {base.__module__}.{base.__name__}: leave the base class away")
    if "__init__" in vars(written):
        raise FramesRefused("__init__ is refused: an object is made for every bar and keeps nothing")
    for name, why in REFUSED.items():
        if getattr(written, name, None):
            raise FramesRefused(f"{name} is refused: {why}")
    for name in dir(written):
        if type(getattr(written, name)).__name__ in ("CategoricalParameter", "RealParameter"):
            raise FramesRefused(f"{name} is refused: parameters are IntParameter, DecimalParameter or BooleanParameter")
    try:
        import pandas  # noqa: F401
    except ImportError as trouble:
        raise FramesRefused(
            "frames need pandas, which is not installed: pip install 'tapeline-strategy[pandas]'"
        ) from trouble


def _minutes(written: type[Any]) -> int:
    """Length of a bar of the strategy's timeframe."""
    timeframe = getattr(written, "timeframe", "")
    unit, number = str(timeframe)[-1:], str(timeframe)[:-1]
    if unit not in MINUTES or not number.isdigit() or int(number) == 0:
        raise FramesRefused(f"timeframe is {timeframe!r}: say how long its bars are, such as timeframe = '5m'")
    return int(number) * MINUTES[unit]
