"""``tapeline significance``: is it bias, luck, or more?

Exit code 0: nothing is earned where there is nothing to earn, whatever the p-values. 1: something is. 2: the call is
wrong. 4: the data or the configuration is.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec
import numpy as np

from tapeline_lab.bias.call import alone, called, conclude, of_a_subject, pipeline_of
from tapeline_lab.bias.significance import BLOCK, DRAWS, SERIES, Performer, Significance, significance
from tapeline_lab.bias.tables import TIME, Table, table_of
from tapeline_lab.progress import time_left
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import validate


@click.command("significance")
@of_a_subject
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
def significance_command(to_json: bool, **call: Any) -> None:
    """Test for bias and for luck: fair markets, shuffled bars, and random entries of the same number and length."""
    from tapeline_lab.bias.printing import print_significance

    conclude(lambda: _pipeline(call) if call["pipeline"] else _strategy(call), print_significance, to_json=to_json)


def _pipeline(call: dict[str, Any]) -> list[Significance]:
    from tapeline_lab.bias.performers import pipeline_performer

    subject, files = pipeline_of(call)
    found = []
    for file in files.values():
        table = table_of(file, call["bars"])
        length_ns = int(np.median(np.diff(table[TIME])))
        found.append(_tested(pipeline_performer(subject, length_ns), table, call))
    return found


def _strategy(call: dict[str, Any]) -> list[Significance]:
    from tapeline_lab.bias.performers import strategy_performer

    run = called(call)
    found = []
    for one in run.settings.strategy:
        validate(find(one.kind), one.parameters)
        for name in one.instruments:
            settings = alone(msgspec.structs.replace(run.settings, strategy=(one,)), name)
            found.append(_tested(strategy_performer(settings), table_of(run.files[name], call["bars"]), call))
    return found


def _tested(performer: Performer, table: Table, call: dict[str, Any]) -> Significance:
    return significance(
        performer,
        table,
        series=call["series"],
        draws=call["draws"],
        block=call["block"],
        seed=call["seed"],
        progress=time_left(title=f"{performer.name}:"),
    )
