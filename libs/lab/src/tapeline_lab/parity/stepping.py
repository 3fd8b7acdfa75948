"""``tapeline replay RUN --step``: a session fact by fact, with what each changed in every core that heard it.

States are those that the services had: every core learns the recorded answers. A state is shown as plain nested data,
and a step as the paths in it that changed. It decides nothing and changes nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import click
import msgspec
import numpy as np

from tapeline_common.commands_shared import fail
from tapeline_common.commands_tape import fact_line
from tapeline_common.exits import EXIT_USAGE
from tapeline_common.wire import Fact
from tapeline_lab.parity.commands import position_of, trouble_ends
from tapeline_lab.parity.record import Record, record_of
from tapeline_lab.parity.rerun import Gear, Rerun, installed_gear
from tapeline_lab.parity.runs import read_run

HELP = "Enter: the next fact. n 10: ten on. p 250: go to position 250. q: end."


class Step(msgspec.Struct, frozen=True):
    """One fact and what it did: core → path in its state → (before, after). ``None``: not there."""

    fact: Fact
    changes: dict[str, dict[str, tuple[Any, Any]]]


class _Ended(Exception):
    """Nobody wants to see more."""


class _GoTo(Exception):
    def __init__(self, pos: int) -> None:
        super().__init__(pos)
        self.pos = pos


def plain(value: Any) -> Any:
    """A state as nested dicts, lists and texts, whatever it is made of."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it, and NaN would differ from itself
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_key(key): plain(each) for key, each in value.items()}
    if isinstance(value, Set):
        return sorted(map(str, value))
    if hasattr(value, "__dict__"):
        return plain(vars(value))
    return [plain(each) for each in value] if hasattr(value, "__iter__") else repr(value)


def _key(key: Any) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The paths at which two plain values differ. A window that slid is told by what left it and what came."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else name
            if name not in before:
                yield inner, (None, after[name])
            elif name not in after:
                yield inner, (before[name], None)
            else:
                yield from differences(before[name], after[name], inner)
    elif isinstance(before, list) and isinstance(after, list) and before != after:
        yield from _of_lists(before, after, path)
    elif before != after:
        yield path, (before, after)


def _of_lists(before: list[Any], after: list[Any], path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if after[: len(before)] == before:
        for index in range(len(before), len(after)):
            yield f"{path}[{index}]", (None, after[index])
    elif len(before) == len(after) and before[1:] == after[:-1]:
        yield f"{path}[0]", (before[0], None)
        yield f"{path}[{len(after) - 1}]", (None, after[-1])
    elif len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    else:
        yield path, (before, after)


def walk(record: Record, gear: Gear, show: Callable[[Step], None], start: int, cores: Sequence[str]) -> None:
    """Show every fact from position ``start`` on with what it changed in these cores, in order."""
    known: dict[str, Any] = {}

    def watch(fact: Fact) -> None:
        if fact.pos < start - 1:
            return
        is_first = not known
        changes: dict[str, dict[str, tuple[Any, Any]]] = {}
        for name in cores:
            seat = rerun.seats[name]
            if is_first or type(fact.event) in seat.core.hears:
                before = known.get(name, initial.get(name))
                known[name] = plain(seat.state)
                found = dict(differences(before, known[name]))
                if found:
                    changes[name] = found
        if fact.pos >= start:
            show(Step(fact, changes))

    def reply(author: str, key: str) -> Sequence[Fact]:
        return record.answers.get((author, key), ())

    said = sorted([*record.outside(), *record.reports()], key=lambda saying: saying.at)
    rerun = Rerun(record, gear, said, replies=reply, watch=watch)
    initial = {name: plain(rerun.seats[name].state) for name in cores}
    rerun.run()


def step_through(run: str, *, at: str | None, cores: tuple[str, ...], steps: int | None, to_json: bool) -> None:
    """The command: interactive on a terminal, one line a step in JSON, else printed one after the other."""
    with trouble_ends():
        record = record_of(read_run(run))
        gear = installed_gear()
        start = 1 if at is None else position_of(record, at)
    names = [core.name for core in gear.cores]
    unknown = [name for name in cores if name not in names]
    if unknown:
        fail(f"--core {unknown[0]}: no core of that name; there are {', '.join(names)}", EXIT_USAGE)
    shown = _Shown(record.head, steps, to_json, is_asking=not to_json and sys.stdin.isatty() and sys.stdout.isatty())
    while True:
        try:
            walk(record, gear, shown.show, start, cores or names)
        except _GoTo as jump:
            start = jump.pos
            continue
        except _Ended:
            pass
        return


class _Shown:
    """Prints steps, and on a terminal asks after each what is wanted next."""

    def __init__(self, head: int, steps: int | None, to_json: bool, *, is_asking: bool) -> None:
        self._head = head
        self._left = steps
        self._to_json = to_json
        self._is_asking = is_asking
        self._ahead = 0
        if is_asking:
            click.echo(HELP)

    def show(self, step: Step) -> None:
        if self._to_json:
            click.echo(msgspec.json.encode(step))
        else:
            print_step(step)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                raise _Ended
        if self._is_asking and step.fact.pos < self._head:
            self._ask(step.fact.pos)

    def _ask(self, pos: int) -> None:
        if self._ahead > 1:
            self._ahead -= 1
            return
        self._ahead = 0
        while True:
            word, _, number = click.prompt(f"{pos} of {self._head}", default="", show_default=False).partition(" ")
            if not word:
                return
            if word == "q":
                raise _Ended
            if word == "n" and number.isdecimal() and int(number) > 0:
                self._ahead = int(number)
                return
            if word == "p" and number.isdecimal() and 1 <= int(number) <= self._head:
                raise _GoTo(int(number))
            click.echo(HELP)


def print_step(step: Step) -> None:
    click.echo(fact_line(step.fact))
    for core, changes in step.changes.items():
        for path, (before, after) in changes.items():
            click.echo(f"{'':>20} {core:<10} {path}: {_shown(before)} -> {_shown(after)}")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."
