"""``python -m bench.validity``: size and power of every statistic of the laboratory, by simulation with known truth.

A test's size is how often it cries wolf where nothing is; its power how often it finds what is there. Each row is a
share or a mean over many generated data sets, with the goal it must meet; the exit code is 1 if one is missed. Rows
without a goal are there to compare with. The same seed gives the same figures. With fewer data sets than a full run's,
a goal counts as missed when it lies more than three standard errors away.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from tapeline_lab.validity import splits
from tapeline_lab.validity.blocks import block_length, generator, matched
from tapeline_lab.validity.bootstrap import Method, bootstrap_interval
from tapeline_lab.validity.overfitting import backtest_overfitting
from tapeline_lab.validity.series import Floats
from tapeline_lab.validity.sharpe import deflated_sharpe, probabilistic_sharpe, sharpe_ratios
from tapeline_lab.validity.superior import superior_predictive_ability, superior_trials
from tapeline_lab.validity.trials import Counting, effective_trials

YEAR = 365
DAYS = 3 * YEAR
TRIALS = 50
ALIKE = 0.95
"""Correlation of neighbours on a grid."""

SLACK = 3.0
"""Standard errors that a goal may be off when there are fewer data sets than the goal is meant for."""


class Check(msgspec.Struct, frozen=True):
    """One row: what was measured over how many data sets, and the goal, if it has one."""

    statistic: str
    what: str
    value: float
    error: float
    low: float | None
    high: float | None
    sets: int

    def is_met(self, slack: float = 0.0) -> bool:
        """Whether the value is within the goal, or beyond it by so many standard errors at most."""
        # A share of zero or one has no error to see: one more data set could still have been otherwise.
        off = slack * max(self.error, 1.0 / self.sets)
        return (self.low is None or self.value >= self.low - off) and (
            self.high is None or self.value <= self.high + off
        )

    @property
    def goal(self) -> str:
        if self.low is None and self.high is None:
            return "-"
        if self.low is None:
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


def check(
    statistic: str, what: str, values: Floats | list[float], low: float | None = None, high: float | None = None
) -> Check:
    found = np.asarray(values, dtype=np.float64)
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    return Check(statistic, what, float(np.mean(found)), error, low, high, len(found))


# ---- worlds ------------------------------------------------------------------------------------------------------


def independent(chance: np.random.Generator, days: int = DAYS, trials: int = TRIALS) -> Floats:
    """Trials that have nothing in them and nothing to do with each other."""
    return 0.01 * chance.standard_normal((days, trials))


def alike(chance: np.random.Generator) -> Floats:
    """Worthless variants of one worthless idea."""
    common = chance.standard_normal((DAYS, 1))
    own = chance.standard_normal((DAYS, TRIALS))
    return 0.01 * (math.sqrt(ALIKE) * common + math.sqrt(1.0 - ALIKE) * own)


def five_ideas(chance: np.random.Generator) -> Floats:
    """Worthless variants of five worthless ideas."""
    ideas = np.repeat(chance.standard_normal((DAYS, 5)), TRIALS // 5, axis=1)
    own = chance.standard_normal((DAYS, TRIALS))
    return 0.01 * (math.sqrt(ALIKE) * ideas + math.sqrt(1.0 - ALIKE) * own)


def with_one_true(matrix: Floats, annual_sharpe: float) -> Floats:
    """The first trial gets a mean that gives it this Sharpe ratio."""
    lifted = matrix.copy()
    lifted[:, 0] += 0.01 * annual_sharpe / math.sqrt(YEAR)
    return lifted


def autoregressive(chance: np.random.Generator, days: int, memory: float) -> Floats:
    """AR(1) with mean zero."""
    shocks = chance.standard_normal(days + 100)
    series = np.zeros(days + 100)
    for day in range(1, days + 100):
        series[day] = memory * series[day - 1] + shocks[day]
    return 0.01 * series[100:]


World = Callable[[np.random.Generator], Floats]


# ---- statistics --------------------------------------------------------------------------------------------------


def sharpe_size(scale: float, seed: int) -> Iterator[Check]:
    """PSR on skewed returns of mean zero."""
    sets, found = _sets(2_000, scale), []
    for number in range(sets):
        chance = generator(seed, number)
        returns = 0.01 * (1.0 - chance.exponential(size=DAYS))
        found.append(probabilistic_sharpe(returns) > 0.95)
    yield check("PSR", "no edge, skew -2: PSR > .95", _as_shares(found), 0.03, 0.07)


def deflated_size(scale: float, seed: int) -> Iterator[Check]:
    """DSR of the best of fifty, with trials counted by eigenvalues, by clusters, and as they are."""
    worlds: tuple[tuple[str, World], ...] = (
        ("50 independent", independent),
        ("50 alike", alike),
        ("5 ideas of 10", five_ideas),
    )
    for name, world in worlds:
        rows = [_deflated(world(generator(seed, number))) for number in range(_sets(400, scale))]
        raw, eigenvalues, clusters, plain = (_as_shares(column) for column in zip(*rows, strict=True))
        yield check("DSR", f"best of {name}, no edge: DSR > .95", eigenvalues, None, 0.05)
        yield check("DSR", f"best of {name}, no edge: every trial counted", raw)
        yield check("DSR", f"best of {name}, no edge: clusters counted", clusters)
        yield check("PSR", f"best of {name}, no edge: PSR > .95, taking no trial into account", plain)
    for ratio, low in ((2.0, None), (4.0, 0.8)):
        rows = [
            _deflated(with_one_true(independent(generator(seed, number)), ratio)) for number in range(_sets(400, scale))
        ]
        yield check(
            "DSR", f"one of 50 has Sharpe {ratio:g}, 3 years: DSR > .95", _as_shares([row[1] for row in rows]), low
        )


def _deflated(matrix: Floats) -> tuple[bool, bool, bool, bool]:
    ratios = sharpe_ratios(matrix)
    best = matrix[:, int(np.argmax(ratios))]
    counts = (None, effective_trials(matrix), effective_trials(matrix, Counting.CLUSTERS))
    raw, eigenvalues, clusters = (deflated_sharpe(best, ratios, count).probability > 0.95 for count in counts)
    return raw, eigenvalues, clusters, probabilistic_sharpe(best) > 0.95


def overfitting_size(scale: float, seed: int) -> Iterator[Check]:
    """PBO of searches with nothing in them, and with something."""
    sets = _sets(300, scale)
    null = [backtest_overfitting(independent(generator(seed, number), 750)).probability for number in range(sets)]
    yield check("PBO", "50 independent, no edge: mean", null, 0.47, 0.53)
    yield check("PBO", "50 independent, no edge: PBO < .2", _as_shares([one < 0.2 for one in null]), None, 0.1)
    same = [backtest_overfitting(alike(generator(seed, number))[:750]).probability for number in range(sets // 3)]
    yield check("PBO", "50 alike, no edge: mean", same, 0.44, 0.56)
    true = [
        backtest_overfitting(with_one_true(independent(generator(seed, number), 750), 2.0)).probability
        for number in range(sets // 3)
    ]
    yield check("PBO", "one of 50 has Sharpe 2: mean", true, None, 0.3)
    strong = [
        backtest_overfitting(with_one_true(independent(generator(seed, number), 750), 4.0)).probability < 0.2
        for number in range(sets // 3)
    ]
    yield check("PBO", "one of 50 has Sharpe 4: PBO < .2", _as_shares(strong), 0.95)


def superior_size(scale: float, seed: int) -> Iterator[Check]:
    """SPA, the reality check and StepM with ten trials."""
    sets = _sets(500, scale)
    found = [_superior(independent(generator(seed, number), 500, 10), number) for number in range(sets)]
    yield check("SPA", "10 trials, no edge: p < .05", _as_shares([spa < 0.05 for spa, _ in found]), 0.03, 0.07)
    yield check("RC", "10 trials, no edge: p < .05", _as_shares([white < 0.05 for _, white in found]), 0.02, 0.08)
    # Bad trials are what White's test pays for and Hansen's does not.
    bad = np.r_[0.0, np.full(9, -0.003)]
    power = [
        _superior(with_one_true(independent(generator(seed, number), 500, 10) + bad, 4.0), number)
        for number in range(sets // 5)
    ]
    yield check("SPA", "one has Sharpe 4, nine lose: p < .05", _as_shares([spa < 0.05 for spa, _ in power]), 0.8)
    yield check("RC", "one has Sharpe 4, nine lose: p < .05", _as_shares([white < 0.05 for _, white in power]))
    steps = [
        superior_trials(
            with_one_true(independent(generator(seed, number), 500, 10), 5.0), seed=number, block=2, runs=500
        )
        for number in range(sets // 5)
    ]
    yield check("StepM", "one has Sharpe 5: it is found", _as_shares([0 in one for one in steps]), 0.8)
    yield check(
        "StepM",
        "one has Sharpe 5: a wrong one beside it",
        _as_shares([set(one) - {0} != set() for one in steps]),
        None,
        0.1,
    )


def _superior(matrix: Floats, seed: int) -> tuple[float, float]:
    found = superior_predictive_ability(matrix, seed=seed, block=2, runs=500)
    return found.consistent, found.reality_check


def coverage(scale: float, seed: int) -> Iterator[Check]:
    """95 % intervals of the Sharpe ratio of 500 dependent days, whose true value is zero."""
    sets = _sets(1_000, scale)
    kinds: dict[str, list[bool]] = {"blocks": [], "blocks, BCa": [], "single days": []}
    for number in range(sets):
        returns = autoregressive(generator(seed, number), 500, 0.3)
        length = block_length(returns)
        calls = {
            "blocks": (length, Method.PERCENTILE),
            "blocks, BCa": (length, Method.BCA),
            "single days": (1.0, Method.PERCENTILE),
        }
        for name, (block, method) in calls.items():
            interval = bootstrap_interval(returns, seed=number, block=block, method=method, runs=500)
            kinds[name].append(interval.contains(0.0))
    for name, held in kinds.items():
        goal = None if name == "single days" else 0.91
        yield check("interval", f"AR(.3), 500 days, {name}: covers the truth", _as_shares(held), goal)


def leaks(scale: float, seed: int) -> Iterator[Check]:
    """A model that remembers its nearest neighbour in time, on labels of ten bars that nothing predicts."""
    labels, sets = splits.labels(1_000, 10), _sets(100, scale)
    kinds: dict[str, list[float]] = {"plain folds": [], "purged folds": []}
    for number in range(sets):
        steps = generator(seed, number).standard_normal(1_011)
        answers = np.lib.stride_tricks.sliding_window_view(steps[1:], 10)[:1_000].sum(axis=1) > 0.0
        for name, folds in (
            ("plain folds", _plain(1_000, 50)),
            ("purged folds", splits.purged(labels, 50, embargo=10)),
        ):
            right = [_remembered(answers, fold) for fold in folds]
            kinds[name].append(float(np.mean(np.concatenate(right))))
    yield check("folds", "no edge, purged: share of right answers", kinds["purged folds"], 0.47, 0.53)
    yield check("folds", "no edge, not purged: share of right answers", kinds["plain folds"], 0.6)


def _plain(count: int, folds: int) -> list[splits.Split]:
    everything = np.arange(count)
    edges = itertools.pairwise([count * number // folds for number in range(folds + 1)])
    return [
        splits.Split(np.r_[everything[:first], everything[stop:]], ((first, stop),), ((first, first),))
        for first, stop in edges
    ]


def _remembered(answers: np.ndarray[tuple[int], np.dtype[np.bool_]], fold: splits.Split) -> Floats:
    tested = fold.test_indices
    nearest = fold.train[np.argmin(np.abs(fold.train[None, :] - tested[:, None]), axis=1)]
    right: Floats = (answers[nearest] == answers[tested]).astype(np.float64)
    return right


def regimes(scale: float, seed: int) -> Iterator[Check]:
    """Resamples of days whose regimes last 20 days on average, drawn in blocks of ten."""
    runs = _sets(200, scale)
    chance = generator(seed)
    changes = chance.random(2_000) < 0.05
    labels = np.cumsum(changes) % 2
    seen = float(np.mean(labels[1:] == labels[:-1]))
    drawn = labels[matched(chance, labels, 10.0, runs)]
    stays = np.mean(drawn[:, 1:] == drawn[:, :-1], axis=1) - seen
    yield check("joint", "days that keep their regime, drawn less recorded", stays, -0.01, 0.01)


PARTS = (sharpe_size, deflated_size, overfitting_size, superior_size, coverage, leaks, regimes)


def measure(scale: float, seed: int, say: Callable[[str], None]) -> list[Check]:
    """Every row. scale: share of the full number of data sets."""
    found: list[Check] = []
    for part in PARTS:
        started = time.perf_counter()
        found += part(scale, seed)
        say(f"{part.__name__}: {time.perf_counter() - started:.1f} s")
    return found


def _sets(full: int, scale: float) -> int:
    return max(10, round(full * scale))


def _as_shares(found: list[bool] | tuple[bool, ...]) -> Floats:
    return np.asarray(found, dtype=np.float64)


def _table(found: list[Check], slack: float) -> Table:
    table = Table(title="size and power, by simulation")
    for column in ("statistic", "world and event", "measured", "± 2 se", "goal", "", "data sets"):
        table.add_column(column, justify="left" if column in ("statistic", "world and event", "") else "right")
    for one in found:
        mark = "" if one.goal == "-" else "met" if one.is_met(slack) else "MISSED"
        table.add_row(
            one.statistic, one.what, f"{one.value:.3f}", f"{2 * one.error:.3f}", one.goal, mark, f"{one.sets:,}"
        )
    return table


@click.command()
@click.option(
    "--scale", type=click.FloatRange(0.01, 10.0), default=1.0, show_default=True, help="Share of the data sets."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON list, for programs.")
def main(scale: float, seed: int, to_json: bool) -> None:
    """Measure size and power of every statistic; exit code 1 if a goal is missed."""
    slack = SLACK if scale < 1.0 else 0.0
    found = measure(scale, seed, lambda said: click.echo(said, err=True))
    if to_json:
        click.echo(msgspec.json.encode([{**msgspec.structs.asdict(one), "is_met": one.is_met(slack)} for one in found]))
    else:
        console = Console()
        (console if console.is_terminal else Console(width=140)).print(_table(found, slack))
    missed = [one for one in found if not one.is_met(slack)]
    for one in missed:
        click.echo(f"missed: {one.statistic}, {one.what}: {one.value:.3f}, goal {one.goal}", err=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
