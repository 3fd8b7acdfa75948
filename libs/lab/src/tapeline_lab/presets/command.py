"""``tapeline presets``: ``[[strategy.preset]]`` tables for the bandit from a search.

Exit code 1: nothing can be chosen, or the file is there already; 4: the search cannot be read.
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.events import Parameters
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR
from tapeline_common.whole_file import write_whole
from tapeline_lab.presets.choosing import Chosen, choose
from tapeline_lab.presets.trials import Searched, SearchUnreadable, read_search
from tapeline_lab.search.objectives import Objective
from tapeline_strategy.catalogue import StrategyClash, StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, validate


class Preset(msgspec.Struct, frozen=True):
    """What ``--json`` prints of one. ``plateau``: median of the objective over ``neighbours`` settings around it."""

    name: str
    parameters: Parameters
    value: float
    plateau: float
    neighbours: int
    apart: float | None
    figures: dict[str, float]


class Presets(msgspec.Struct, frozen=True):
    strategy: str
    objective: str
    settings: int
    provenance: tuple[str, ...]
    presets: list[Preset]


@click.command("presets")
@strategy_path
@click.option(
    "--from", "source", required=True, type=click.Path(path_type=Path), help="A study's folder, or a sweep's JSON."
)
@click.option("-s", "--strategy", help="Which strategy, if several were searched.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Most presets.")
@click.option(
    "--apart",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=0.25,
    show_default=True,
    help="Least distance of two presets, as a share of the values tried.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), help="File to write; without it the tables are printed.")
@click.option("--force", is_flag=True, help="Replace an earlier file.")
@as_json
def presets(
    source: Path, strategy: str | None, top: int, apart: float, out: Path | None, force: bool, to_json: bool
) -> None:
    """Choose presets from a search: centres of plateaus, apart from each other, with where they come from."""
    if out is not None and out.exists() and not force:
        fail(f"{out} is there already: name another file, or say --force", EXIT_ERROR)
    try:
        searched = read_search(source, strategy)
        kind = find(searched.strategy)
        needs_gain = searched.objective is not Objective.MAX_DRAWDOWN
        chosen = choose(searched.settings, top, apart, needs_gain=needs_gain)
        for one in chosen:
            validate(kind, one.setting.parameters)
    except (SearchUnreadable, StrategyUnknown, StrategyClash, ParameterInvalid) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    if not chosen:
        fail(
            f"{source}: no setting of {searched.strategy} stands on a plateau above zero: there is nothing to choose",
            EXIT_ERROR,
        )
    told = _told(searched, chosen)
    text = as_toml(told)
    if out is not None:
        _write(out, text)
    if to_json:
        write_json(told)
    elif out is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {len(chosen)} of at most {top} presets of {searched.strategy} to {out}")


def _told(searched: Searched, chosen: list[Chosen]) -> Presets:
    sign = -1.0 if searched.objective is Objective.MAX_DRAWDOWN else 1.0
    made = [
        Preset(
            name=f"plateau-{number}",
            parameters=one.setting.parameters,
            value=sign * one.setting.score,
            plateau=sign * one.plateau,
            neighbours=one.neighbours,
            apart=one.apart,
            figures=one.setting.figures,
        )
        for number, one in enumerate(chosen, start=1)
    ]
    return Presets(searched.strategy, searched.objective.value, len(searched.settings), searched.provenance, made)


def as_toml(told: Presets) -> str:
    """Tables to stand below the ``[[strategy]]`` that they are for, with comments that say where they come from."""
    lines = [
        f"# Presets of {told.strategy}, chosen from {told.settings:,} settings by `tapeline presets`: each is the",
        f"# centre of a plateau of {told.objective}, and no two are alike. They were chosen on the bars that they were",
        "# searched on: what they earned there is no forecast.",
        *(f"# {line}" for line in told.provenance),
    ]
    for preset in told.presets:
        figures = ", ".join(f"{name} {value:.6g}" for name, value in preset.figures.items())
        values = ", ".join(f"{name} = {_toml(value)}" for name, value in preset.parameters.items())
        lines += [
            "",
            f"# {told.objective} {preset.value:.6g}, median of {preset.neighbours} settings around it"
            f" {preset.plateau:.6g}; {figures}",
            "[[strategy.preset]]",
            f'name = "{preset.name}"',
            f"parameters = {{ {values} }}",
        ]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A number or a truth; anything else as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else f'"{value}"'


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    try:
        write_whole(path, text.encode())
    except OSError as trouble:
        fail(f"{path}: cannot be written ({trouble.strerror}): name a file in a folder of yours", EXIT_ERROR)
