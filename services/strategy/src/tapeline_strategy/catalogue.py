"""Which strategies there are: those installed in this environment, found by entry point.

A package adds a strategy by naming it in the entry point group ``tapeline.strategies``; nothing else has to change.
Code that has no package (a notebook, a test) adds one to the running process with ``add``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from tapeline_strategy.sdk import Strategy, close_match

GROUP = "tapeline.strategies"

_found: dict[str, Strategy] = {}
"""Loaded once a process: entry points cannot change under a running program."""

_added: dict[str, Strategy] = {}


class StrategyUnknown(LookupError):
    """A kind of strategy that is not installed. The message lists what is."""


def installed() -> Mapping[str, Strategy]:
    """Every known strategy by name, in alphabetical order; those added by hand last.

    Raises:
        ValueError: an entry point is no strategy, or goes by another name than its strategy.
    """
    if not _found:
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            strategy = entry.load()
            if not isinstance(strategy, Strategy) or strategy.name != entry.name:
                raise ValueError(f"entry point {entry.name!r} ({entry.value}) is no strategy named {entry.name!r}")
            _found[entry.name] = strategy
    return {**_found, **_added}


def find(kind: str) -> Strategy:
    """The strategy of that name.

    Raises:
        StrategyUnknown: there is none.
    """
    strategy = _found.get(kind) or _added.get(kind)
    if strategy is not None:
        return strategy
    known = installed()
    if kind in known:
        return known[kind]
    raise StrategyUnknown(f"unknown strategy {kind!r}{close_match(kind, list(known))} (installed: {', '.join(known)})")


def add(strategy: Strategy) -> None:
    """Make a strategy known to this process. Adding the same one again changes nothing.

    Raises:
        ValueError: another strategy goes by that name.
    """
    if installed().get(strategy.name, strategy) != strategy:
        raise ValueError(f"strategy {strategy.name!r} exists already; give yours another name")
    _added[strategy.name] = strategy
