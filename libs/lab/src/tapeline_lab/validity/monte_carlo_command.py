"""``tapeline monte-carlo``: how else a recorded history could have gone.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (the file is).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from tapeline_backtest.command import end
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_lab.progress import time_left
from tapeline_lab.validity.fan import LEVELS, RUNS, Fan, Law, monte_carlo, reshuffle_trades
from tapeline_lab.validity.series import SeriesInvalid
from tapeline_lab.validity.sources import History, SourceUnusable, read_history, together

METHODS = ("block", "trades", "joint")


@click.command("monte-carlo")
@click.argument("sources", metavar="SOURCE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="block",
    show_default=True,
    help="What is drawn: blocks of days, trades in another order, or blocks that follow each other as regimes did.",
)
@click.option("--runs", type=click.IntRange(min=1, max=1_000_000), default=RUNS, show_default=True, help="Histories.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same result."
)
@click.option(
    "--ruin",
    type=click.FloatRange(min=0.0, max=1.0, min_open=True),
    default=0.5,
    show_default=True,
    help="Loss, as a fraction of the start, that counts as ruin.",
)
@click.option("--horizon", type=click.IntRange(min=1), help="Days of a history; as many as were recorded unless given.")
@click.option("--block", type=click.FloatRange(min=1.0), help="Mean days of a block; estimated unless given.")
@click.option("--replace", is_flag=True, help="Trades: draw with replacement, so that the end varies too.")
@click.option("--equity", type=click.FloatRange(min=0.0, min_open=True), help="Trades: the account before the first.")
@click.option("--regime-of", metavar="INSTRUMENT", help="Joint: whose regimes label the days, of a tape with several.")
@click.option(
    "--periods-per-year",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Days in a year for the Sharpe ratio: from the tape's calendar, else 365.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")
def monte_carlo_command(sources: tuple[Path, ...], to_json: bool, **call: Any) -> None:
    """Resample a recorded history: SOURCE is a .tape file, a folder (of a report, or the study of a walk-forward, whose
    tests are taken), or a CSV or Parquet file.

    A file may have a column `equity`, a column `pnl` (results of trades), or returns, one column for each account of a
    portfolio; a column `regime` labels the days. Several sources are a portfolio on the days they have in common.
    """
    _refuse_what_does_not_apply(call)
    source = ", ".join(str(path) for path in sources)
    try:
        found = [(path, read_history(path, call["regime_of"], time_left("facts"))) for path in sources]
        history = together(found)
        fan = _fan(source, history, call)
    except SourceUnusable as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    except SeriesInvalid as trouble:
        end(f"{source}: {trouble}", EXIT_CONFIGURATION)
    if to_json:
        click.echo(msgspec.json.encode(as_data(fan)))
    else:
        from tapeline_lab.validity.tables import print_fan

        print_fan(fan, source, history.accounts)


def _refuse_what_does_not_apply(call: dict[str, Any]) -> None:
    """An option that would be ignored is a misunderstanding."""
    of_trades, of_days = ("replace", "equity"), ("horizon", "block", "periods_per_year")
    wrong = of_days if call["method"] == "trades" else of_trades
    if call["method"] != "joint":
        wrong = (*wrong, "regime_of")
    for name in wrong:
        if call[name]:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} means nothing with --method {call['method']}: leave it away")


def _fan(source: str, history: History, call: dict[str, Any]) -> Fan:
    shared = {"seed": call["seed"], "runs": call["runs"], "ruin": call["ruin"], "progress": time_left("runs")}
    if call["method"] == "trades":
        if not len(history.trades):
            raise SourceUnusable(f"{source}: no closed trades of one account: use --method block")
        start = call["equity"] or history.start_equity
        if start is None:
            raise SourceUnusable(f"{source} does not say what the account had before its first trade: give --equity")
        return reshuffle_trades(history.trades, start, replace=call["replace"], **shared)
    if not len(history.returns):
        raise SourceUnusable(f"{source} has trades and no days: use --method trades")
    if call["method"] == "joint" and not history.regimes:
        raise SourceUnusable(f"{source} has no regimes: record with a [regime] model in use, or add a column `regime`")
    return monte_carlo(
        history.returns,
        history.regimes if call["method"] == "joint" else None,
        horizon=call["horizon"],
        block=call["block"],
        periods_per_year=call["periods_per_year"] or history.periods_per_year or 365.0,
        **shared,
    )


def as_data(fan: Fan) -> dict[str, Any]:
    """A fan as plain values; the single histories stay out."""

    def law(one: Law | None) -> dict[str, Any] | None:
        if one is None:
            return None
        quantiles = dict(zip((f"p{round(100 * level)}" for level in LEVELS), one.quantiles, strict=True))
        return {**quantiles, "observed": one.observed, "rank": one.rank}

    return {
        "method": fan.way.value,
        "runs": fan.runs,
        "seed": fan.seed,
        "horizon": fan.horizon,
        "block": fan.block,
        "total_return": law(fan.total_return),
        "max_drawdown": law(fan.max_drawdown),
        "time_under_water": law(fan.time_under_water),
        "sharpe": law(fan.sharpe),
        "ruin_threshold": fan.ruin_threshold,
        "ruin": fan.ruin,
        "ruin_error": fan.ruin_error,
        "loss": fan.loss,
        "regimes": {name: {"drawn": drawn, "observed": seen} for name, (drawn, seen) in fan.regimes.items()},
        "levels": list(LEVELS),
        "steps": fan.steps.tolist(),
        "bands": fan.bands.tolist(),
        "observed": fan.observed.tolist(),
    }
