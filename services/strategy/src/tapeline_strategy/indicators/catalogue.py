"""Which indicators there are: one table by name, in the order of their families."""

from __future__ import annotations

from tapeline_strategy.indicators.averages import AVERAGES
from tapeline_strategy.indicators.indicator import Indicator
from tapeline_strategy.indicators.momentum import MOMENTUM
from tapeline_strategy.indicators.series import SERIES
from tapeline_strategy.indicators.trend import TREND
from tapeline_strategy.indicators.volatility import VOLATILITY
from tapeline_strategy.indicators.volume import VOLUME
from tapeline_strategy.sdk import close_match

CATALOGUE: dict[str, Indicator] = {
    indicator.name: indicator for indicator in (*AVERAGES, *MOMENTUM, *VOLATILITY, *TREND, *VOLUME, *SERIES)
}


class IndicatorUnknown(LookupError):
    """An indicator that does not exist. The message names the nearest that does."""


def find(name: str) -> Indicator:
    """The indicator of that name.

    Raises:
        IndicatorUnknown: there is none.
    """
    if name not in CATALOGUE:
        raise IndicatorUnknown(
            f"unknown indicator {name!r}{close_match(name, list(CATALOGUE))} (all: tapeline list-indicators)"
        )
    return CATALOGUE[name]
