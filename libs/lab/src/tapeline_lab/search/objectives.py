"""What a search looks for: one figure of a trial, by name, and which of two values of it is better.

Nothing is computed here that a trial's figures do not hold; ``figures`` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from tapeline_common.events import TrialFigures

T = TypeVar("T")


class Objective(StrEnum):
    """Figures by which trials are ranked; a drawdown is better the smaller it is, everything else the larger."""

    NET_PROFIT = "net_profit"
    TOTAL_RETURN = "total_return"
    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    OMEGA = "omega"
    PROFIT_FACTOR = "profit_factor"
    MAX_DRAWDOWN = "max_drawdown"
    EXPECTANCY = "expectancy"
    SQN = "sqn"
    WIN_RATE = "win_rate"


def value_of(figures: TrialFigures, objective: Objective) -> Decimal | float | None:
    """The figure itself; absent where it is not defined, such as a Sharpe ratio of returns that never change."""
    value: Decimal | float | None = getattr(figures, objective.value)
    return value


def score_of(figures: TrialFigures, objective: Objective) -> Decimal | float | None:
    """The figure turned so that larger is better."""
    value = value_of(figures, objective)
    return -value if value is not None and objective is Objective.MAX_DRAWDOWN else value


def ranked(trials: Iterable[T], figures: Callable[[T], TrialFigures], objective: Objective) -> list[T]:
    """Best first; those without the figure last, equal ones in the order they came in."""

    def key(trial: T) -> tuple[bool, Decimal | float]:
        score = score_of(figures(trial), objective)
        return score is None, 0.0 if score is None else -score

    return sorted(trials, key=key)


def best_of(trials: Sequence[T], figures: Callable[[T], TrialFigures], objective: Objective) -> T | None:
    """The first of the best; ``None`` if none has the figure."""
    with_figure = [trial for trial in trials if value_of(figures(trial), objective) is not None]
    return ranked(with_figure, figures, objective)[0] if with_figure else None
