"""Runs with the hidden Markov model on: models and regimes of the tape know the past only, and mutants are caught."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.bias.bars import market
from tests.gears import settings_of

from tapeline_common.settings import RegimeTable, Settings
from tapeline_common.values import Regime
from tapeline_lab.bias.findings import Analysis, Finding, Kind, Probe
from tapeline_lab.bias.leaks import fills_on_tape
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.lookahead_command import TAPE_BARS, tape_bars
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import Table
from tapeline_lab.bias.tapes import facts_of, said_by_bar, tape_subject
from tapeline_regime import core, trainer, training
from tapeline_regime.features import feature_rows
from tapeline_regime.filtering import Prepared

TRAIN, REFIT, BARS = 230, 60, 300
"""The first model is of bar 230, the second of bar 290: few bars, because every run fits both."""


REMEMBERED = cache(training.fit)


@pytest.fixture(autouse=True)
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits from one start instead of ten, and the same bars but once: every run trains on the same two windows."""
    monkeypatch.setattr(trainer, "RESTARTS", 1)
    monkeypatch.setattr(training, "fit", REMEMBERED)


QUICK: dict[str, dict[str, Any]] = {
    "ema_cross": {"fast": 3, "slow": 8},
    "regime_switch": {"length": 20},
    "donchian": {"entry": 10, "leave": 5, "atr": 5},
}


def moody() -> Table:
    """Bars that rise, fall and stand still by turns, so that the regimes are told apart."""
    chance = np.random.Generator(np.random.PCG64(1))
    mood = np.arange(BARS) // 12 % 3
    moves = chance.normal(np.array([0.002, -0.002, 0.0])[mood], np.array([0.004, 0.005, 0.002])[mood])
    close = np.round(100.0 * np.exp(np.cumsum(moves)), 2)
    opened = np.append(100.0, close[:-1])
    high, low = np.maximum(opened, close) + 0.02, np.minimum(opened, close) - 0.02
    return {**market(BARS), "open": opened, "high": high, "low": low, "close": close}


def with_regimes(kind: str = "ema_cross") -> Settings:
    """A strategy that trades in two of the three regimes, of a model that is fitted as the run goes on."""
    settings = settings_of(kind, QUICK[kind])
    (table,) = settings.strategy
    return msgspec.structs.replace(
        settings,
        regime=RegimeTable(enabled=True, train_bars=TRAIN, refit_bars=REFIT),
        strategy=(msgspec.structs.replace(table, regimes=(Regime.BULL, Regime.CHOP)),),
    )


def examined(subject: Subject, probes: tuple[Probe, ...]) -> Analysis:
    return lookahead_analysis(subject, moody(), cuts=16, event_cuts=8, probes=probes)


def test_a_run_with_regimes_is_clean() -> None:
    """Models, regimes and everything decided by them, with nothing behind the cuts and with other prices."""
    settings, table = with_regimes(), moody()
    facts = facts_of(settings, table)
    kinds = [type(recorded.fact.event).__name__ for recorded in facts]
    assert (kinds.count("ModelRegistered"), kinds.count("ModelPromoted")) == (2, 1)
    assert kinds.count("RegimeUpdated") > BARS - TRAIN - 5
    assert kinds.count("OrderFilled") > 2, "the strategy has to trade in its regimes"
    analysis = examined(tape_subject(settings), (Probe.PREFIX, Probe.SCALED))
    assert (analysis.findings, analysis.not_run) == ((), {})
    assert fills_on_tape([recorded.fact for recorded in facts]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", QUICK)
def test_it_is_at_64_cuts(kind: str) -> None:
    """And with bars in another order."""
    analysis = lookahead_analysis(tape_subject(with_regimes(kind)), moody(), event_cuts=8)
    assert (analysis.findings, analysis.cuts >= 64) == ((), True)


# ---- mutants -----------------------------------------------------------------------------------------------------


def found_in(monkeypatch: pytest.MonkeyPatch, mutate: Any) -> dict[str, Finding]:
    """What is found by column if every run is made on a mutant that knows the whole table."""
    settings = with_regimes()

    def run(table: Table) -> Table:
        with monkeypatch.context() as patched:
            mutate(patched, table)
            return said_by_bar(settings, table)

    analysis = examined(Subject("mutant", run, takes_nan=False), (Probe.PREFIX,))
    return {finding.column: finding for finding in analysis.findings}


def test_a_model_trained_on_all_data_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its registration depends on the last bar, and so do the regimes."""
    fit = training.fit

    def fitted_on_all(patched: pytest.MonkeyPatch, table: Table) -> None:
        closes = tuple(table["close"].tolist())
        patched.setattr(training, "fit", lambda _closes, **how: fit(closes, **how))

    found = found_in(monkeypatch, fitted_on_all)
    assert found["ModelRegistered"].kind is Kind.WHOLE_SAMPLE
    assert found["ModelRegistered"].bar == TRAIN - 1
    assert found["RegimeUpdated"].kind is Kind.WHOLE_SAMPLE


def test_viterbi_labels_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is of the past, and still the likeliest path through all bars knows those to come."""

    def labelled_by_path(patched: pytest.MonkeyPatch, table: Table) -> None:
        rows = feature_rows(table["close"])
        known = {tuple(row.tolist()): number for number, row in enumerate(rows) if np.isfinite(row).all()}
        paths: dict[Any, list[int]] = {}

        def step(prepared: Prepared, _belief: Any, observation: Any) -> tuple[Any, float]:
            if prepared.transition not in paths:
                paths[prepared.transition] = viterbi(prepared, rows)
            state = paths[prepared.transition][known[tuple(observation)]]
            return tuple(0.98 if each == state else 0.01 for each in range(3)), 0.0

        patched.setattr(core, "step", step)

    found = found_in(monkeypatch, labelled_by_path)
    assert found["RegimeUpdated"].kind in (Kind.FUTURE_BARS, Kind.WHOLE_SAMPLE)
    assert "ModelRegistered" not in found


def viterbi(prepared: Prepared, rows: Any) -> list[int]:
    """The likeliest path through all the rows; those without numbers say nothing."""
    transition = np.log(np.array(prepared.transition).reshape(3, 3))
    columns = np.array(prepared.columns)
    weighed = (rows[:, :, None] - columns[:, :3]) ** 2 * columns[:, 3:]
    said = np.nan_to_num(np.array(prepared.constants) - weighed.sum(axis=1))
    score, back = np.log(np.array(prepared.start)), []
    for each in said:
        through = score[:, None] + transition
        back.append(through.argmax(axis=0))
        score = through.max(axis=0) + each
    state, path = int(score.argmax()), []
    for pointers in reversed(back):
        path.append(state)
        state = int(pointers[state])
    return path[::-1]


# ---- enough bars -------------------------------------------------------------------------------------------------


def test_a_tape_is_long_enough_for_two_models() -> None:
    """A longer training makes a longer tape; without regimes it is what it was."""
    settings = with_regimes()
    assert tape_bars(settings) == TAPE_BARS
    slow = msgspec.structs.replace(settings, regime=RegimeTable(enabled=True, train_bars=1500, refit_bars=250))
    assert tape_bars(slow) == 1500 + 2 * 250
    assert tape_bars(msgspec.structs.replace(slow, regime=RegimeTable(enabled=False))) == TAPE_BARS
