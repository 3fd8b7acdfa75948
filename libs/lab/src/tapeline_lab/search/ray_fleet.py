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

TRIES = 4
"""How often a cluster of our own is started. Ray's node gives each of its two Python helpers fifteen seconds to come up
and cannot be told otherwise; a machine that is busy needs longer the first time, when their code is read from disk."""

WORKER_S = 120
"""How long the first worker of a cluster of our own may take to answer."""

OBJECT_BYTES = 256 * 1024**2
"""Shared memory of a cluster of our own: a recipe and a few pieces of results, not the third of memory Ray takes."""


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
            if address:
                self._join(address)
            else:
                self._start(workers)
        self._workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._packed = ray.put(msgspec.msgpack.encode(recipe))
        self._work = ray.remote(run_there)

    def _join(self, address: str) -> None:
        try:
            self._ray.init(address=address, **QUIETLY)
        except Exception as trouble:  # Ray raises nothing more exact for a cluster that does not answer.
            raise FleetFailed(f"--on ray: no cluster answers at RAY_ADDRESS={address} ({trouble})") from trouble

    def _start(self, workers: int | None) -> None:
        """A cluster on this machine, as often as it takes within bounds, until a worker of it has answered."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers of each cluster.
        # "local": else Ray would join whatever cluster somebody left running on this machine.
        own = {
            "address": "local",
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_BYTES,
        }
        for attempt in range(1, TRIES + 1):
            try:
                self._ray.init(**own, **QUIETLY)
                break
            except Exception as trouble:  # Ray raises nothing more exact for a node that does not start.
                self._ray.shutdown()
                if attempt == TRIES:
                    raise FleetFailed(
                        f"--on ray: no cluster could be started here, {TRIES} times ({trouble}): try when the machine "
                        "is less busy, or name one that runs in RAY_ADDRESS"
                    ) from trouble
        try:
            self._ray.get(self._ray.remote(is_there).remote(), timeout=WORKER_S)
        except self._ray.exceptions.RayError as trouble:
            self._ray.shutdown()
            raise FleetFailed(f"--on ray: no worker of the cluster answers ({trouble}): see /tmp/ray") from trouble

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


QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def is_there() -> bool:
    """What the first worker is asked; it has read this module by then."""
    return True


_benches: dict[bytes, Bench] = {}
"""Of this worker process: the recipe it ran last, and its bench."""


def run_there(packed: bytes, piece: Sequence[Task]) -> list[Result]:
    """A piece of a study, in a worker of the cluster."""
    if packed not in _benches:
        _benches.clear()
        _benches[packed] = Bench(msgspec.msgpack.decode(packed, type=Recipe))
    return _benches[packed].run(piece)
