"""Cointegration: known pairs are found with their ratio, random walks are not, and a pair that ended is called so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tapeline_common.cli import tapeline
from tapeline_lab.pairs.cointegration import Floats, TooFewBars, cointegration


def pair(seed: int, count: int, *, pull: float = 0.2, breaks_at: int | None = None) -> tuple[Floats, Floats]:
    """The first is 5 + 1.7 times a random walk and a spread that comes back by ``pull`` a bar, until it breaks."""
    chance = np.random.default_rng(seed)
    second = 200 + np.cumsum(chance.normal(0, 0.5, count))
    noise = chance.normal(0, 0.5, count)
    spread = np.zeros(count)
    for i in range(1, count):
        held = 0.0 if breaks_at is not None and i >= breaks_at else pull
        spread[i] = (1 - held) * spread[i - 1] + noise[i]
    return 5 + 1.7 * second + spread, second


def walk(seed: int, count: int) -> Floats:
    return 200 + np.cumsum(np.random.default_rng(seed).normal(0, 0.5, count))


def test_a_pair_is_found_with_its_ratio_and_half_life() -> None:
    """Ratio, deviation and half-life are those it was made with, and both tests reject."""
    found = cointegration(*pair(1, 2000))

    assert found.ratio == pytest.approx(1.7, rel=0.02)
    assert found.deviation == pytest.approx(0.5 / math.sqrt(1 - 0.8**2), rel=0.15)
    assert found.half_life_bars == pytest.approx(math.log(2) / -math.log(0.8), rel=0.2)
    assert (found.estimated.is_stationary, found.later.is_stationary) == (True, True)
    assert found.verdict.startswith("The spread came back where the ratio was fitted and afterwards.")


def test_random_walks_are_called_a_pair_as_rarely_as_the_level_says() -> None:
    """Of 200 pairs of unrelated walks about one in twenty passes Engle-Granger, and fewer pass the rest as well."""
    found = [cointegration(walk(2 * seed, 400), walk(2 * seed + 1, 400)) for seed in range(1000, 1200)]

    rejected = sum(each.estimated.is_stationary for each in found)
    assert 2 <= rejected <= 22, "5 % of 200 is 10, with three standard errors of 3.1 and the asymptotic tables' bias"
    assert sum(each.verdict.startswith("The spread came back") for each in found) <= 6


def test_a_pair_that_ended_is_no_pair_to_trade() -> None:
    """What held where the ratio was fitted and not afterwards is said so."""
    found = cointegration(*pair(3, 2000, breaks_at=1000))

    assert found.estimated.is_stationary
    assert found.verdict.startswith("Not a pair to trade")


def test_it_equals_statsmodels() -> None:
    """The first part's figures are those of statsmodels' own regression and test."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools import add_constant
    from statsmodels.tsa.stattools import coint

    first, second = pair(4, 1000)
    found = cointegration(first, second, share=0.6)

    fitted = OLS(first[:600], add_constant(second[:600])).fit()
    assert [found.intercept, found.ratio] == pytest.approx(list(fitted.params), rel=1e-9)
    assert found.estimated.p_value == coint(first[:600], second[:600])[1]
    assert (found.estimated.bars, found.later.bars) == (600, 400)


def test_the_rest_does_not_change_what_is_estimated() -> None:
    """The ratio depends on the first part alone."""
    first, second = pair(5, 1000)
    other = np.concatenate([first[:500], walk(6, 500)])

    one, two = cointegration(first, second), cointegration(other, second)

    assert (one.ratio, one.estimated, one.half_life_bars) == (two.ratio, two.estimated, two.half_life_bars)
    assert one.later != two.later


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (walk(1, 150), walk(2, 150), "150 common bars make parts of 75 and 75"),
        (np.full(400, 7.0), walk(2, 400), "the first price stands still"),
        (walk(1, 400) * 3, walk(1, 400), "the two prices are one"),
    ],
)
def test_what_nothing_can_be_said_of_is_refused(first: Floats, second: Floats, said: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=said):
        cointegration(first, second)
    assert issubclass(TooFewBars, ValueError)


def write(path: Path, closes: Floats, first_minute: int = 0) -> str:
    lines = ["ts,open,high,low,close,volume"]
    for minute, close in enumerate(closes, first_minute):
        lines.append(f"{1_700_006_400 + 60 * minute}," + ",".join([f"{close:.4f}"] * 4) + ",10")
    path.write_text("\n".join(lines))
    return str(path)


def called(*arguments: str) -> Any:
    return CliRunner().invoke(tapeline, ["cointegration", *arguments])


def test_the_command_aligns_two_files_by_time(tmp_path: Path) -> None:
    """Bars that only one file has are left out; the ratio is the one for ``pairs_reversion``."""
    first, second = pair(7, 900)
    one, other = write(tmp_path / "AUSD.csv", first[100:], 100), write(tmp_path / "BUSD.csv", second)

    found = json.loads(called(one, other, "--json").stdout)
    shown = called(one, other).output

    assert found["estimated"]["bars"] + found["later"]["bars"] == 800
    assert found["ratio"] == pytest.approx(1.7, rel=0.05)
    assert f"--param ratio={found['ratio']:.6g}" in shown
    assert shown.startswith(found["verdict"])


def test_the_command_refuses_with_one_message(tmp_path: Path) -> None:
    """Files with too little in common, and a file that is none, end with exit code 4."""
    one, other = write(tmp_path / "AUSD.csv", walk(1, 300)), write(tmp_path / "BUSD.csv", walk(2, 300), 250)

    few, none = called(one, other), called(one, str(tmp_path / "none.csv"))

    assert (few.exit_code, none.exit_code) == (4, 4)
    assert "50 common bars" in few.output
    assert "none.csv" in none.output
