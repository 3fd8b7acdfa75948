"""vectorbt runs the reference strategy with many pairs of lengths, or with one. Prints JSON.

``python vectorbt_pairs.py BARS.parquet FASTS SLOWS TIMES``, lengths as ``5,6,7``. All pairs at once, as that library
wants it: averages, signals and the simulation over one matrix with a column for each pair. Signals are moved on by a
bar and filled at the open, which is our fill rule; a signal at the last bar is an order without a fill. Everything is
done so many times and the last time is the figure: from the second on, compiling is not part of it. What the time
before held is given back.
"""

import gc
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import vectorbt as vbt  # type: ignore[import-not-found, unused-ignore]


def run(frame: Any, fasts: Sequence[int], slows: Sequence[int]) -> tuple["np.ndarray", "np.ndarray"]:
    """Final equity and number of orders of each pair, slow lengths running faster."""
    closes = frame["close"]
    averages = {n: closes.ewm(span=n, adjust=False).mean().to_numpy() for n in (*fasts, *slows)}
    pairs = [(fast, slow) for fast in fasts for slow in slows]
    is_long = np.empty((len(closes), len(pairs)), dtype=bool)
    for column, (fast, slow) in enumerate(pairs):
        is_long[:, column] = averages[fast] >= averages[slow]
        is_long[: slow - 1, column] = False
    before = np.vstack([np.zeros((1, len(pairs)), dtype=bool), is_long[:-1]])
    earlier = np.vstack([np.zeros((2, len(pairs)), dtype=bool), is_long[:-2]])
    found = vbt.Portfolio.from_signals(
        closes,
        before & ~earlier,
        ~before & earlier,
        price=frame["open"],
        size=1.0,
        fees=0.001,
        init_cash=1_000_000.0,
        freq="1min",
    )
    orders = np.asarray(found.orders.count()) + (is_long[-1] != is_long[-2])
    return np.atleast_1d(found.final_value()), np.atleast_1d(orders)


def main(path: str, fasts: Sequence[int], slows: Sequence[int], times: int) -> None:
    frame = pd.read_parquet(path)
    for _ in range(times - 1):
        run(frame, fasts, slows)
        gc.collect()
    started, started_cpu = time.perf_counter(), time.process_time()
    equities, orders = run(frame, fasts, slows)
    elapsed_s = time.perf_counter() - started
    answer = {
        "elapsed_s": elapsed_s,
        "busy_cores": (time.process_time() - started_cpu) / elapsed_s,
        "runs": len(equities),
        "orders": int(orders.sum()),
        "final_equity": float(equities[0]),
        "best_equity": float(equities.max()),
        "worst_equity": float(equities.min()),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    listed = [[int(length) for length in given.split(",")] for given in sys.argv[2:4]]
    main(sys.argv[1], listed[0], listed[1], int(sys.argv[4]))
