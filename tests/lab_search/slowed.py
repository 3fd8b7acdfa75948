"""The command line with trials that take a moment each, so that a kill in the middle of a study is in its middle."""

from __future__ import annotations

import time
from typing import Any

from tapeline_backtest import batch
from tapeline_common.cli import main

TRIAL_S = 0.02
_run_batch = batch.run_batch


def slowed(plan: Any, market: Any, grid: Any, memories: Any = None) -> Any:
    time.sleep(TRIAL_S * len(grid))
    return _run_batch(plan, market, grid, memories)


if __name__ == "__main__":
    batch.run_batch = slowed
    main()
