"""``tapeline list-strategies | new-strategy``: the strategies known here, and a file to begin one of your own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_USAGE
from tapeline_strategy import catalogue, loading, pairs
from tapeline_strategy.sdk import Strategy, settles_after, validate

TEMPLATES = ("class", "step")
"""A class with ``on_bar``; a plain function of numbers, which can also be compiled."""


def strategy_path(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--strategy-path FOLDER`` on a command: before it runs, its strategies become known to it and what it starts."""

    @click.option(
        "--strategy-path",
        type=click.Path(path_type=Path),
        multiple=True,
        help="Folder of Python files with strategies of your own; repeatable.",
    )
    @functools.wraps(command)
    def with_folders(*arguments: Any, strategy_path: tuple[Path, ...], **options: Any) -> Any:
        loading.use(strategy_path)
        return command(*arguments, **options)

    return with_folders


@click.command("list-strategies")
@strategy_path
@as_json
def list_strategies(to_json: bool) -> None:
    """List the strategies known here and their parameters."""
    try:
        kinds = catalogue.installed()
    except catalogue.StrategyClash as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    if to_json:
        write_json({name: _described(kind) for name, kind in kinds.items()})
        return
    for name, kind in kinds.items():
        click.echo(f"{name}: {kind.description}")
        first, settled = _first_and_settled(kind)
        click.echo(f"    with these values it speaks after {first:,} bars and has settled after {settled:,}")
        for each in kind.parameters:
            click.echo(f"    {each.name} = {each.default}  ({each.low} to {each.high})  {each.description}")


def _first_and_settled(kind: Strategy) -> tuple[int, int]:
    """Bars until its first opinion and until it depends on nothing older, with its default parameters."""
    parameters = validate(kind, {})
    return kind.warm_up(parameters), settles_after(kind, parameters)


def _described(kind: Strategy) -> dict[str, Any]:
    first, settled = _first_and_settled(kind)
    return {
        "description": kind.description,
        "defined_in": catalogue.origin(kind.name),
        "gears": ["loop", "wire", "kernel"] if kind.is_numeric else ["loop", "wire"],
        "timeframe": kind.timeframe,
        "instruments": 1 if kind.both is None else pairs.LEGS,
        "speaks_after_bars": first,
        "settled_after_bars": settled,
        "parameters": {
            each.name: {"default": each.default, "low": each.low, "high": each.high, "about": each.description}
            for each in kind.parameters
        },
    }


@click.command("new-strategy")
@click.argument("name")
@click.option(
    "--template", type=click.Choice(TEMPLATES), default="class", show_default=True, help="What to begin with."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("strategies"),
    show_default=True,
    help="Where to write it; made if it is missing.",
)
@as_json
def new_strategy(name: str, template: str, folder: Path, to_json: bool) -> None:
    """Write a commented strategy NAME and its test, which run as they are; never over an existing file."""
    if not (name.isidentifier() and name.islower()):
        fail(f"{name!r} is no name for a strategy: use small letters, digits and _, such as my_breakout", EXIT_USAGE)
    if name in catalogue.installed():
        fail(f"{name!r} is taken by {catalogue.origin(name)}: choose another name", EXIT_USAGE)
    if name in sys.stdlib_module_names:
        fail(f"{name!r} is a module of Python itself: choose another name", EXIT_USAGE)
    written = {folder / f"{name}.py": f"{template}_strategy.txt", folder / f"test_{name}.py": "test_strategy.txt"}
    taken = [str(path) for path in written if path.exists()]
    if taken:
        fail(f"{' and '.join(taken)} exists: choose another name, or delete it first", EXIT_ERROR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in written.items():
            path.write_text(_filled(text, name), encoding="utf-8")
    except OSError as trouble:
        fail(f"{folder} cannot be written ({trouble.strerror}): name another with --folder", EXIT_ERROR)
    if to_json:
        write_json({"written": [str(path) for path in written]})
        return
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"try it: tapeline backtest -s {name} --strategy-path {folder} --data BTCUSDT.csv")
    click.echo(f"test it: python -m pytest {folder / f'test_{name}.py'}")


def _filled(template: str, name: str) -> str:
    text = files("tapeline_strategy").joinpath("templates", template).read_text(encoding="utf-8")
    title = "".join(part.capitalize() for part in name.split("_") if part)
    return text.replace("{{name}}", name).replace("{{Title}}", title)
