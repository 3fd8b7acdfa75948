"""A data folder's secrets: drawn at the first use, readable by their owner alone, one line each.

Which secrets there are and who gets them is decided by those who ask.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from tapeline_common.whole_file import write_whole


def secret(folder: Path, name: str) -> str:
    """The secret of this name; drawn now if there is none yet."""
    path = folder / "secrets" / name
    if not path.exists():
        write_secret(folder, name, secrets.token_hex(24))
    return path.read_text().strip()


def write_secret(folder: Path, name: str, text: str) -> None:
    path = folder / "secrets" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, f"{text}\n".encode(), 0o600)
