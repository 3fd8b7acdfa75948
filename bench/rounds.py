"""Who runs when, and what may be compared: programs measured in rotated rounds, and rows made of their pairs.

Results come before times: a row whose two sides did not do the same work is marked as failed and has no ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.environments import Missing
from bench.measure import Row, in_turn
from bench.processes import PATIENCE_S, Ended, Failed, run

Say = Callable[[str], None]

Command = Sequence[str] | Missing
"""A program with its arguments, or why it is not here."""

Runs = tuple[Ended, ...] | Missing | Failed
"""One run for each round, or why there is none."""

Check = Callable[[Ended, Ended], str | None]
"""What two runs disagree about, ours first; ``None`` if about nothing."""


def in_rounds(
    rounds: int, commands: Mapping[str, Command], say: Say, *, patience_s: float = PATIENCE_S
) -> dict[str, Runs]:
    """Run every command once a round, in rotated order. One that failed is not run again and has no runs."""
    runs: dict[str, list[Ended]] = {name: [] for name in commands}
    without: dict[str, Missing | Failed] = {}
    for name, command in commands.items():
        if isinstance(command, Missing):
            say(f"{name}: {command.reason}")
            without[name] = command
    for number in range(rounds):
        for name in in_turn(number, tuple(commands)):
            command = commands[name]
            if isinstance(command, Missing) or name in without:
                continue
            ended = run(command, patience_s)
            if isinstance(ended, Failed):
                say(f"{name}: {ended.reason}")
                without[name] = ended
                continue
            say(f"round {number + 1} of {rounds}: {name}: {ended.process_s:.1f} s, {ended.peak_mib:,.0f} MiB")
            runs[name].append(ended)
    return {name: without.get(name, tuple(runs[name])) for name in commands}


def row(
    what: str,
    unit: str,
    runs: Mapping[str, Runs],
    sides: tuple[str, str],
    figure: Callable[[Ended], float],
    check: Check | None = None,
    agreed: str = "",
) -> Row:
    """One figure of two programs. ``check`` is asked about every pair; ``agreed`` is the note if it never objects."""
    ours, theirs = (runs[side] for side in sides)
    note = agreed
    failed = ""
    for name, side in zip(sides, (ours, theirs), strict=True):
        if isinstance(side, Failed):
            failed = failed or f"{name}: {side.reason}"
        elif isinstance(side, Missing):
            note = side.reason
    if check is not None and isinstance(ours, tuple) and isinstance(theirs, tuple):
        failed = next(filter(None, map(check, ours, theirs)), "")
    return Row(what, unit, _figures(ours, figure), sides[1], _figures(theirs, figure), "" if failed else note, failed)


def _figures(runs: Runs, figure: Callable[[Ended], float]) -> tuple[float, ...]:
    return tuple(figure(each) for each in runs) if isinstance(runs, tuple) else ()


# ---- figures and checks ------------------------------------------------------------------------------------------


def bars_per_s(bars: int) -> Callable[[Ended], float]:
    """Bars a second of the engine's own run: without imports, loading and the report."""
    return lambda ended: bars / ended.said["elapsed_s"]


def process_s(ended: Ended) -> float:
    return ended.process_s


def peak_mib(ended: Ended) -> float:
    return ended.peak_mib


def same_orders(ours: Ended, theirs: Ended) -> str | None:
    mine, other = ours.said["orders"], theirs.said["orders"]
    return None if mine == other else f"{mine:,} orders, theirs {other:,}"


def same_result(ours: Ended, theirs: Ended) -> str | None:
    """As many orders, and the same equity at the end to half a cent: engines that count in floats are off by less."""
    return same_orders(ours, theirs) or _same_money("final_equity", ours, theirs)


def same_tape(ours: Ended, theirs: Ended) -> str | None:
    mine, other = ours.said["tape_hash"], theirs.said["tape_hash"]
    return same_result(ours, theirs) or (None if mine == other else "not the same tape")


def same_result_with_regimes(bars: int) -> Check:
    """The same, and a regime said to all but the bars that train the model: a filter that never began costs nothing."""

    def check(ours: Ended, theirs: Ended) -> str | None:
        said = ours.said["facts"] - theirs.said["facts"]
        return same_result(ours, theirs) or (None if said > 0.9 * bars else f"{said:,} facts more, for {bars:,} bars")

    return check


def _same_money(key: str, ours: Ended, theirs: Ended) -> str | None:
    mine, other = float(ours.said[key]), float(theirs.said[key])
    return None if abs(mine - other) < 0.005 else f"{key.replace('_', ' ')} {mine:.2f}, theirs {other:.2f}"
