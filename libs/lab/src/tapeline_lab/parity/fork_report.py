"""What ``tapeline fork`` prints: both sides beside each other, and where they part."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text
from tapeline_lab.parity.comparison import Decision
from tapeline_lab.parity.diff_report import WIDTH
from tapeline_lab.parity.forking import Fork, Side


def as_plain(run: str, sets: tuple[str, ...], found: Fork, recorded_in: str | None) -> dict[str, Any]:
    """One object for programs; money as text."""
    return {
        "run": run,
        "at": found.at,
        "until": found.until,
        "set": list(sets),
        "equity_at": found.equity_at,
        "unchanged": found.unchanged,
        "forked": found.forked,
        "equity_difference": found.forked.equity - found.unchanged.equity,
        "decisions": found.decisions,
        "differing": found.differing,
        "first": None if found.first is None else [_plain(side) for side in found.first],
        "is_as_recorded": found.is_as_recorded,
        "tape_hash": found.tape.tape_hash,
        "record": recorded_in,
    }


def _plain(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "event": decision.event, "author": decision.author, "pos": decision.pos, "time_ns": decision.time_ns,
        "name": decision.key, "content": decision.content,
    }  # fmt: skip


def print_fork(run: str, sets: tuple[str, ...], found: Fork, recorded_in: str | None) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    click.echo(f"{run} up to {found.until}, forked after {found.at} with {', '.join(sets)}")
    if not found.is_as_recorded:
        click.echo("without the change, today's code does not make the recorded session: see `tapeline diff`")
    table = Table()
    table.add_column(f"after position {found.at}")
    for name in ("unchanged", "forked", "difference"):
        table.add_column(name, justify="right")
    for name in ("equity", "profit", "max_drawdown", "fees", "orders", "fills", "trades", "wins"):
        one, other = getattr(found.unchanged, name), getattr(found.forked, name)
        table.add_row(name.replace("_", " "), _shown(one), _shown(other), _signed(other - one))
    for word in ("refused", "declined"):
        _add_reasons(table, word, found.unchanged, found.forked)
    console.print(table)
    if found.first is None:
        click.echo(f"all {found.decisions:,} decisions are the same")
    else:
        click.echo(f"{found.differing:,} of {found.decisions:,} decisions differ; the first:")
        for side, decision in zip(("unchanged", "forked"), found.first, strict=True):
            click.echo(f"  {side:<10} {_line(decision)}")
    if recorded_in is not None:
        click.echo(f"recorded in {recorded_in}, hash {found.tape.tape_hash}")


def _add_reasons(table: Table, word: str, unchanged: Side, forked: Side) -> None:
    one, other = getattr(unchanged, word), getattr(forked, word)
    for reason in sorted({*one, *other}):
        before, after = one.get(reason, 0), other.get(reason, 0)
        table.add_row(f"{word}: {reason}", str(before), str(after), _signed(after - before))


def _line(decision: Decision | None) -> str:
    if decision is None:
        return "nothing"
    said = " ".join(f"{name}={value}" for name, value in decision.content.items() if name not in ("type", "time_ns"))
    place = f"{decision.pos} {time_text(decision.time_ns)} {decision.author} {decision.event}"
    return f"{place} {said if len(said) <= 200 else said[:197] + '...'}"


def _shown(value: Decimal | int) -> str:
    return f"{value:,.2f}" if isinstance(value, Decimal) else f"{value:,}"


def _signed(value: Decimal | int) -> str:
    return f"{value:+,.2f}" if isinstance(value, Decimal) else f"{value:+,}"


def encoded(plain: dict[str, Any]) -> bytes:
    return msgspec.json.encode(plain)
