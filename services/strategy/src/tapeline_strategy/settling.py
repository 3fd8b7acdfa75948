"""How long exponential averages remember the bar they began with, for ``Strategy.settles``.

Smoothing by a share keeps that share of the error at every bar, so n bars leave share**n of it. A beginning counts as
forgotten when ``FORGOTTEN`` of it is left. What lies in a window is forgotten when the window is full, and needs no
function. Nothing is measured here; ``tapeline recursive-analysis`` does.
"""

from __future__ import annotations

from math import ceil, log

FORGOTTEN = 1e-7
"""A tenth of the relative difference that ``recursive-analysis`` lets pass: a mean that begins with the wildest bars of
a market is several times what it settles at."""


def exponential(length: int) -> int:
    """Bars until an average with the smoothing constant 2 / (length + 1) has forgotten the first."""
    return 1 + _bars(1.0 - 2.0 / (length + 1))


def wilder(length: int) -> int:
    """Bars until an average with the smoothing constant 1 / length has forgotten the mean it began with, and one for
    the close before the first change."""
    return length + 1 + _bars(1.0 - 1.0 / length)


def _bars(share: float) -> int:
    return ceil(log(FORGOTTEN) / log(share)) if share > 0.0 else 0
