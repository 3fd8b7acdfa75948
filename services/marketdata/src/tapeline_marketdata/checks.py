"""Is this bar fit for decisions? A pure checker with a watermark; its verdicts become facts.

A bar is judged by itself (numbers, range, grid) and then against the last accepted one (repeated, revised, older, a gap
before it). A rejected bar never moves the watermark, so one bad bar cannot hide the good one that follows it.
A gap is reported, not refused: the bars after it are true, and only a calendar knows whether the market was closed.
Nothing here reads files or clocks, and nothing is repaired.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from tapeline_common.events import BarClosed
from tapeline_common.values import DataFault
from tapeline_marketdata.bars import NOT_FINITE_WORDS, PLAIN_DECIMAL
from tapeline_marketdata.timeframe import grid_offset_ns

FIELDS = ("open", "high", "low", "close", "volume")
_PLAIN_TEXTS = re.compile(" ".join([PLAIN_DECIMAL.pattern] * len(FIELDS)))
"""All five texts in one match: a text with a space in it would make a sixth."""


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """The bar is valid and directly follows the last accepted one, or is the first."""


class AcceptedAfterGap(msgspec.Struct, frozen=True, tag=True):
    """The bar is valid, but ``missing_bars`` before it never came, the first of them opening at ``since_ns``."""

    missing_bars: int
    since_ns: int

    @property
    def fault(self) -> DataFault:
        return DataFault.GAP


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The bar must not reach a decision; ``detail`` names the field and the values."""

    fault: DataFault
    detail: str


Verdict = Accepted | AcceptedAfterGap | Rejected

ACCEPTED = Accepted()


class CheckerState(msgspec.Struct, frozen=True):
    """The last accepted bar: its open time, and open, high, low, close, volume as printed. None before the first."""

    watermark_ns: int | None = None
    content: tuple[str, str, str, str, str] | None = None


class Checker:
    """Judges the bars of one instrument and timeframe, in the order in which they come.

    >>> checker = Checker(parse_timeframe("1m"), state=restored_state)
    >>> verdict = checker.check(bar)
    """

    __slots__ = ("_grid_offset_ns", "_timeframe_ns", "state")

    def __init__(
        self, timeframe_ns: int | None, state: CheckerState | None = None, offset_ns: int | None = None
    ) -> None:
        """Describe the bars.

        timeframe_ns: their length; None for bars without a fixed one, which have neither grid nor gaps.
        offset_ns: where the grid starts, for venues whose bars do not open on the UTC grid.
        """
        if timeframe_ns is not None and timeframe_ns <= 0:
            raise ValueError(f"timeframe_ns is {timeframe_ns}: it must be positive")
        self._timeframe_ns = timeframe_ns
        usual_offset_ns = 0 if timeframe_ns is None else grid_offset_ns(timeframe_ns)
        self._grid_offset_ns = usual_offset_ns if offset_ns is None else offset_ns
        self.state = state if state is not None else CheckerState()

    def check(self, bar: BarClosed) -> Verdict:
        """The verdict on this bar; only an accepted bar moves the watermark."""
        rejected = self._off_grid(bar) or fault_of_content(bar) or self._behind_watermark(bar)
        if rejected is not None:
            return rejected
        watermark_ns = self.state.watermark_ns
        self.state = CheckerState(bar.open_ns, (bar.open, bar.high, bar.low, bar.close, bar.volume))
        length_ns = self._timeframe_ns
        if watermark_ns is None or length_ns is None or bar.open_ns == watermark_ns + length_ns:
            return ACCEPTED
        since_ns = watermark_ns + length_ns
        return AcceptedAfterGap((bar.open_ns - since_ns) // length_ns, since_ns)

    def _off_grid(self, bar: BarClosed) -> Rejected | None:
        if self._timeframe_ns is None:
            if bar.close_ns > bar.open_ns:
                return None
            return Rejected(DataFault.OFF_GRID, f"closes at {bar.close_ns} ns, not after it opens at {bar.open_ns} ns")
        if (bar.open_ns - self._grid_offset_ns) % self._timeframe_ns:
            return Rejected(
                DataFault.OFF_GRID,
                f"open time {bar.open_ns} ns is no multiple of {self._timeframe_ns} ns from {self._grid_offset_ns} ns",
            )
        if bar.close_ns - bar.open_ns != self._timeframe_ns:
            return Rejected(
                DataFault.OFF_GRID,
                f"the bar is {bar.close_ns - bar.open_ns} ns long, its timeframe {self._timeframe_ns} ns",
            )
        return None

    def _behind_watermark(self, bar: BarClosed) -> Rejected | None:
        watermark_ns, content = self.state.watermark_ns, self.state.content
        if watermark_ns is None or bar.open_ns > watermark_ns:
            return None
        if bar.open_ns < watermark_ns:
            return Rejected(
                DataFault.OUT_OF_ORDER, f"opens at {bar.open_ns} ns, before the last accepted bar at {watermark_ns} ns"
            )
        assert content is not None, "a watermark without its bar"
        now = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        changes = [
            f"{field} {before} became {after}"
            for field, before, after in zip(FIELDS, content, now, strict=True)
            if Decimal(before) != Decimal(after)
        ]
        if changes:
            return Rejected(DataFault.REVISED, f"bar at {bar.open_ns} ns came again changed: {', '.join(changes)}")
        return Rejected(DataFault.DUPLICATE, f"bar at {bar.open_ns} ns came again unchanged")


def fault_of_content(bar: BarClosed) -> Rejected | None:
    """What is wrong with the bar taken alone, or None. Exact: every comparison is between Decimals."""
    texts = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    if not _PLAIN_TEXTS.fullmatch(" ".join(texts)):
        named = zip(FIELDS, texts, strict=True)
        return next(not_a_number(field, text) for field, text in named if not PLAIN_DECIMAL.fullmatch(text))
    open_price, high, low, close, volume = map(Decimal, texts)
    if low <= high and low > 0 and low <= open_price <= high and low <= close <= high and volume >= 0:
        return None
    for field, price in zip(FIELDS, (open_price, high, low, close), strict=False):
        if price <= 0:
            return Rejected(DataFault.NON_POSITIVE_PRICE, f"{field} is {getattr(bar, field)}: a price is above 0")
    if volume < 0:
        return Rejected(DataFault.NEGATIVE_VOLUME, f"volume is {bar.volume}: it cannot be below 0")
    if high < low:
        return Rejected(DataFault.HIGH_BELOW_LOW, f"high {bar.high} is below low {bar.low}")
    if not low <= open_price <= high:
        return Rejected(DataFault.OPEN_OUTSIDE_RANGE, f"open {bar.open} is outside {bar.low} to {bar.high}")
    return Rejected(DataFault.CLOSE_OUTSIDE_RANGE, f"close {bar.close} is outside {bar.low} to {bar.high}")


def not_a_number(field: str, text: str) -> Rejected:
    """Why this text is no number that a bar or a trade may carry."""
    if text.strip().lstrip("+-").lower() in NOT_FINITE_WORDS:
        return Rejected(DataFault.NOT_FINITE, f"{field} is {text}: a number must be finite")
    return Rejected(DataFault.NOT_A_NUMBER_TEXT, f"{field} is {text[:40]!r}: not a plain decimal such as 0.00001")
