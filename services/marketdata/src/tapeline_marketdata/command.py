"""``tapeline bars``: bars from a file of trades, into a file that a backtest or a feed reads.

Bad input ends with one message and exit code 4; exit code 1 means that the result could not be written.
"""

from __future__ import annotations

import click
import msgspec

from tapeline_common.commands_shared import as_json, counted_line, fail, time_text, write_json
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR
from tapeline_marketdata.bar_rules import parse_rule
from tapeline_marketdata.built_bars import BuiltBars, build_bars, write_bars
from tapeline_marketdata.columns import BadFile, file_digest
from tapeline_marketdata.timeframe import UnknownTimeframe


class Built(msgspec.Struct, frozen=True):
    """What ``--json`` prints. Times are UTC ns; ``sha256`` is that of the file of trades."""

    trades_file: str
    sha256: str
    rule: str
    timeframe: str
    trades: int
    left_over: int
    bars: int
    gaps: int
    missing_bars: int
    first_open_ns: int
    last_close_ns: int
    out: str | None
    notes: tuple[str, ...]


@click.command("bars")
@click.argument("trades")
@click.option(
    "--bars",
    "rule",
    required=True,
    metavar="RULE",
    help="time:1m, time:1m:carry, tick:500, volume:10, value:1000000, imbalance:500 or renko:10.",
)
@click.option("--out", help="File to write, .parquet or .csv; without it the bars are only counted.")
@as_json
def bars(trades: str, rule: str, out: str | None, to_json: bool) -> None:
    """Build bars from a Parquet or CSV file of trades."""
    try:
        file = build_bars(trades, parse_rule(rule), progress=None if to_json else counted_line("trades"))
        if out is not None:
            write_bars(file, out)
        built = _built(trades, rule, out, file)
    except (BadFile, UnknownTimeframe) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except OSError as trouble:
        fail(f"{out}: {(trouble.strerror or 'cannot be written').lower()}: name a file that can be written", EXIT_ERROR)
    if to_json:
        write_json(built)
        return
    click.echo(
        f"{built.bars:,} {built.timeframe} bars from {built.trades:,} trades, {built.left_over:,} left over,"
        f" {built.missing_bars:,} missing; {time_text(built.first_open_ns)} to {time_text(built.last_close_ns)}"
    )
    for note in built.notes:
        click.echo(note)
    if out is not None:
        click.echo(f"wrote {out}")


def _built(trades: str, rule: str, out: str | None, file: BuiltBars) -> Built:
    facts = file.facts
    return Built(
        trades_file=trades,
        sha256=file_digest(trades),
        rule=str(parse_rule(rule)),
        timeframe=facts.timeframe,
        trades=file.trades,
        left_over=file.left_over,
        bars=len(file),
        gaps=facts.gaps,
        missing_bars=facts.missing_bars,
        first_open_ns=facts.first_open_ns,
        last_close_ns=int(file.close_ns[-1]),
        out=out,
        notes=facts.notes,
    )
