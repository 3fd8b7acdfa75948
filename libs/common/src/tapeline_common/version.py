"""Which code is running: the release and a digest of every Python source of the installed ``tapeline_*`` packages.

Two processes with the same text here decide alike; a tape records it first, so a replay knows whether it may expect
the same decisions.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tapeline_common import __version__

PACKAGES = (
    "tapeline_common",
    "tapeline_marketdata",
    "tapeline_regime",
    "tapeline_bandit",
    "tapeline_strategy",
    "tapeline_risk",
    "tapeline_execution",
    "tapeline_ledger",
)


@cache
def code_version() -> str:
    """Such as ``0.1.0+3f9a0c1d2e4b``."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            for source in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{package}/{source.relative_to(folder).as_posix()}\n".encode())
                digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
