"""What must be recognised for good: names and a number for each, in little memory however many they become.

The newest names are kept as they are, in a dictionary. Older ones are packed: 128 bits of BLAKE2b of the name, and the
number in as few bytes as do, in sorted arrays that are merged as they grow (each at least twice as long as the next).
Merging needs little beside the two that it merges: memory that is needed for a moment stays with the process, too.
128 bits of a good hash do not collide among all the names any tape will ever hold, so a packed name is as certain as a
kept one.

Nothing is ever forgotten here: what may be forgotten needs no such thing. This module knows nothing of orders, fills or
streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_NAMES = 256
"""Names that stay unpacked at least; when there are twice as many, the older half is packed."""

MERGED_AT_ONCE = 4_096
"""Names of the newer of two runs."""

_DIGEST_BYTES = 16
_DIGEST = np.dtype(f"S{_DIGEST_BYTES}")
"""Compared byte by byte. A single one loses its trailing zeros, so digests stay in arrays."""

Digests = NDArray[np.bytes_]
Wholes = NDArray[np.unsignedinteger[Any]]


class _Run:
    """Packed names in the order of their digests, and their numbers. Shapes (n,)."""

    __slots__ = ("digests", "numbers")

    def __init__(self, digests: Digests, numbers: Wholes) -> None:
        self.digests = digests
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.digests)

    def part(self, start: int, stop: int) -> _Run:
        return _Run(self.digests[start:stop], self.numbers[start:stop])

    def find(self, digest: Digests) -> int | None:
        """The number of the one name in ``digest``."""
        at = int(np.searchsorted(self.digests, digest)[0])
        is_there = at < len(self.digests) and bool((self.digests[at : at + 1] == digest)[0])
        return int(self.numbers[at]) if is_there else None


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
        digest = _digests([name])
        for run in reversed(self._runs):
            number = run.find(digest)
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
        digests = _digests([name for name, _ in oldest])
        numbers = [number for _, number in oldest]
        order = np.argsort(digests)
        run = _Run(digests[order], np.array(numbers, dtype=np.min_scalar_type(max(numbers)))[order])
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)

    def content(self) -> dict[bytes, int]:
        """Digest → number of every name, for comparing: how much of it is packed makes no difference."""
        found: dict[bytes, int] = {}
        for run in self._runs:
            found.update(zip(_each(run.digests), run.numbers.tolist(), strict=True))
        found.update(zip(_each(_digests(list(self.recent))), self.recent.values(), strict=True))
        return dict(sorted(found.items()))


def rehearse() -> None:
    """Do once what is done seldom, so that the code for it is in memory before anybody waits for it."""
    Remembered((str(number), number) for number in range(4 * KEPT_NAMES))


def _digests(names: Sequence[str]) -> Digests:
    return np.frombuffer(
        b"".join([blake2b(name.encode(), digest_size=_DIGEST_BYTES).digest() for name in names]), dtype=_DIGEST
    )


def _each(digests: Digests) -> Iterator[bytes]:
    whole = digests.tobytes()
    return (whole[at : at + _DIGEST_BYTES] for at in range(0, len(whole), _DIGEST_BYTES))


def _merged(older: _Run, newer: _Run) -> _Run:
    """Both as one; a name that is in both has the newer number."""
    most = len(older) + len(newer)
    digests = np.empty(most, _DIGEST)
    numbers = np.empty(most, np.promote_types(older.numbers.dtype, newer.numbers.dtype))
    done = taken = 0
    for start in range(0, len(newer), MERGED_AT_ONCE):
        some = newer.part(start, start + MERGED_AT_ONCE)
        is_last = start + MERGED_AT_ONCE >= len(newer)
        until = len(older) if is_last else int(np.searchsorted(older.digests, some.digests[-1:], side="right")[0])
        part = _inserted(older.part(taken, until), some)
        digests[done : done + len(part)] = part.digests
        numbers[done : done + len(part)] = part.numbers
        done, taken = done + len(part), until
    digests.resize(done, refcheck=False)
    numbers.resize(done, refcheck=False)
    return _Run(digests, numbers)


def _inserted(older: _Run, newer: _Run) -> _Run:
    """``_merged``, all at once."""
    at = np.searchsorted(older.digests, newer.digests)
    is_known = at < len(older)
    is_known[is_known] = older.digests[at[is_known]] == newer.digests[is_known]
    numbers = older.numbers.astype(np.promote_types(older.numbers.dtype, newer.numbers.dtype))
    numbers[at[is_known]] = newer.numbers[is_known]
    before, is_new = at[~is_known], ~is_known
    return _Run(
        np.insert(older.digests, before, newer.digests[is_new]), np.insert(numbers, before, newer.numbers[is_new])
    )
