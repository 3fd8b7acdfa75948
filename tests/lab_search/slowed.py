"""The command line with trials that take a moment each, so that a kill in the middle of a study is in its middle."""

from __future__ import annotations

import time
from typing import Any

from tapeline_backtest import kernel
from tapeline_common.cli import main

TRIAL_S = 0.02
_run = kernel.run


def slowed(*arguments: Any, **options: Any) -> Any:
    time.sleep(TRIAL_S)
    return _run(*arguments, **options)


if __name__ == "__main__":
    kernel.run = slowed
    main()
