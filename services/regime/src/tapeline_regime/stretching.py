"""The regime core ahead of a stretch: what it is going to say of bars that nobody has heard yet.

Within a stretch a strategy decides by the regime at each bar, so that has to be known before the stretch is computed.
Nothing is learnt here: the bars are filtered again when the core takes them, and who looks ahead compares the two.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from tapeline_common.bar_block import BarBlock
from tapeline_common.values import InstrumentId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tapeline_regime.core import State
    from tapeline_regime.filtering import Prepared


def model_of(state: State, instrument: InstrumentId) -> Prepared | None:
    """What filters this instrument's bars: another object after each change of models, also back to an earlier one."""
    watched = state.instruments.get(instrument)
    return None if watched is None else watched.prepared


def regimes_ahead(state: State, block: BarBlock, start: int, stop: int) -> NDArray[np.int64]:
    """Which of ``core.REGIMES`` each of rows ``start`` to ``stop`` will be, unless the model changes on the way.

    Only for a block whose bars the core has announced to echo, from the row that it hears next.
    """
    watched, bar_filter = state.instruments[block.instrument], block.bar_filter()
    assert bar_filter is not None, "an echo is announced only where there is one"
    _, beliefs, _ = bar_filter(copy(watched.features), watched.prepared, watched.belief, start, stop)
    chosen: NDArray[np.int64] = beliefs.argmax(axis=1)
    return chosen
