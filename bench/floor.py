"""What no kernel can beat: a compiled loop that only reads the columns. ``python -m bench.floor BARS.parquet PASSES``.

Adds up open, high, low, close and volume, a pass after the other on one core. The code is compiled before it is timed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numba
import numpy as np
import pyarrow.parquet

COLUMNS = ("open", "high", "low", "close", "volume")


@numba.njit
def added_up(opens: Any, highs: Any, lows: Any, closes: Any, volumes: Any) -> float:
    opened = high = low = closed = volume = 0.0
    for bar in range(len(opens)):
        opened += opens[bar]
        high += highs[bar]
        low += lows[bar]
        closed += closes[bar]
        volume += volumes[bar]
    return opened + high + low + closed + volume


def main(path: Path, passes: int) -> None:
    table = pyarrow.parquet.read_table(path, columns=list(COLUMNS))
    columns = [np.ascontiguousarray(table[name].to_numpy()) for name in COLUMNS]
    total = added_up(*(column[:1] for column in columns))
    started = time.perf_counter()
    for _ in range(passes):
        total += added_up(*columns)
    elapsed_s = time.perf_counter() - started
    sys.stdout.write(msgspec.json.encode({"elapsed_s": elapsed_s, "total": total}).decode() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
