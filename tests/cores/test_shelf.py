"""Columns on disk hold what columns in memory do, take no memory once they are given back, and never take it down."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeline_marketdata import shelf as shelf_module
from tapeline_marketdata.shelf import IN_MEMORY, Shelf

ROWS = 300_000


def resident_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is counted by Linux's own figures")
def test_memory_that_is_given_back_is_gone_and_the_numbers_stay() -> None:
    """Eight columns of 2.3 MiB each, touched and given back; then read again."""
    shelf = Shelf(is_open=True)
    columns = [shelf.room(ROWS, np.int64) for _ in range(8)]
    for place, column in enumerate(columns):
        column[:] = np.arange(ROWS) * place
    touched = resident_kib()
    shelf.give_back()
    assert touched - resident_kib() > 8 * ROWS * 8 / 1024 * 0.9
    assert all(np.array_equal(column, np.arange(ROWS) * place) for place, column in enumerate(columns))


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("kind", [np.int64, np.float64, np.bool_])
def test_room_is_zero_and_can_be_written(*, is_open: bool, kind: Any) -> None:
    column = Shelf(is_open=is_open).room(5, kind)
    assert column.dtype == kind
    assert not column.any()
    column[1:3] = 1
    assert column.tolist() == [0, 1, 1, 0, 0]


def test_no_rows_need_no_file() -> None:
    assert Shelf(is_open=True).room(0, np.int64).tolist() == []


def test_parts_cover_every_row_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last part is shorter, and where there is none."""
    monkeypatch.setattr(shelf_module, "PART_ROWS", 2)
    assert [(part.start, part.stop) for part in IN_MEMORY.parts(5)] == [(0, 2), (2, 4), (4, 5)]
    assert list(IN_MEMORY.parts(0)) == []


def test_a_full_disk_means_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when room is asked for, not when it is written to, which would end the process."""

    def full(_file: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    shelf = Shelf(is_open=True)
    column = shelf.room(3, np.int64)
    column[:] = 7
    shelf.give_back()
    assert column.tolist() == [7, 7, 7]


def test_room_is_taken_at_once_where_the_system_cannot_reserve_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (tmp_path / "room").open("w+b") as file:
        shelf_module._fill(file, 3_000_000)
        assert os.stat(file.fileno()).st_blocks * 512 >= 3_000_000
