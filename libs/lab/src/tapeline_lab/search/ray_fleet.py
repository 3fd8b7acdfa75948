"""Trials on a Ray cluster: the extra ``tapeline-lab[ray]``.

The cluster is the one that ``RAY_ADDRESS`` names, else one that is started on this machine for the call. Its workers
read the files of bars at the same paths and compare their digests. The one door to Ray.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tapeline_lab.search.bench import Bench, Recipe, Result, Task
from tapeline_lab.search.fleet import PIECES_AHEAD, FleetFailed, in_order, pieces
from tapeline_marketdata.columns import BadFile

START_S = 120
"""How long a node may take to start: Ray's own half minute is too short for a busy machine."""


class RayFleet:
    """A fleet of Ray's workers. Raises ``FleetFailed`` if Ray is not installed or its cluster is not reached."""

    def __init__(self, recipe: Recipe, workers: int | None) -> None:
        """workers: of a cluster that is started here; one for each core unless given."""
        try:
            import ray
        except ImportError:
            raise FleetFailed("--on ray needs Ray, which is not installed: pip install 'tapeline-lab[ray]'") from None
        self._ray: Any = ray
        self._recipe = recipe
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            address = os.environ.get("RAY_ADDRESS")
            os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_S))
            own: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except Exception as trouble:  # Ray raises nothing more exact for a node that does not start.
                raise FleetFailed(f"--on ray: there is no cluster ({trouble}): see RAY_ADDRESS") from trouble
        self._workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._packed = ray.put(msgspec.msgpack.encode(recipe))
        self._work = ray.remote(run_there)

    def results(self, tasks: Sequence[Task]) -> Iterator[Result]:
        def hand_over(piece: Sequence[Task]) -> Any:
            later = self._work.remote(self._packed, list(piece))
            return lambda: self._received(later)

        return in_order(hand_over, pieces(self._recipe, tasks, self._workers), self._workers * PIECES_AHEAD)

    def _received(self, later: Any) -> list[Result]:
        try:
            found: list[Result] = self._ray.get(later)
        except self._ray.exceptions.RayTaskError as trouble:
            if isinstance(trouble.cause, BadFile):
                raise FleetFailed(f"--on ray: {trouble.cause}") from trouble
            raise
        except self._ray.exceptions.RayError as trouble:
            raise FleetFailed(f"--on ray: the cluster gave no result ({trouble})") from trouble
        return found

    def close(self) -> None:
        if self._is_ours:
            self._ray.shutdown()


_benches: dict[bytes, Bench] = {}
"""Of this worker process: the recipe it ran last, and its bench."""


def run_there(packed: bytes, piece: Sequence[Task]) -> list[Result]:
    """A piece of a study, in a worker of the cluster."""
    if packed not in _benches:
        _benches.clear()
        _benches[packed] = Bench(msgspec.msgpack.decode(packed, type=Recipe))
    return _benches[packed].run(piece)
