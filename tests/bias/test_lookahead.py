"""How look-ahead is measured: its distance, what is left alone, and what is said where nothing can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bias.bars import market

from tapeline_lab.bias.findings import Analysis, Kind, Probe
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.subjects import columns_as_pipeline, pipeline_subject
from tapeline_lab.bias.tables import BadOutput, Moments, altered, unequal


def analysed(pipeline: Any, bars: int = 200, **how: Any) -> Analysis:
    return lookahead_analysis(pipeline_subject(pipeline), market(bars), **how)


@settings(max_examples=15, deadline=None)
@given(ahead=st.integers(1, 40))
def test_the_distance_of_a_shift_is_measured_exactly(ahead: int) -> None:
    """A column moved by k bars has its nearest and its farthest bar k ahead."""

    def moved(bars: dict[str, Any]) -> dict[str, Any]:
        return {"moved": np.append(bars["close"][ahead:], np.full(min(ahead, len(bars["close"])), np.nan))}

    (finding,) = analysed(moved).findings
    assert (finding.kind, finding.nearest, finding.farthest) == (Kind.FUTURE_BARS, ahead, ahead)


@settings(max_examples=15, deadline=None)
@given(back=st.integers(0, 40))
def test_a_shift_into_the_past_is_left_alone(back: int) -> None:
    """However far back a column looks."""

    def moved(bars: dict[str, Any]) -> dict[str, Any]:
        return {"moved": np.append(np.full(back, np.nan), bars["close"])[: len(bars["close"])]}

    assert analysed(moved, cuts=16).is_clean


def test_the_same_seed_gives_the_same_analysis() -> None:
    """Cuts, shuffles and findings are drawn by the seed."""

    def scaled(bars: dict[str, Any]) -> dict[str, Any]:
        return {"scaled": bars["close"] / bars["close"].max()}

    assert analysed(scaled, seed=3) == analysed(scaled, seed=3)


def test_one_probe_is_enough_for_a_leak_that_hides_at_the_end_of_the_data() -> None:
    """Code that treats its last bar specially passes every prefix, and not another future."""

    def careful(bars: dict[str, Any]) -> dict[str, Any]:
        ahead = np.append(bars["close"][1:], bars["close"][-1:])
        known = np.arange(len(ahead)) < 150
        return {"signal": np.where(known & (len(ahead) > 199), ahead, bars["close"])}

    (finding,) = analysed(careful, probes=(Probe.NAN,)).findings
    assert finding.kind is Kind.FUTURE_BARS
    assert finding.nearest == 1


def test_chance_without_a_seed_is_told_from_look_ahead() -> None:
    """Two runs on the same bars differ already."""
    chance = np.random.default_rng(1)
    (finding,) = analysed(lambda bars: {"noise": chance.normal(size=len(bars["close"]))}).findings
    assert finding.kind is Kind.NOT_REPEATABLE


def test_rounding_is_told_from_look_ahead() -> None:
    """A sum whose order depends on the length differs in the last digits, and can be let pass."""

    def backwards(bars: dict[str, Any]) -> dict[str, Any]:
        wave = bars["close"] * (1.0 + 1e-13 * len(bars["close"]))
        return {"wave": wave}

    (finding,) = analysed(backwards, probes=(Probe.PREFIX,)).findings
    assert finding.kind is Kind.ROUNDING
    assert analysed(backwards, probes=(Probe.PREFIX,), tolerance=1e-9).is_clean


def test_a_pipeline_that_fails_on_prefixes_was_not_examined() -> None:
    """What cannot be run is not clean; the first error is told."""

    def demanding(bars: dict[str, Any]) -> dict[str, Any]:
        if len(bars["close"]) < 200:
            raise RuntimeError("needs 200 bars")
        return {"close": bars["close"]}

    analysis = analysed(demanding)
    assert [finding.kind for finding in analysis.findings] == [Kind.NOT_RUN]
    assert "needs 200 bars" in analysis.errors["PREFIX"]


def test_a_warm_up_that_fails_on_short_prefixes_only_is_let_pass() -> None:
    """Few failures are counted and told, and are no finding."""

    def starting(bars: dict[str, Any]) -> dict[str, Any]:
        if len(bars["close"]) < 20:
            raise RuntimeError("needs 20 bars")
        return {"close": bars["close"]}

    analysis = analysed(starting)
    assert analysis.is_clean
    assert analysis.not_run["PREFIX"] > 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (lambda bars: {"short": bars["close"][:-1]}, "199 rows for 200 bars"),
        (lambda bars: {"one": bars["close"], "two": bars["close"][:-1]}, "several lengths"),
        (lambda bars: "nothing", "returned str"),
        (lambda bars: {"ts": bars["ts"] * 0, "close": bars["close"]}, "several rows of one ts"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(said: Any, words: str) -> None:
    """With what is wrong in words."""
    with pytest.raises(BadOutput, match=words):
        analysed(said)


def test_too_few_bars_are_refused() -> None:
    """There is nothing to cut."""
    with pytest.raises(ValueError, match="2 bars cannot be cut"):
        analysed(lambda bars: {"close": bars["close"]}, bars=2)


def test_an_altered_future_leaves_the_past_alone_and_changes_the_rest() -> None:
    """Every probe: rows up to the cut are the same bits, and something after it is not."""
    table = market(50)
    moments = Moments.of(table)
    for probe in (Probe.NAN, Probe.SCALED, Probe.SHUFFLED):
        other = altered(table, moments, 20, probe, 0)
        for name, column in table.items():
            assert not unequal(column[:21], other[name][:21]).any()
        assert unequal(table["close"][21:], other["close"][21:]).any()
    assert len(altered(table, moments, 20, Probe.PREFIX, 0)["ts"]) == 21


def test_bits_are_compared_and_nothing_else() -> None:
    """The next float is another number, a NaN is any NaN, and minus zero is not zero."""
    ones = np.array([1.0, np.nan, 0.0, 2.0])
    others = np.array([np.nextafter(1.0, 2.0), -np.nan, -0.0, 2.0])
    assert unequal(ones, others).tolist() == [True, False, True, False]
    texts, more = np.array(["a", None, "b"], dtype=object), np.array(["a", np.nan, "c"], dtype=object)
    assert unequal(texts, more).tolist() == [False, False, True]


def test_an_indicator_of_price_columns_is_a_pipeline() -> None:
    """Columns are found by the names of its arguments; several results become several columns."""

    def band(high: Any, low: Any, width: float) -> tuple[Any, Any]:
        return high * width, low / width

    subject = pipeline_subject(columns_as_pipeline(band, width=1.1), name="band")
    analysis = lookahead_analysis(subject, market(100), cuts=8)
    assert (analysis.columns, analysis.is_clean) == (2, True)
