"""What a detector says: findings of a closed set of kinds, each with its column, its bar and a sentence.

A finding is something found wrong; no finding means that nothing was found by what was tried, which the analysis says
as well (cuts, runs, what could not be run).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What is wrong."""

    FUTURE_BARS = "FUTURE_BARS"
    UNFINISHED_BAR = "UNFINISHED_BAR"
    UNFINISHED_PERIOD = "UNFINISHED_PERIOD"
    WHOLE_SAMPLE = "WHOLE_SAMPLE"
    ROWS_CHANGED = "ROWS_CHANGED"
    SURVIVORSHIP = "SURVIVORSHIP"
    SAME_BAR_FILL = "SAME_BAR_FILL"
    IMPOSSIBLE_PRICE = "IMPOSSIBLE_PRICE"
    TARGET_LEAKAGE = "TARGET_LEAKAGE"
    NOT_REPEATABLE = "NOT_REPEATABLE"
    ROUNDING = "ROUNDING"
    WARM_UP_SHORT = "WARM_UP_SHORT"
    NEVER_SETTLES = "NEVER_SETTLES"
    NOT_RUN = "NOT_RUN"
    NULL_EARNS = "NULL_EARNS"


WORDS = {
    Kind.FUTURE_BARS: "uses bars that come later",
    Kind.UNFINISHED_BAR: "is said to be known at the bar's open and uses its high, low, close or volume",
    Kind.UNFINISHED_PERIOD: "uses a longer bar before it has closed",
    Kind.WHOLE_SAMPLE: "uses all of the data, to its end",
    Kind.ROWS_CHANGED: "rows appear or vanish when later bars do",
    Kind.SURVIVORSHIP: "leaves out instruments that vanish later",
    Kind.SAME_BAR_FILL: "fills in the bar whose close decided",
    Kind.IMPOSSIBLE_PRICE: "fills at a price outside the bar",
    Kind.TARGET_LEAKAGE: "is a function of returns to come",
    Kind.NOT_REPEATABLE: "differs between two runs on the same data",
    Kind.ROUNDING: "differs in the last digits with the length of the data",
    Kind.WARM_UP_SHORT: "has not settled at the declared warm-up",
    Kind.NEVER_SETTLES: "depends on where the data begins, however long it is",
    Kind.NOT_RUN: "could not be run on parts of the data",
    Kind.NULL_EARNS: "earns or loses where there is nothing to earn",
}
"""Each kind in words, to follow the name of a column."""


class Probe(StrEnum):
    """How the future was changed."""

    PREFIX = "PREFIX"
    NAN = "NAN"
    SCALED = "SCALED"
    SHUFFLED = "SHUFFLED"
    UNFINISHED = "UNFINISHED"


POISONS = (Probe.NAN, Probe.SCALED, Probe.SHUFFLED)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found wrong.

    Attributes:
        subject: strategy, pipeline or tape that it was found in.
        column: name of the output; "" where it is not of one column.
        bar: number of the first bar it shows at, from 0; ``time_ns`` is its open, UTC.
        cut: number of the last bar that was known when it showed; ``None`` where nothing was cut.
        probe: how the future was changed; ``None`` where it was not.
        nearest, farthest: how many bars ahead the nearest and the farthest bar that matter lie, where measured.
        worst: largest relative difference seen; infinite where one side has no number.
    """

    kind: Kind
    subject: str
    column: str
    bar: int
    time_ns: int
    detail: str
    cut: int | None = None
    probe: Probe | None = None
    nearest: int | None = None
    farthest: int | None = None
    worst: float | None = None

    @property
    def sentence(self) -> str:
        return f"{self.column or self.subject} {WORDS[self.kind]}: {self.detail}"


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried on one subject, and what came out.

    Attributes:
        cuts: bars after which the future was changed.
        runs: how often the subject was run.
        not_run: runs that ended with an error, by probe; the first error of each in ``errors``.
    """

    subject: str
    bars: int
    columns: int
    cuts: int
    runs: int
    seed: int
    findings: tuple[Finding, ...]
    not_run: dict[str, int] = {}
    errors: dict[str, str] = {}

    @property
    def is_clean(self) -> bool:
        return not self.findings
