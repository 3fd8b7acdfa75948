"""``tapeline metrics``: what is exposed to Prometheus, by which service, under which name."""

from __future__ import annotations

import click

from tapeline_common.commands_shared import as_json, write_json


@click.command("metrics")
@click.option("--service", default="", help="Only what this service exposes beside what all do.")
@as_json
def metrics(service: str, to_json: bool) -> None:
    """List every metric with its kind, unit, labels and meaning."""
    from tapeline_common.catalogue import catalogue

    found = [measured for measured in catalogue() if service in ("", measured.service)]
    if not found:
        names = ", ".join(dict.fromkeys(measured.service for measured in catalogue()))
        raise click.BadParameter(f"{service!r} exposes nothing of its own; there is {names}", param_hint="--service")
    if to_json:
        write_json(found)
        return
    for measured in found:
        labels = f" {{{', '.join(measured.labels)}}}" if measured.labels else ""
        click.echo(f"{measured.name}{labels}  {measured.kind}, {measured.unit}, {measured.service}: {measured.text}")
