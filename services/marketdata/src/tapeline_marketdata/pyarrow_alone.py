"""Keeps pyarrow from loading pandas: importing this module settles it for the process.

At its first conversion pyarrow looks whether pandas is installed, by importing it: a second that a backtest without any
use for pandas would pay wherever somebody has it. pyarrow looks once; so it is made to look here, while pandas cannot
be seen. Whoever imports pandas later has all of it, ``Table.to_pandas`` included.
"""

from __future__ import annotations

import sys

import pyarrow as pa


class _Hidden:
    """A finder that says there is no pandas."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is not wanted here")


def _settle() -> None:
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0]).to_numpy()
    finally:
        sys.meta_path.remove(hidden)


if "pandas" not in sys.modules:
    _settle()
