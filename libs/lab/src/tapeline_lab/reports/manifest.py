"""What a result depends on: data, code, configuration, chance, the tape and the libraries, by digest and version.

Two runs with equal manifests have equal results. Nothing of the machine or of the moment is in it.
"""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from tapeline_backtest.session import Session

LIBRARIES = ("tapeline-lab", "tapeline-backtest", "numpy", "scipy", "polars", "plotly", "msgspec")


class DataSource(msgspec.Struct, frozen=True):
    """A feed as the tape names it; ``detail`` begins with the file's SHA-256 where it was a file."""

    instrument: str
    source: str
    timeframe: str
    detail: str


class RunManifest(msgspec.Struct, frozen=True):
    """Attributes:
    code_versions: of the run, in order; the last one is the code that ended it.
    report_code: digest of the sources that computed this report.
    configuration: the facts that configured the run, and their digest.
    """

    run: str
    tape: str
    realm: str
    seed: int
    tape_facts: int
    tape_head_hash: str
    code_versions: tuple[str, ...]
    report_code: str
    data: tuple[DataSource, ...]
    configuration_sha256: str
    configuration: list[Any]
    python: str
    libraries: dict[str, str]


def manifest(session: Session) -> RunManifest:
    configuration = msgspec.to_builtins(session.opening)
    return RunManifest(
        run=session.started.run,
        tape=session.started.tape,
        realm=session.started.realm,
        seed=session.started.seed,
        tape_facts=session.facts,
        tape_head_hash=session.head_hash,
        code_versions=session.code_versions,
        report_code=_report_code(),
        data=tuple(
            DataSource(feed.instrument, feed.source, feed.timeframe, feed.detail)
            for feed in dict.fromkeys(session.feeds)
        ),
        configuration_sha256=hashlib.sha256(msgspec.json.encode(configuration, order="sorted")).hexdigest(),
        configuration=configuration,
        python=platform.python_version(),
        libraries={name: _version(name) for name in LIBRARIES},
    )


def _report_code() -> str:
    """Digest of what computes reports: this package and the backtest's."""
    from pathlib import Path

    import tapeline_backtest

    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(tapeline_backtest.__file__ or "").parent):
        for source in sorted(folder.glob("*.py")):
            digest.update(source.name.encode() + b"\n" + source.read_bytes())
    return digest.hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
