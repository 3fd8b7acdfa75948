"""Writes a report's files: a page for people; Parquet, JSON and a manifest for programs.

Each file is written whole or not at all, and replaces the one of an earlier report. Nothing else in the folder is
touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tapeline_backtest.frames import equity_frame, fills_frame, trades_frame
from tapeline_backtest.session import Session
from tapeline_common.whole_file import whole_file
from tapeline_lab.reports.extras import Extras
from tapeline_lab.reports.manifest import manifest
from tapeline_lab.reports.metrics import market_index
from tapeline_lab.reports.page import page
from tapeline_lab.reports.view import View

if TYPE_CHECKING:
    import polars


def write_artefacts(folder: Path, found: View, extras: Extras | None = None) -> list[str]:
    """The paths written, in order. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    session = found.session
    described = manifest(session)
    files: dict[str, Callable[[Path], object]] = {
        "report.json": lambda path: path.write_bytes(_json(found.document)),
        "manifest.json": lambda path: path.write_bytes(_json(described)),
        "trades.parquet": lambda path: trades_frame(session).write_parquet(path),
        "fills.parquet": lambda path: fills_frame(session).write_parquet(path),
        "equity.parquet": lambda path: _curve(session).write_parquet(path),
        "report.html": lambda path: path.write_text(page(found, described, extras or Extras()), encoding="utf-8"),
    }
    for name, write in files.items():
        with whole_file(folder / name) as partial:
            write(partial)
    return [str(folder / name) for name in files]


def _curve(session: Session) -> polars.DataFrame:
    """Equity at each bar's close, and holding what was traded: 1 at the beginning."""
    import polars

    market = market_index(list(session.bars.values()), session.curve.time_ns)
    return equity_frame(session).with_columns(polars.Series("market", market))


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
