"""How far a backtest may be believed: pure functions of return series, with explicit seeds.

Nothing here runs a strategy, reads a file or knows the time; the commands, ``sources`` and ``searches``, which read
what is recorded, are loaded by the command line alone.
"""

from tapeline_lab.validity.blocks import block_length
from tapeline_lab.validity.bootstrap import (
    Interval,
    Method,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_intervals,
)
from tapeline_lab.validity.evidence import Evidence, Finding, Level, Standing, Topic, Verdict, verdict, weigh
from tapeline_lab.validity.fan import Fan, Law, monte_carlo, reshuffle_trades
from tapeline_lab.validity.overfitting import Overfitting, backtest_overfitting
from tapeline_lab.validity.series import SeriesInvalid
from tapeline_lab.validity.sharpe import (
    Correction,
    Deflated,
    Haircut,
    Moments,
    deflated,
    deflated_sharpe,
    expected_maximum,
    haircut,
    minimum_backtest_years,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
    probability_above,
    sharpe_ratio,
    sharpe_ratios,
    standard_error,
    track_record,
)
from tapeline_lab.validity.superior import Superiority, superior_predictive_ability, superior_trials
from tapeline_lab.validity.trials import Counting, effective_trials

__all__ = [
    "Correction",
    "Counting",
    "Deflated",
    "Evidence",
    "Fan",
    "Finding",
    "Haircut",
    "Interval",
    "Law",
    "Level",
    "Method",
    "Moments",
    "Overfitting",
    "SeriesInvalid",
    "Standing",
    "Superiority",
    "Topic",
    "Verdict",
    "backtest_overfitting",
    "block_length",
    "bootstrap_difference",
    "bootstrap_interval",
    "bootstrap_intervals",
    "deflated",
    "deflated_sharpe",
    "effective_trials",
    "expected_maximum",
    "haircut",
    "minimum_backtest_years",
    "minimum_track_record",
    "moments",
    "monte_carlo",
    "probabilistic_sharpe",
    "probability_above",
    "reshuffle_trades",
    "sharpe_ratio",
    "sharpe_ratios",
    "standard_error",
    "superior_predictive_ability",
    "superior_trials",
    "track_record",
    "verdict",
    "weigh",
]
