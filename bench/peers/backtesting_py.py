"""backtesting.py runs the reference strategy: ``python backtesting_py.py BARS.parquet``. Prints one JSON object.

Averages are computed ahead over the whole column, as that library wants it, by the same recurrence and from the same
first value as ours. Orders fill at the next bar's open. Its trades are counted by their closed ones, so a position that
is open at the end is one order short of ours.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
from backtesting import Backtest, Strategy  # type: ignore[import-not-found, unused-ignore]

FAST, SLOW = 10, 30


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

    def init(self) -> None:
        closes = np.asarray(self.data.Close)
        self.fast = self.I(average, closes, FAST)
        self.slow = self.I(average, closes, SLOW)

    def next(self) -> None:
        if len(self.data) < SLOW:
            return
        is_long = self.position.size > 0
        if self.fast[-1] >= self.slow[-1]:
            if not is_long:
                self.buy(size=1)
        elif is_long:
            self.position.close()


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    frame = pd.read_parquet(path).rename(columns=str.capitalize)
    frame.index = pd.to_datetime(frame.pop("Ts"), unit="ms")
    backtest = Backtest(frame, Cross, cash=1_000_000, commission=0.001, finalize_trades=False)
    started = time.perf_counter()
    found = backtest.run()
    elapsed_s = time.perf_counter() - started
    answer = {
        "elapsed_s": elapsed_s,
        "orders": 2 * len(found["_trades"]),
        "final_equity": float(found["Equity Final [$]"]),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
