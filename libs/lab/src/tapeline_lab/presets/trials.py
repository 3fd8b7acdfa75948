"""The trials of a search, read from a study's folder or from what ``tapeline sweep --json`` printed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tapeline_common.events import Parameters
from tapeline_common.values import TrialPart
from tapeline_common.version import code_version
from tapeline_lab.search import StudyUnreadable, load
from tapeline_lab.search.objectives import Objective
from tapeline_lab.search.sweep_command import row_of

Row = dict[str, Any]
"""A trial as one flat object: strategy, parameters, instrument, timeframe, and every figure by its name."""


class SearchUnreadable(Exception):
    """This is no search, or nothing can be chosen from it. The message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the strategy, over everything it was tried on.

    Attributes:
        score: median of the objective over instruments and periods, turned so that larger is better.
        trials: how many there were; ``figures`` are the medians of theirs.
    """

    parameters: Parameters
    score: float
    trials: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Searched:
    """What is known of a search. ``provenance``: lines that say where its numbers come from."""

    strategy: str
    objective: Objective
    settings: tuple[Setting, ...]
    provenance: tuple[str, ...]


SHOWN = ("net_profit", "sharpe", "max_drawdown", "trades")
"""Figures that are written beside a preset, where they are defined."""


def read_search(path: Path, strategy: str | None) -> Searched:
    """The trials of one strategy. strategy: which, if there are several. Raises SearchUnreadable."""
    rows, objective, provenance = _of_study(path) if path.is_dir() else _of_json(path)
    kinds = list(dict.fromkeys(row["strategy"] for row in rows))
    if not kinds:
        raise SearchUnreadable(f"{path}: holds no finished trial: search first, with tapeline sweep")
    if strategy is None and len(kinds) > 1:
        raise SearchUnreadable(f"{path}: holds trials of {', '.join(kinds)}: say which with --strategy")
    chosen = strategy or kinds[0]
    if chosen not in kinds:
        raise SearchUnreadable(f"{path}: holds no trial of {chosen}, only of {', '.join(kinds)}")
    settings = _settings([row for row in rows if row["strategy"] == chosen], objective)
    if not settings:
        raise SearchUnreadable(f"{path}: {objective} is not defined for any trial of {chosen}: search for another")
    return Searched(chosen, objective, settings, provenance)


def _of_study(folder: Path) -> tuple[list[Row], Objective, tuple[str, ...]]:
    """Tests of a walk-forward are left out: what they say must not choose anything."""
    try:
        study = load(folder)
    except StudyUnreadable as trouble:
        raise SearchUnreadable(str(trouble)) from None
    choosing = {index for index, ground in enumerate(study.grounds) if ground.part is not TrialPart.OUT_OF_SAMPLE}
    rows = [msgspec.to_builtins(row_of(trial)) for trial in study.trials if trial.ground in choosing]
    data = dict.fromkeys(
        f"data: {ground.instrument} {ground.timeframe}, {ground.source}, sha256 {ground.digest}"
        for index, ground in enumerate(study.grounds)
        if index in choosing
    )
    state = "complete" if study.is_complete else f"{study.trial_count} of {study.opened.total} trials"
    provenance = (
        f"study: {study.opened.study}, head hash {study.tape_hash}, {state}",
        *data,
        f"code of the search: {study.opened.code_version}",
    )
    return rows, study.objective, provenance


def _of_json(path: Path) -> tuple[list[Row], Objective, tuple[str, ...]]:
    try:
        content = path.read_bytes()
        told = msgspec.json.decode(content, type=dict[str, Any])
        rows, objective = list(told["results"]), Objective(told["rank_by"])
        data = dict.fromkeys(f"data: {row['instrument']} {row['timeframe']}" for row in rows)
    except OSError as trouble:
        raise SearchUnreadable(f"{path}: {trouble.strerror}: name a study's folder or a sweep's JSON") from None
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as trouble:
        reason = f"{type(trouble).__name__}: {trouble}"
        raise SearchUnreadable(f"{path}: not what `tapeline sweep --json` prints ({reason})") from None
    digest = hashlib.sha256(content).hexdigest()
    return rows, objective, (f"sweep: {path.name}, sha256 {digest}", *data, f"code of the choice: {code_version()}")


def _settings(rows: Sequence[Row], objective: Objective) -> tuple[Setting, ...]:
    """One for each set of parameters; those whose objective is undefined somewhere are left out."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(msgspec.json.encode(row["parameters"], order="sorted").decode(), []).append(row)
    sign = -1.0 if objective is Objective.MAX_DRAWDOWN else 1.0
    found = []
    for same in by_key.values():
        values = [row.get(objective.value) for row in same]
        if any(value is None for value in values):
            continue
        found.append(
            Setting(
                parameters=same[0]["parameters"],
                score=sign * float(np.median([float(str(value)) for value in values])),
                trials=len(same),
                figures={name: _median(same, name) for name in SHOWN if _is_told(same, name)},
            )
        )
    return tuple(found)


def _is_told(rows: Sequence[Row], name: str) -> bool:
    return all(row.get(name) is not None for row in rows)


def _median(rows: Sequence[Row], name: str) -> float:
    return float(np.median([float(str(row[name])) for row in rows]))
