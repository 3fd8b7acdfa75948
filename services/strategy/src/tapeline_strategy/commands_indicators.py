"""``tapeline list-indicators``: every indicator with its parameters, inputs and outputs."""

from __future__ import annotations

import click

from tapeline_common.commands_shared import as_json, write_json
from tapeline_strategy.indicators.catalogue import CATALOGUE
from tapeline_strategy.indicators.indicator import Family, Indicator


@click.command("list-indicators")
@click.option("--family", type=click.Choice([each.value for each in Family]), help="Only those of one family.")
@as_json
def list_indicators(family: str | None, to_json: bool) -> None:
    """List the indicators that strategies can use, with their parameters, inputs and outputs."""
    shown = [each for each in CATALOGUE.values() if family in (None, each.family)]
    if to_json:
        write_json({each.name: described(each) for each in shown})
        return
    for each in shown:
        click.echo(f"{each.name}: {each.description}")
        click.echo(f"    takes {', '.join(each.inputs)}; gives {', '.join(each.outputs)}")
        for parameter in each.parameters:
            bounds = f"({parameter.low} to {parameter.high})"
            click.echo(f"    {parameter.name} = {parameter.default}  {bounds}  {parameter.description}")


def described(indicator: Indicator) -> dict[str, object]:
    """What a program may want to know of an indicator, as plain data."""
    return {
        "family": indicator.family.value,
        "description": indicator.description,
        "inputs": list(indicator.inputs),
        "outputs": list(indicator.outputs),
        "parameters": {
            each.name: {"default": each.default, "low": each.low, "high": each.high, "about": each.description}
            for each in indicator.parameters
        },
        "warm_up_bars": indicator.warm_up(indicator.validate({})),
        "recall": indicator.recall.value,
        "source": indicator.source,
        "difference_from_ta_lib": indicator.difference,
    }
