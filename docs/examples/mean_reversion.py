"""A strategy of one's own, and a backtest of it: ``python docs/examples/mean_reversion.py BTCUSDT.csv``."""

import sys
from collections import deque
from math import nan
from statistics import fmean, pstdev
from typing import ClassVar

from tapeline_backtest.command import backtest
from tapeline_strategy.catalogue import add
from tapeline_strategy.sdk import Bar, Parameter, from_class


class MeanReversion:
    """Long while the close lies ``entry`` standard deviations below its mean, until it is back at the mean."""

    name: ClassVar[str] = "mean_reversion"
    description: ClassVar[str] = "Buys what has fallen far below its mean and sells it there."
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("window", int, 60, 2, 1000, "bars of the mean"),
        Parameter("entry", float, 2.0, 0.1, 10.0, "distance below the mean, in standard deviations"),
    )

    def __init__(self, window: int, entry: float) -> None:
        self.entry = entry
        self.closes: deque[float] = deque(maxlen=window)
        self.wanted = 0.0

    def on_bar(self, bar: Bar) -> float:
        self.closes.append(bar.close)
        if len(self.closes) < (self.closes.maxlen or 0):
            return nan
        mean = fmean(self.closes)
        if bar.close >= mean:
            self.wanted = 0.0
        elif bar.close < mean - self.entry * pstdev(self.closes):
            self.wanted = 1.0
        return self.wanted


STRATEGY = from_class(MeanReversion, warm_up=lambda parameters: int(parameters["window"]), carries=("wanted",))

if __name__ == "__main__":
    add(STRATEGY)
    backtest(["--strategy", "mean_reversion", "--param", "window=120", "--fee", "0.0002", "--data", sys.argv[1]])
