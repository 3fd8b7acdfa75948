"""Columns of long files, kept on disk: arrays like any other whose memory can be given back at any time.

Each lies in a file without a name in the folder for temporary files (``TMPDIR``), mapped into memory. Whoever has gone
through some rows gives them back; what is read again comes from the disk's cache. Room is taken when an array is made:
where there is none, it is an ordinary array. What the columns hold is not known here.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)

LONG_ROWS = 1 << 20
"""Columns of as many rows are worth their files. Shorter ones fit into memory several times over."""

PART_ROWS = 1 << 16
"""Rows worked on at once, so that what is needed on the way stays small however long a column is."""

ZEROS = bytes(1 << 20)


class Shelf:
    """Arrays on disk. ``is_open`` for those of files that are long enough; otherwise they are ordinary ones."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self._mapped: list[mmap.mmap] = []

    def room(self, rows: int, kind: type[T]) -> npt.NDArray[T]:
        """A new array of shape (rows,), zero throughout."""
        if not self.is_open or not rows:
            return np.zeros(rows, dtype=kind)
        try:
            mapped = _mapped(rows * np.dtype(kind).itemsize)
        except OSError:
            return np.zeros(rows, dtype=kind)
        self._mapped.append(mapped)
        return np.frombuffer(mapped, dtype=kind)

    def parts(self, rows: int) -> Iterator[slice]:
        """All rows of these columns in order, ``PART_ROWS`` at a time; each part's memory is given back behind it."""
        for first in range(0, rows, PART_ROWS):
            yield slice(first, min(first + PART_ROWS, rows))
            self.give_back()

    def give_back(self) -> None:
        """Let go of the memory of all arrays; what they hold stays."""
        for mapped in self._mapped:
            mapped.madvise(mmap.MADV_DONTNEED)


IN_MEMORY: Final = Shelf(is_open=False)
"""For columns that are no longer than memory bears."""


def _mapped(size: int) -> mmap.mmap:
    """``size`` bytes of a new file. Its room is taken at once: a full disk found later would end the process."""
    with tempfile.TemporaryFile(prefix="tapeline-") as file:
        _fill(file, size)
        return mmap.mmap(file.fileno(), size)


def _fill(file: Any, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for first in range(0, size, len(ZEROS)):
        file.write(ZEROS[: size - first])
    file.flush()
