"""What must be recognised for good: names and a number for each, in little memory however many they become.

The newest names are kept as they are, in a dictionary. Older ones are packed: 128 bits of BLAKE2b of the name, and the
number in as few bytes as do, in sorted arrays that are merged as they grow (each at least twice as long as the next).
128 bits of a good hash do not collide among all the names any tape will ever hold, so a packed name is as certain as a
kept one.

Nothing is ever forgotten here: what may be forgotten needs no such thing. This module knows nothing of orders, fills or
streams.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_NAMES = 256
"""Names that stay unpacked at least; when there are twice as many, the older half is packed."""

_DIGEST_BYTES = 16


Wholes = NDArray[np.unsignedinteger[Any]]


class _Run:
    """Packed names in the order of their digests: the halves of each digest and the number. Shapes (n,)."""

    __slots__ = ("first", "numbers", "second")

    def __init__(self, first: Wholes, second: Wholes, numbers: Wholes) -> None:
        self.first = first
        self.second = second
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.first)

    def find(self, first: int, second: int) -> int | None:
        at = int(np.searchsorted(self.first, np.uint64(first)))
        while at < len(self.first) and int(self.first[at]) == first:
            if int(self.second[at]) == second:
                return int(self.numbers[at])
            at += 1
        return None


class Remembered:
    """Name → number (0 or more), for good.

    Attributes:
        recent: the newest names, oldest first. Whoever writes to it directly calls ``pack`` now and then.
        kept: names that ``pack`` leaves there.
    """

    __slots__ = ("_runs", "kept", "recent")

    def __init__(self, numbers: Iterable[tuple[str, int]] = (), kept: int = KEPT_NAMES) -> None:
        self.recent: dict[str, int] = {}
        self._runs: list[_Run] = []
        self.kept = kept
        for name, number in numbers:
            self[name] = number

    def __setitem__(self, name: str, number: int) -> None:
        self.recent[name] = number
        if len(self.recent) >= 2 * self.kept:
            self.pack()

    def __contains__(self, name: object) -> bool:
        return name in self.recent or (isinstance(name, str) and self.packed(name) is not None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remembered) and self.content() == other.content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Remembered({len(self.recent)} recent, {sum(map(len, self._runs))} packed)"

    def get(self, name: str, default: int = 0) -> int:
        number = self.recent.get(name)
        if number is None:
            number = self.packed(name)
        return default if number is None else number

    def packed(self, name: str) -> int | None:
        """The number of a name that is not among the recent ones; ``None`` if it was never given."""
        if not self._runs:
            return None
        first, second = _halves(name)
        for run in reversed(self._runs):
            number = run.find(first, second)
            if number is not None:
                return number
        return None

    def pack(self) -> None:
        """Pack the oldest names until ``kept`` are left."""
        recent = self.recent
        oldest = list(islice(recent.items(), max(0, len(recent) - self.kept)))
        for name, _ in oldest:
            del recent[name]
        if not oldest:
            return
        digests = b"".join([_digest(name) for name, _ in oldest])
        halves = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
        numbers = [number for _, number in oldest]
        run = _sorted(halves[:, 0], halves[:, 1], np.array(numbers, dtype=np.min_scalar_type(max(numbers))))
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)

    def content(self) -> dict[tuple[int, int], int]:
        """Digest (its halves) → number of every name, for comparing: how much of it is packed makes no difference."""
        found: dict[tuple[int, int], int] = {}
        for run in self._runs:
            names = zip(run.first.tolist(), run.second.tolist(), strict=True)
            found.update(zip(names, run.numbers.tolist(), strict=True))
        found.update((_halves(name), number) for name, number in self.recent.items())
        return dict(sorted(found.items()))


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=_DIGEST_BYTES).digest()


def _halves(name: str) -> tuple[int, int]:
    digest = _digest(name)
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def _sorted(first: Wholes, second: Wholes, numbers: Wholes) -> _Run:
    order = np.lexsort((second, first))
    return _Run(first[order], second[order], numbers[order])


def _merged(older: _Run, newer: _Run) -> _Run:
    """Both as one; a name that is in both has the newer number."""
    run = _sorted(
        np.concatenate([older.first, newer.first]),
        np.concatenate([older.second, newer.second]),
        np.concatenate([older.numbers, newer.numbers]),
    )
    is_last = np.append((run.first[1:] != run.first[:-1]) | (run.second[1:] != run.second[:-1]), True)
    return _Run(run.first[is_last], run.second[is_last], run.numbers[is_last])
