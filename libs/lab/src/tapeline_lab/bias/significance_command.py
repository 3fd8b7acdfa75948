"""``tapeline significance``: is it bias, luck, or more?

Exit code 0: nothing is earned where there is nothing to earn, whatever the p-values. 1: something is. 2: the call is
wrong. 4: the data or the configuration is.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
import numpy as np

from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_OK
from tapeline_common.settings import ConfigurationInvalid
from tapeline_lab.bias.call import alone, called, of_a_strategy, progress_of
from tapeline_lab.bias.significance import BLOCK, DRAWS, SERIES, Performer, Significance, significance
from tapeline_lab.bias.subjects import PipelineUnknown, find_pipeline
from tapeline_lab.bias.tables import TIME, BadOutput, Frame, Table, table_of
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, validate


@click.command("significance")
@strategy_path
@of_a_strategy
@click.option(
    "--pipeline", metavar="PLACE", help="Instead of a strategy: FILE.py:NAME or module:NAME, which says a `position`."
)
@click.option(
    "--frame", type=click.Choice([each.value for each in Frame]), default="polars", show_default=True,
    help="What the pipeline takes.",
)  # fmt: skip
@click.option(
    "--series", type=click.IntRange(min=10), default=SERIES, show_default=True, help="Markets drawn for each test."
)
@click.option(
    "--draws", type=click.IntRange(min=10), default=DRAWS, show_default=True, help="Random placements of the trades."
)
@click.option(
    "--block", type=click.IntRange(min=1), default=BLOCK, show_default=True, help="Bars that stay together, shuffled."
)
@click.option("--bars", type=click.IntRange(min=50), help="Only the last so many bars.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")
def significance_command(to_json: bool, **call: Any) -> None:
    """Test for bias and for luck: fair markets, shuffled bars, and random entries of the same number and length."""
    from tapeline_lab.bias.performers import pipeline_performer, strategy_performer

    def tested(performer: Performer, table: Table) -> Significance:
        return significance(
            performer, table, series=call["series"], draws=call["draws"], block=call["block"], seed=call["seed"],
            progress=progress_of(performer.name),
        )  # fmt: skip

    found = []
    try:
        if call["pipeline"]:
            if call["strategy"] or call["config"] or not call["data"]:
                raise click.UsageError("--pipeline takes the place of --strategy and --config, and needs --data")
            subject = find_pipeline(call["pipeline"], Frame(call["frame"]))
            for path in call["data"]:
                table = table_of(read_bars(path, timeframe=call["timeframe"]), call["bars"])
                length_ns = int(np.median(np.diff(table[TIME])))
                found.append(tested(pipeline_performer(subject, length_ns), table))
        else:
            run = called(call)
            for one in run.settings.strategy:
                validate(find(one.kind), one.parameters)
                for name in one.instruments:
                    settings = alone(msgspec.structs.replace(run.settings, strategy=(one,)), name)
                    found.append(tested(strategy_performer(settings), table_of(run.files[name], call["bars"])))
    except (StrategyUnknown, ParameterInvalid, PipelineUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, UnknownTimeframe, ConfigurationInvalid, BadOutput, ValueError) as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(EXIT_CONFIGURATION)
    is_clean = all(one.is_clean for one in found)
    if to_json:
        click.echo(msgspec.json.encode({"is_clean": is_clean, "analyses": found}))
    else:
        from tapeline_lab.bias.printing import print_significance

        print_significance(found)
    sys.exit(EXIT_OK if is_clean else EXIT_ERROR)
