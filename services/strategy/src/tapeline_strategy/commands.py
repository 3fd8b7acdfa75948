"""``tapeline list-strategies``: the strategies installed here, with their parameters."""

from __future__ import annotations

import click

from tapeline_common.commands_shared import as_json, write_json
from tapeline_strategy import catalogue


@click.command("list-strategies")
@as_json
def list_strategies(to_json: bool) -> None:
    """List the installed strategies and their parameters."""
    kinds = catalogue.installed()
    if to_json:
        write_json(
            {
                name: {
                    "description": kind.description,
                    "parameters": {
                        each.name: {
                            "default": each.default,
                            "low": each.low,
                            "high": each.high,
                            "about": each.description,
                        }
                        for each in kind.parameters
                    },
                }
                for name, kind in kinds.items()
            }
        )
        return
    for name, kind in kinds.items():
        click.echo(f"{name}: {kind.description}")
        for each in kind.parameters:
            click.echo(f"    {each.name} = {each.default}  ({each.low} to {each.high})  {each.description}")
