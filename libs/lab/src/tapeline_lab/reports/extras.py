"""What other parts of the laboratory may hand to a page: plain arrays, so that nobody has to import anybody.

Each is drawn where it is given and left out where not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Surface(msgspec.Struct, frozen=True):
    """A figure over two parameters.

    values: shape (len(y), len(x)), NaN where nothing was tried. chosen: (x, y) of the run, if it is among them.
    ground: a sentence on what it was tried, where that is not the run itself.
    """

    figure: str
    x_name: str
    x: Sequence[float]
    y_name: str
    y: Sequence[float]
    values: Floats
    chosen: tuple[float, float] | None = None
    ground: str = ""


class Fold(msgspec.Struct, frozen=True):
    """One step of a walk-forward: what the chosen parameters did where they were chosen, and after it."""

    name: str
    in_sample: float
    out_of_sample: float


class Folds(msgspec.Struct, frozen=True):
    """figure: what the two numbers of each fold are, such as `Sharpe`."""

    figure: str
    folds: Sequence[Fold]


class Fan(msgspec.Struct, frozen=True):
    """Resampled paths of equity over start: quantile (0.05, 0.5, 0.95, ...) → shape (n,), at ``steps`` (days, from 0).

    observed: what happened, at the same steps as far as it went.
    """

    quantiles: Mapping[float, Floats]
    steps: Ints
    observed: Floats


class Extras(msgspec.Struct, frozen=True):
    surface: Surface | None = None
    folds: Folds | None = None
    fan: Fan | None = None
