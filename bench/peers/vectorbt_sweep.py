"""vectorbt sweeps the reference strategy: ``python vectorbt_sweep.py BARS.parquet``. Prints one JSON object.

A hundred pairs of lengths at once, as that library wants it: averages, signals and the simulation over one matrix with
a column for each pair. Signals are moved on by a bar and filled at the open, which is our fill rule. The second of two
sweeps is timed, so that compiling is not part of it.
"""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import vectorbt as vbt  # type: ignore[import-not-found, unused-ignore]

FASTS, SLOWS = range(5, 15), range(20, 66, 5)


def sweep(frame: Any) -> "np.ndarray":
    """Final equity of each pair, slow lengths running faster."""
    closes = frame["close"]
    averages = {n: closes.ewm(span=n, adjust=False).mean().to_numpy() for n in (*FASTS, *SLOWS)}
    pairs = [(fast, slow) for fast in FASTS for slow in SLOWS]
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
    return np.asarray(found.final_value())


def main(path: str) -> None:
    frame = pd.read_parquet(path)
    sweep(frame)
    started = time.perf_counter()
    equities = sweep(frame)
    answer = {
        "elapsed_s": time.perf_counter() - started,
        "runs": len(equities),
        "best_equity": float(equities.max()),
        "worst_equity": float(equities.min()),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
