"""backtesting.py runs the reference strategy: ``python backtesting_py.py BARS.parquet FAST SLOW``. Prints JSON.

Averages are computed ahead over the whole column, as that library wants it, by the same recurrence and from the same
first value as ours. Orders fill at the next bar's open, which is our fill rule. It counts trades and not orders: a
closed trade had two, an open one had one, and one may still wait at the end.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
from backtesting import Backtest, Strategy  # type: ignore[import-not-found, unused-ignore]


def average(closes: "np.ndarray", length: int) -> "np.ndarray":
    values = closes.tolist()
    current = values[0]
    weight = 2.0 / (length + 1)
    found = []
    for close in values:
        current += weight * (close - current)
        found.append(current)
    return np.array(found)


class Cross(Strategy):  # type: ignore[misc]
    """Long one unit while the fast average is not below the slow one."""

    fast = slow = 0

    def init(self) -> None:
        closes = np.asarray(self.data.Close)
        self.quick = self.I(average, closes, self.fast)
        self.lazy = self.I(average, closes, self.slow)

    def next(self) -> None:
        if len(self.data) < self.slow:
            return
        is_long = self.position.size > 0
        if self.quick[-1] >= self.lazy[-1]:
            if not is_long:
                self.buy(size=1)
        elif is_long:
            self.position.close()


def main(path: str, fast: int, slow: int) -> None:
    warnings.simplefilter("ignore")
    frame = pd.read_parquet(path).rename(columns=str.capitalize)
    frame.index = pd.to_datetime(frame.pop("Ts"), unit="ms")
    backtest = Backtest(frame, Cross, cash=1_000_000, commission=0.001, finalize_trades=False)
    started = time.perf_counter()
    found = backtest.run(fast=fast, slow=slow)
    elapsed_s = time.perf_counter() - started
    strategy = found["_strategy"]
    answer = {
        "elapsed_s": elapsed_s,
        "orders": 2 * len(found["_trades"]) + len(strategy.trades) + len(strategy.orders),
        "final_equity": float(found["Equity Final [$]"]),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
