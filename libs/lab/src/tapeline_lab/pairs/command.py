"""``tapeline cointegration``: whether the prices of two files belong together, and by which ratio."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import numpy as np

from tapeline_common.commands_shared import as_json, fail
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_lab.pairs.cointegration import Cointegration, Stationarity, TooFewBars, cointegration
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import read_bars


@click.command("cointegration")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--share",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Part of the common bars, from the first on, that the ratio is estimated on; the rest judges it.",
)
@as_json
def cointegration_command(first: Path, second: Path, share: float, to_json: bool) -> None:
    """Say whether the closes of two files of bars are cointegrated, and the hedge ratio for pairs_reversion."""
    try:
        one, other = read_bars(str(first)).columns, read_bars(str(second)).columns
        _, ours, theirs = np.intersect1d(one.open_ns, other.open_ns, assume_unique=True, return_indices=True)
        found = cointegration(one.close[ours], other.close[theirs], share)
    except (BadFile, TooFewBars, ValueError) as trouble:
        fail(f"{first.name} and {second.name}: {trouble}", EXIT_CONFIGURATION)
    if to_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(found), "verdict": found.verdict}))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Cointegration) -> list[str]:
    return [
        found.verdict,
        "",
        f"ratio          {found.ratio:.6g} units of the second for one of the first (intercept {found.intercept:.6g})",
        f"deviation      {found.deviation:.6g} in price of the first",
        f"half-life      {found.half_life_bars:.1f} bars",
        f"Engle-Granger  {_told(found.estimated)}, where the ratio was fitted",
        f"Dickey-Fuller  {_told(found.later)}, in the rest with that ratio",
        "",
        f"on the bars that follow: tapeline backtest -s pairs_reversion --param ratio={found.ratio:.6g} ...",
    ]


def _told(test: Stationarity) -> str:
    return f"{test.statistic:+.2f}, p = {test.p_value:.3f} on {test.bars:,} bars"
