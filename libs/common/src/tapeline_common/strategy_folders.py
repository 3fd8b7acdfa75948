"""Folders of strategies that no package installs: which they are, and a digest of the code in them.

The list is a variable of the process, ``TAPELINE_STRATEGY_PATH``, so that every process that a command or a service
starts decides with the same code. ``--strategy-path`` and ``[strategies] paths`` add to it. Nothing here runs the code;
loading it is the strategy service's business, and a process that only records (the ledger) needs the digest alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tapeline_common.settings import ConfigurationInvalid

VARIABLE = "TAPELINE_STRATEGY_PATH"

CONCERNED = ("ledger", "strategy")
"""Services that need the folders: the one that records which code decides, and the one that runs it."""

DIGEST_LETTERS = 12


def use(folders: Iterable[str | Path]) -> None:
    """Add folders to this process and to those it starts. Adding one again changes nothing.

    Raises:
        ConfigurationInvalid: one of them is no folder.
    """
    known = list(folders_in_use())
    for folder in folders:
        path = Path(folder).expanduser().resolve()
        if not path.is_dir():
            what = "a file" if path.exists() else "missing"
            raise ConfigurationInvalid(f"strategy folder {folder} is {what}: name the folder that has the .py files")
        if path not in known:
            known.append(path)
    if known:
        os.environ[VARIABLE] = os.pathsep.join(map(str, known))


def folders_in_use() -> tuple[Path, ...]:
    """In the order in which they were added."""
    return tuple(Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part)


def sources_in(folder: Path) -> list[Path]:
    """Every Python file whose code may decide, in a fixed order; tests and hidden folders are left out."""
    return [
        path
        for path in sorted(folder.rglob("*.py"))
        if not path.name.startswith("test_")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def digest(folders: Sequence[Path]) -> str:
    """Of all their sources; empty where there are no folders. Where the folders lie makes no difference."""
    if not folders:
        return ""
    found = hashlib.sha256()
    for index, folder in enumerate(folders):
        for source in sources_in(folder):
            content = source.read_bytes()
            found.update(f"{index}/{source.relative_to(folder).as_posix()} {len(content)}\n".encode())
            found.update(content)
    return found.hexdigest()[:DIGEST_LETTERS]
