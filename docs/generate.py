"""Writes the parts of the documentation that the code already knows, between markers in the pages themselves.

``python docs/generate.py`` rewrites them, ``--check`` only says which are stale (exit code 1). What the code does not
know (what a key or a field means, in one sentence) stands in ``wording.toml``; a key without words, or words without a
key, is an error. Prose around the markers is written by hand and left alone.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import msgspec

from tapeline_common import describe, settings
from tapeline_common.catalogue import Measured, catalogue
from tapeline_common.cli import tapeline
from tapeline_common.events import (
    SAYS,
    Event,
    FeeTier,
    FillCosts,
    InstrumentCosts,
    InstrumentLimits,
    OrderTerms,
    StudyGround,
    TrialFigures,
)
from tapeline_common.wiring import installed_services
from tapeline_strategy.indicators import CATALOGUE, Family, Indicator

ROOT = Path(__file__).resolve().parent.parent
WORDING: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "docs/wording.toml").read_text(encoding="utf-8"))

CARRIED = (OrderTerms, InstrumentLimits, FeeTier, InstrumentCosts, FillCosts, StudyGround, TrialFigures)
"""Parts of facts that are described once, below the facts that carry them."""


class Wording(Exception):
    """The words and the code do not go together. The message names what is missing or left over."""


# ---- configuration -------------------------------------------------------------------------------------------------


def keys_of(table: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every key below a table as it is written in the file; arrays of tables end in ``[]``."""
    for field in msgspec.structs.fields(table):
        inner = _table_in(field.type)
        if inner is None:
            yield f"{path}{field.encode_name}", field
        else:
            is_array = get_origin(field.type) is tuple
            yield from keys_of(inner, f"{path}{field.encode_name}{'[]' if is_array else ''}.")


def _table_in(kind: Any) -> type[msgspec.Struct] | None:
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, settings.Table):
            return one
    return None


def configuration() -> str:
    """One table of keys for each table of the file."""
    keys = dict(keys_of(settings.Settings))
    words = _words("configuration", list(keys))
    lines: list[str] = []
    table = ""
    for key, field in keys.items():
        parent, _, name = key.rpartition(".")
        if parent != table:
            table = parent
            header = f"[[{parent.replace('[]', '')}]]" if parent.endswith("[]") else f"[{parent}]"
            lines += ["", f"### `{header}`", "", "| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
        unit, meaning = words[key]
        lines.append(f"| `{name}` | {_type(field.type)} | {_default(field)} | {unit or '-'} | {meaning} |")
    return "\n".join(lines[1:])


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "needed"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "not set"
    if value == "" or value == () or value == {}:
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(kind: Any) -> str:
    """A type in words a person writing a file or reading a fact understands."""
    named = {int: "whole number", float: "number", str: "text", bool: "true/false", Decimal: "decimal"}
    if kind in named:
        return named[kind]
    if kind is type(None):
        return "none"
    if kind is Any:
        return "any"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"{_type(parts[0])} → {_type(parts[1])}"
    if parts and all(isinstance(part, str) for part in parts):
        return " or ".join(f"`{part}`" for part in parts)
    if parts:
        return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not type(None)))
    if hasattr(kind, "__supertype__"):
        return str(kind.__name__)
    return f"`{kind.__name__}`"


# ---- facts ---------------------------------------------------------------------------------------------------------


def facts() -> str:
    """Every event, grouped by its author."""
    _words("events", [event.__name__ for event in _events() if not _own_doc(event)])
    _words("authors", list(SAYS))
    lines: list[str] = []
    for author, events in SAYS.items():
        lines += [f"## {author}", "", WORDING["authors"][author], ""]
        for event in events:
            stream = f"the value of `{event.about}`" if event.about else "`run`"
            lines += [f"### {event.__name__}", "", _sentence(event), "", f"Stream: {stream}.", "", *_fields(event), ""]
    lines += ["## Parts of facts", ""]
    for part in CARRIED:
        lines += [f"### {part.__name__}", "", _sentence(part), "", *_fields(part), ""]
    lines += ["## Closed lists", "", *_vocabularies()]
    unused = set(WORDING["fields"]) - {
        field.name
        for part in _described()
        for field in msgspec.structs.fields(part)
        if field.name not in _attributes(part)
    }
    if unused:
        raise Wording(f"wording.toml, [fields]: no fact needs words for {', '.join(sorted(unused))}")
    return "\n".join(lines).rstrip()


def _events() -> list[type[Event]]:
    return [event for events in SAYS.values() for event in events]


def _described() -> list[type[msgspec.Struct]]:
    return [*_events(), *CARRIED]


def _own_doc(part: type[Any]) -> str:
    return inspect.cleandoc(part.__dict__.get("__doc__") or "")


def _sentence(part: type[Any]) -> str:
    doc = _own_doc(part).partition("\nAttributes:")[0].replace("``", "`")
    return " ".join(doc.split()).replace("`None`", "`null`") or str(WORDING["events"][part.__name__])


def _attributes(part: type[Any]) -> dict[str, str]:
    """The ``Attributes:`` section of a docstring; ``a, b: text`` speaks of both."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in _own_doc(part).partition("Attributes:\n")[2].splitlines():
        start = re.match(r"    ([a-z_]+(?:, [a-z_]+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found.update(dict.fromkeys(names, start[2].strip()))
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return {name: text[0].upper() + text[1:].replace("``", "`") for name, text in found.items()}


def _fields(part: type[Any]) -> list[str]:
    fields = msgspec.structs.fields(part)
    if not fields:
        return []
    attributes = _attributes(part)
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for field in fields:
        meaning = attributes.get(field.name) or WORDING["fields"].get(field.name)
        if meaning is None:
            raise Wording(f"wording.toml, [fields]: {part.__name__}.{field.name} has no words")
        null = " or `null`" if type(None) in get_args(field.type) else ""
        lines.append(f"| `{field.name}` | {_type(field.type)}{null} | {meaning} |")
    return lines


def _vocabularies() -> list[str]:
    """Every closed list that a field of a fact uses, in order of their names."""
    used = {
        one.__name__: one
        for part in _described()
        for field in msgspec.structs.fields(part)
        for kind in (field.type, *get_args(field.type))
        for one in (kind, *get_args(kind))
        if isinstance(one, type) and issubclass(one, StrEnum)
    }
    return [f"- **{name}**: {', '.join(f'`{word}`' for word in used[name])}" for name in sorted(used)]


# ---- commands ------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments, options and exit codes."""
    context = click.Context(tapeline, info_name="tapeline")
    names = tapeline.list_commands(context)
    codes = WORDING["exit_codes"]
    lines: list[str] = []
    for name in names:
        command = tapeline.get_command(context, name)
        assert command is not None, name
        if name not in codes:
            raise Wording(f"wording.toml, [exit_codes]: {name} has no words")
        own = click.Context(command, info_name=name, parent=context)
        usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
        lines += [f"### tapeline {name}", "", command.help or "", "", f"    {usage}", ""]
        options = [each.get_help_record(own) for each in command.params if isinstance(each, click.Option)]
        if options:
            lines += ["| option | meaning |", "|---|---|"]
            lines += [f"| `{_cell(record[0])}` | {_cell(record[1])} |" for record in options if record is not None]
        lines += ["", f"Exit codes: {codes[name]}.", ""]
    return "\n".join(lines).rstrip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "-"


# ---- metrics -------------------------------------------------------------------------------------------------------


def measured() -> str:
    """Every exposed name, by the service that exposes it."""
    found = catalogue()
    services = list(dict.fromkeys(one.service for one in found))
    words = _words("metrics", services)
    lines: list[str] = []
    for service in services:
        lines += [
            f"## {service}",
            "",
            words[service],
            "",
            "| name | kind | unit | labels | meaning |",
            "|---|---|---|---|---|",
        ]
        lines += [_measured_row(one) for one in found if one.service == service]
        lines.append("")
    return "\n".join(lines).rstrip()


def _measured_row(one: Measured) -> str:
    labels = ", ".join(_label(label, one.values.get(label, ())) for label in one.labels)
    appears = f" There are samples {one.appears}." if one.appears else ""
    return f"| `{one.name}` | {one.kind} | {one.unit} | {labels or '-'} | {_cell(one.text)}.{appears} |"


def _label(label: str, values: tuple[str, ...]) -> str:
    return f"`{label}` ({', '.join(values)})" if values else f"`{label}`"


# ---- indicators ----------------------------------------------------------------------------------------------------


def indicators() -> str:
    """One table for each family."""
    lines: list[str] = []
    for family in Family:
        lines += [
            f"### {family.value.capitalize()}",
            "",
            "| name | meaning | takes | gives | parameters | warm-up | recall |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_indicator_row(each) for each in CATALOGUE.values() if each.family is family]
        lines.append("")
    return "\n".join(lines).rstrip()


def _indicator_row(one: Indicator) -> str:
    settings_of = [f"`{each.name}` {each.default} ({each.low} to {each.high})" for each in one.parameters]
    difference = f" TA-Lib: {_cell(one.difference)}" if one.difference else ""
    columns = (
        f"`{one.name}`",
        f"{_cell(one.description)} *{_cell(one.source)}.*{difference}",
        ", ".join(one.inputs),
        ", ".join(one.outputs),
        ", ".join(settings_of) or "-",
        str(one.warm_up(one.validate({}))),
        one.recall.value,
    )
    return f"| {' | '.join(columns)} |"


# ---- what is copied --------------------------------------------------------------------------------------------------


def described() -> str:
    return describe.markdown(installed_services())


def graph() -> str:
    return f"```mermaid\n{describe.mermaid(installed_services())}\n```"


def example() -> str:
    return f"```python\n{(ROOT / 'docs/examples/mean_reversion.py').read_text(encoding='utf-8').rstrip()}\n```"


# ---- pages ---------------------------------------------------------------------------------------------------------

PAGES = (
    ("ARCHITECTURE.md", "describe", described),
    ("ARCHITECTURE.md", "graph", graph),
    ("docs/configuration.md", "keys", configuration),
    ("docs/commands.md", "commands", commands),
    ("docs/facts.md", "facts", facts),
    ("docs/indicators.md", "indicators", indicators),
    ("docs/metrics.md", "metrics", measured),
    ("docs/strategies.md", "example", example),
)
"""Page, marker and what belongs between ``<!-- marker -->`` and ``<!-- /marker -->``."""


def _words(section: str, wanted: list[str]) -> dict[str, Any]:
    """A section of the wording that has words for exactly what is wanted."""
    words = WORDING[section]
    missing, left = [name for name in wanted if name not in words], [name for name in words if name not in wanted]
    if missing or left:
        raise Wording(f"wording.toml, [{section}]: missing {missing}, not needed {left}")
    return words


def between(page: str, marker: str) -> str:
    """What stands between the markers of a page. Raises ``Wording`` if they are not there once."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- {marker} -->\n(.*?)\n<!-- /{marker} -->", text, re.DOTALL)
    if len(found) != 1:
        raise Wording(f"{page}: <!-- {marker} --> ... <!-- /{marker} --> must stand there once, it does {len(found)}×")
    return str(found[0])


def main(check: bool) -> int:
    stale = []
    for page, marker, make in PAGES:
        before, after = between(page, marker), make()
        if before != after:
            stale.append(f"{page} ({marker})")
        if not check and before != after:
            path = ROOT / page
            text = path.read_text(encoding="utf-8")
            start = text.index(f"<!-- {marker} -->\n") + len(f"<!-- {marker} -->\n")
            path.write_text(text[:start] + after + text[start + len(before) :], encoding="utf-8")
    click.echo(f"{'stale' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
