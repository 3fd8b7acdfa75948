"""``tapeline models``: the models on a running stack's tape, and writing them out as verified files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tapeline_common.commands_shared import as_json, data_folder, fail, time_text, write_json
from tapeline_common.commands_tape import with_operator
from tapeline_common.events import ModelPromoted, ModelRegistered, ModelRolledBack
from tapeline_common.exits import EXIT_ERROR
from tapeline_common.operator_client import OperatorClient
from tapeline_common.tape import read_all
from tapeline_common.wire import decode_fact
from tapeline_regime.artefact import save
from tapeline_regime.core import readable
from tapeline_regime.model import ModelFault, RegimeModel


@click.command("models")
@data_folder
@click.option("--save", "target", type=click.Path(path_type=Path), help="Write every model below this folder.")
@as_json
def models(data: Path, target: Path | None, to_json: bool) -> None:
    """List registered regime models; the promoted one of each instrument is marked."""

    async def work(client: OperatorClient) -> None:
        types = ("ModelRegistered", "ModelPromoted", "ModelRolledBack")
        rows: dict[str, dict[str, Any]] = {}
        current: dict[str, str] = {}
        for fact in map(decode_fact, await read_all(client.tape, types=types)):
            event = fact.event
            if isinstance(event, ModelRegistered):
                rows[event.model] = _row(fact.pos, fact.time_ns, event)
                if target is not None:
                    rows[event.model]["saved"] = str(_saved(target, event))
            elif isinstance(event, ModelPromoted | ModelRolledBack):
                current[event.instrument] = event.model
        for row in rows.values():
            row["promoted"] = current.get(row["instrument"]) == row["model"]
        if to_json:
            write_json(list(rows.values()))
            return
        for row in rows.values():
            mark = "*" if row["promoted"] else " "
            click.echo(f"{mark} {row['model']}  {row['instrument']}  {row['bars']} bars  {row['registered']}")
        if not rows:
            click.echo("no model is registered yet")

    with_operator(data, work)


def _row(pos: int, time_ns: int, event: ModelRegistered) -> dict[str, Any]:
    return {
        "model": event.model,
        "instrument": event.instrument,
        "position": pos,
        "registered": time_text(time_ns),
        "bars": event.bars,
        "log_likelihood": event.log_likelihood,
    }


def _saved(target: Path, event: ModelRegistered) -> Path:
    model = readable(event)
    if not isinstance(model, RegimeModel):
        fail(f"model {event.model} cannot be written: {model}", EXIT_ERROR)
    path = save(target, model)
    if isinstance(path, ModelFault):
        fail(f"model {event.model} cannot be written: {path.value}", EXIT_ERROR)
    return path
