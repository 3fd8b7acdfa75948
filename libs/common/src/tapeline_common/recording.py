"""Where the facts of a run go, if anywhere: the protocol that a tape file and a Postgres log share.

A gear hands over what it has recorded, in order; what becomes of it is none of its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tapeline_common.sequencer import Recorded

    Lengths: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]


class RecordingRefused(Exception):
    """There is nowhere to record to; the message names the place and the fix. Nothing was changed."""


class RecordingFailed(Exception):
    """Recording stopped in the middle of a run; the message says what is kept."""


class Recorder(Protocol):
    """Takes the facts of one run from position 1 on."""

    def take(self, recorded: Recorded) -> None:
        """The next fact."""

    def take_block(self, payloads: bytes, lengths: Lengths, head_hash: bytes | None = None) -> None:
        """The next facts at once; equal in effect to ``take`` of each.

        Args:
            payloads: stored bytes of the facts, in order, with nothing between them.
            lengths: bytes of each, shape (n,); their sum is ``len(payloads)``.
            head_hash: hash after the last of them, if it is known already.
        """

    def close(self) -> None:
        """The run is over: returns when everything is durable."""

    def abandon(self) -> None:
        """The run failed: keep what was taken, and raise nothing."""
