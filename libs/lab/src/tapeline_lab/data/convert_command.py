"""``tapeline convert-data``: a file of market data in another form, or with longer bars.

Exit code 1: the result is there already or cannot be written; 4: the source will not do.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click

from tapeline_backtest.command import ZERO, Amount
from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR
from tapeline_lab.data.conversion import MANIFEST, TargetExists, convert
from tapeline_lab.data.foreign import Written
from tapeline_lab.data.printing import day_text
from tapeline_lab.search.period import Period, PeriodType
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.timeframe import UnknownTimeframe, parse_timeframe


@click.command("convert-data")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="File to write, .parquet or .csv.")
@click.option("-i", "--timeframe", help="Length of the source's bars, where it cannot be told from them.")
@click.option("--resample", help="Make longer bars, such as 5m, 1h or 1d; bars that are not over are left out.")
@click.option("--period", metavar="FROM..TO", type=PeriodType(), help="Only the target's bars that open then, in UTC.")
@click.option(
    "--zone", default="UTC", show_default=True, help="Time zone of a LEAN file; of equities America/New_York."
)
@click.option(
    "--scale", type=Amount(above=ZERO), default=Decimal(1), show_default=True, help="Of a LEAN file's prices: 10000."
)
@click.option("--force", is_flag=True, help="Replace an earlier file.")
@as_json
def convert_data(
    source: Path,
    out: Path,
    timeframe: str | None,
    resample: str | None,
    period: Period | None,
    zone: str,
    scale: Decimal,
    force: bool,
    to_json: bool,
) -> None:
    """Convert CSV, Parquet, feather, Freqtrade JSON or LEAN zip to CSV or Parquet, with longer bars if wanted."""
    try:
        length_ns = None if resample is None else parse_timeframe(resample)
        told = convert(
            source,
            out,
            timeframe=timeframe,
            resample_ns=length_ns,
            period=period,
            written=Written(zone, scale),
            replaces=force,
        )
    except (BadFile, UnknownTimeframe) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except TargetExists as trouble:
        fail(str(trouble), EXIT_ERROR)
    except OSError as trouble:
        fail(f"{out}: {(trouble.strerror or 'cannot be written').lower()}: name a file that can be written", EXIT_ERROR)
    if to_json:
        write_json(told)
        return
    span = "" if told.first_open_ns is None else f", {day_text(told.first_open_ns)} to {day_text(told.last_open_ns)}"
    what = f"{told.timeframe} bars" if told.timeframe else f"rows of {told.kind}"
    click.echo(f"{told.target_rows:,} {what} from {told.source_rows:,} rows ({told.left_out:,} left out){span}")
    for note in told.notes:
        click.echo(note)
    click.echo(f"wrote {out} and {out.name}{MANIFEST}")
