"""The peers' own environments below ``.bench/``: made on first use with uv, never touching the project's.

A peer that cannot be installed here (no wheel for this Python, no network) is a value with the reason, so that the
table can say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".bench"
"""Environments, synthetic bars and built tapes; can be deleted at any time."""

INSTALL_S = 900


@dataclass(frozen=True, slots=True)
class Peer:
    """Another engine: its name in tables, its script below ``bench/peers`` and what its environment holds."""

    name: str
    script: str
    requirements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    python: Path


@dataclass(frozen=True, slots=True)
class Missing:
    reason: str


BACKTESTING_PY = Peer("backtesting.py 0.6.6", "backtesting_py.py", ("backtesting==0.6.6", "pyarrow"))
VECTORBT = Peer("vectorbt 1.0.0", "vectorbt_pairs.py", ("vectorbt==1.0.0", "plotly<6", "pyarrow"))
NAUTILUS = Peer("nautilus_trader 1.221.0", "nautilus.py", ("nautilus_trader==1.221.0",))


def installed(peer: Peer) -> Installed | Missing:
    """The peer's interpreter, its environment made if there is none with these requirements."""
    folder = CACHE / "peers" / peer.script.removesuffix(".py")
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join((sys.version, *peer.requirements))
    if stamp.is_file() and stamp.read_text() == wanted:
        return Installed(python)
    uv = _uv()
    if uv is None:
        return Missing("uv is neither on PATH nor in .tools/bin")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements],
    ):
        try:
            # From outside the checkout, whose constraints are not the peers'.
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_S, check=False, cwd=tempfile.gettempdir()
            )
        except (OSError, subprocess.TimeoutExpired) as trouble:
            return Missing(f"not installed: {type(trouble).__name__}")
        if done.returncode:
            said = done.stderr.strip().splitlines()
            return Missing(f"not installed: {said[0] if said else f'uv ended with {done.returncode}'}")
    stamp.write_text(wanted)
    return Installed(python)


def _uv() -> str | None:
    local = ROOT / ".tools" / "bin" / "uv"
    return str(local) if local.is_file() else shutil.which("uv")
