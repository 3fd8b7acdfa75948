"""Which strategies there are: those installed in this environment, found by entry point, and those of other sources.

A package adds a strategy by naming it in the entry point group ``tapeline.strategies``; nothing else has to change.
Code that has no package (a notebook, a test) adds one to the running process with ``add``. Where else to look when the
list is first wanted is told by ``also_from``; this module opens no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points

from tapeline_strategy.sdk import Strategy, close_match

GROUP = "tapeline.strategies"

_found: dict[str, Strategy] = {}
"""Loaded once a process: entry points cannot change under a running program."""

_added: dict[str, Strategy] = {}

_origins: dict[str, str] = {}
"""Where each found strategy was defined, for messages."""

Source = Callable[[], Iterable[tuple[str, Strategy]]]
"""Gives (where it was defined, strategy)."""

_sources: list[Source] = []


class StrategyUnknown(LookupError):
    """A kind of strategy that is not installed. The message lists what is."""


class StrategyClash(ValueError):
    """Two strategies go by one name. The message says where each is defined."""


def also_from(source: Source) -> None:
    """Another place to look in, once, when strategies are first wanted."""
    if source not in _sources:
        _sources.append(source)


def installed() -> Mapping[str, Strategy]:
    """Every known strategy by name, in alphabetical order; those added by hand last.

    Raises:
        ValueError: an entry point is no strategy, or goes by another name than its strategy.
        StrategyClash: two of them have one name.
    """
    if not _found:
        found: dict[str, Strategy] = {}
        for origin, strategy in (*of_packages(), *(each for source in _sources for each in source())):
            if found.get(strategy.name, strategy) is not strategy:
                raise StrategyClash(
                    f"two strategies are named {strategy.name!r}: one in {_origins[strategy.name]} and one in {origin};"
                    f" give yours another name"
                )
            found[strategy.name] = strategy
            _origins.setdefault(strategy.name, origin)
        _found.update(found)
    return {**_found, **_added}


def of_packages() -> Iterator[tuple[str, Strategy]]:
    """(where it was defined, strategy) of every installed package, by name. Raises ``ValueError``."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        strategy = entry.load()
        if not isinstance(strategy, Strategy) or strategy.name != entry.name:
            raise ValueError(f"entry point {entry.name!r} ({entry.value}) is no strategy named {entry.name!r}")
        package = entry.dist.name if entry.dist is not None else "an installed package"
        yield f"{package} ({entry.value})", strategy


def origin(kind: str) -> str:
    """Where a found strategy was defined, in words; empty for those added by hand."""
    installed()
    return _origins.get(kind, "")


def forget() -> None:
    """Look everywhere again when strategies are next wanted: another folder has come into use."""
    _found.clear()
    _origins.clear()


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
