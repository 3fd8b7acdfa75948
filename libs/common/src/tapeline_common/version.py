"""Which code is running: the release and a digest of every Python source of the installed ``tapeline_*`` packages.

Two processes with the same text here decide alike; a tape records it first, so a replay knows whether it may expect
the same decisions. An image holds one service of several, so ``python -m tapeline_common.version CHECKOUT``, run when
it is built, prints the version of them all, and the image keeps it beside this file.

Strategies from folders (``strategy_folders``) are code that decides as well: a digest of theirs follows.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tapeline_common import __version__, strategy_folders

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

OF_THE_IMAGE = Path(__file__).with_name("code_version.txt")


def code_version() -> str:
    """Such as ``0.1.0+3f9a0c1d2e4b``; with strategies from folders ``0.1.0+3f9a0c1d2e4b.strategies.09ac31d4b7f2``."""
    loaded = strategy_folders.digest(strategy_folders.folders_in_use())
    return f"{_own_version()}.strategies.{loaded}" if loaded else _own_version()


@cache
def _own_version() -> str:
    if OF_THE_IMAGE.exists():
        return OF_THE_IMAGE.read_text().strip()
    return _version_of(_installed)


def version_of_checkout(checkout: Path) -> str:
    """What ``code_version`` says where every service of this checkout is installed."""
    return _version_of(lambda package: [str(path) for path in sorted(checkout.glob(f"*/*/src/{package}"))])


def _installed(package: str) -> Iterable[str]:
    spec = find_spec(package)
    return (spec.submodule_search_locations if spec else None) or ()


def _version_of(folders: Callable[[str], Iterable[str]]) -> str:
    digest = hashlib.sha256()
    for package in PACKAGES:
        for folder in folders(package):
            for source in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{package}/{source.relative_to(folder).as_posix()}\n".encode())
                digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


if __name__ == "__main__":
    sys.stdout.write(f"{version_of_checkout(Path(sys.argv[1]))}\n")
