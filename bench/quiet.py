"""Waits until the machine has nothing else to do, and says so where it has.

Only what is at work before a measurement can be told from the measurement; medians of pairs are for what comes later.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

BUSY_PERCENT = 10.0
"""Of all cores. Servers of a section that just ended need a moment to write and to go."""
LOOK_S = 1.0
PATIENCE_S = 30.0

Say = Callable[[str], None]


def settled(say: Say, busy: Callable[[float], float] | None = None, patience_s: float = PATIENCE_S) -> str:
    """Return when the machine is quiet, with nothing to say; else after ``patience_s`` with a sentence for readers.

    ``busy`` gives the percentage of all cores in use over so many seconds.
    """
    busy = busy or psutil.cpu_percent
    until = time.monotonic() + patience_s
    while (percent := busy(LOOK_S)) >= BUSY_PERCENT:
        if time.monotonic() >= until:
            say(f"other programs keep {percent:.0f} % of the cores busy: measuring all the same")
            return f"When this section began, other programs kept {percent:.0f} % of the cores busy."
    return ""
