"""Files that are there whole or not at all: written beside their place, put on the disk, and given their name last.

Whoever reads a file of that name never sees half of it, whatever ended the writer. What is in it is not known here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, mode: int | None = None) -> Iterator[Path]:
    """A new, empty file to write to, which becomes ``path`` if the block ends well, and is gone if it does not.

    It has the ending of ``path``, for those who choose a format by that. Raises OSError.

    Args:
        mode: permissions, whatever the process's mask; nobody else's until it is whole. Without it as the mask says.
    """
    # Not the process's number: two containers on one volume have the same.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        # Writable until it is written: whoever may not override permissions could not write to a file of 0o444 either.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
        yield partial
        if mode is not None:
            partial.chmod(mode)
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    # The new name must survive a power cut as well, and that is recorded in the folder.
    _sync(path.parent)


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """``content`` as the file ``path``; see ``whole_file``."""
    with whole_file(path, mode) as partial:
        partial.write_bytes(content)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
