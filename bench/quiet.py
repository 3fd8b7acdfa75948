"""What else the machine is doing: waits until that is little, and measures how much it was.

Medians of pairs help against what comes and goes; a reader must still know whether the machine was busy all along.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

BUSY_PERCENT = 10.0
"""Of all cores. Servers of a section that just ended need a moment to write and to go."""
LOOK_S = 1.0
PATIENCE_S = 30.0

Say = Callable[[str], None]


def settle(say: Say, busy: Callable[[float], float] = psutil.cpu_percent, patience_s: float = PATIENCE_S) -> None:
    """Return when the machine is quiet, or after ``patience_s``.

    ``busy`` gives the percentage of all cores in use over so many seconds.
    """
    until = time.monotonic() + patience_s
    while (percent := busy(LOOK_S)) >= BUSY_PERCENT:
        if time.monotonic() >= until:
            say(f"other programs keep {percent:.0f} % of the cores busy: measuring all the same")
            return


class Meter:
    """What others took of the cores since it was made: whatever was busy and neither we nor a child of ours that ended.

    A machine that lends its cores elsewhere (steal) counts as others, too.
    """

    def __init__(self) -> None:
        self._started_s, self._idle_s, self._own_s = _now()

    def others_percent(self) -> float:
        ended_s, idle_s, own_s = _now()
        cores_s = (ended_s - self._started_s) * (psutil.cpu_count() or 1)
        return others_percent(cores_s, idle_s - self._idle_s, own_s - self._own_s)


def others_percent(cores_s: float, idle_s: float, own_s: float) -> float:
    """Share of all cores' seconds that were neither idle nor our own; clocks are coarse, so never below zero."""
    return 100.0 * max(0.0, cores_s - idle_s - own_s) / cores_s if cores_s > 0 else 0.0


def _now() -> tuple[float, float, float]:
    """Wall seconds, idle seconds of all cores, and processor seconds of this process and its children that ended."""
    times = psutil.cpu_times()
    own = os.times()
    own_s = own.user + own.system + own.children_user + own.children_system
    return time.monotonic(), times.idle + getattr(times, "iowait", 0.0), own_s
