"""The standard normal law, for single numbers: from the standard library, so that no command loads scipy for it."""

from __future__ import annotations

import math
from statistics import NormalDist

_STANDARD = NormalDist()


def share_below(value: float) -> float:
    """Φ(value), exact in both tails."""
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


def quantile(share: float) -> float:
    """Φ⁻¹(share), for shares strictly between 0 and 1."""
    return _STANDARD.inv_cdf(share)
