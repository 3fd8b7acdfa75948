"""A file is there whole or not at all, with the permissions asked for, and what is there already stays until then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapeline_common.whole_file import whole_file, write_whole


def test_it_gets_its_name_when_all_of_it_is_written(tmp_path: Path) -> None:
    """Until then the old file stands; what is written to has the same ending."""
    path = tmp_path / "bars.parquet"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert (path.read_text(), partial.suffix) == ("old", ".parquet")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["bars.parquet"]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """Also of one process number, as in two containers: the last one to end is there, whole."""
    path = tmp_path / "model"
    with whole_file(path) as one, whole_file(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_permissions_are_those_asked_for_whatever_the_mask(mask: int, tmp_path: Path) -> None:
    """And the mask's where none are asked for."""
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "secret", b"s", 0o600)
        write_whole(tmp_path / "public", b"p", 0o644)
        write_whole(tmp_path / "plain", b"p")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"secret": 0o600, "public": 0o644, "plain": 0o666 & ~mask}


def test_a_file_that_nobody_may_write_to_can_be_written_first(tmp_path: Path) -> None:
    """Also by those who may not override permissions, and without anybody else reading it meanwhile."""
    with whole_file(tmp_path / "public", 0o444) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
        partial.write_bytes(b"p")
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o444


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "file", b"")
