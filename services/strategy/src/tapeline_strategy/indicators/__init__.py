"""Indicators: each written once, as a step of plain arithmetic, for strategies, for columns and for compiled code."""

from tapeline_strategy.indicators.catalogue import CATALOGUE, IndicatorUnknown, find
from tapeline_strategy.indicators.indicator import Family, Indicator, Recall
from tapeline_strategy.indicators.running import Running, bar_by_bar

__all__ = ["CATALOGUE", "Family", "Indicator", "IndicatorUnknown", "Recall", "Running", "bar_by_bar", "find"]
