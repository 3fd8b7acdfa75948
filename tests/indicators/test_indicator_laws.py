"""What holds for every indicator: no look-ahead, exact warm-up, no drift, no crash, plain state, clear refusals."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indicators.bars import Columns, Floats, adverse, drawn, walk

from tapeline_common.testing import fingerprint
from tapeline_strategy.indicators import CATALOGUE, Indicator, IndicatorUnknown, Recall, Running, bar_by_bar, find
from tapeline_strategy.indicators.indicator import BAR_INPUTS, OTHER, SESSION, Family
from tapeline_strategy.sdk import Bar, Parameter, ParameterInvalid, from_class, validate

NAMES = tuple(CATALOGUE)
ADVERSE = adverse(160)
POSITIVE = ("walk", "flat", "spike", "halted", "gaps", "tiny", "huge", "rising", "falling")


def run(name: str, bars: Columns, **parameters: float) -> Floats:
    """Outputs in rows."""
    outputs = bar_by_bar(name, {each: column.tolist() for each, column in bars.items()}, **parameters)
    return np.array(list(outputs.values()))


def short(indicator: Indicator) -> dict[str, float]:
    """Settings short enough for few bars: every length a sixth of its default, at least 2, in the same order."""
    return {
        parameter.name: max(int(parameter.default) // 6 + 1, int(parameter.low), 2)
        for parameter in indicator.parameters
        if parameter.type is int
    } | ({"fast": 2, "slow": 5} if any(parameter.name == "slow" for parameter in indicator.parameters) else {})


# ---- the catalogue -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_says_what_it_is(name: str) -> None:
    """A name, a sentence, a source, known inputs, outputs that differ, defaults within their bounds."""
    indicator = CATALOGUE[name]
    assert indicator.name == name
    assert indicator.description.endswith(".")
    assert indicator.source
    assert set(indicator.inputs) <= {*BAR_INPUTS, OTHER, SESSION}
    assert len(set(indicator.outputs)) == len(indicator.outputs) > 0
    assert len(indicator.outputs) > 1 or indicator.outputs == (name,)
    assert tuple(indicator.validate({})) == tuple(parameter.name for parameter in indicator.parameters)


def test_the_catalogue_is_in_the_order_of_its_families() -> None:
    """At least seventy indicators, each name once, families in the order of the documentation."""
    assert len(CATALOGUE) >= 70
    order = list(Family)
    assert [order.index(each.family) for each in CATALOGUE.values()] == sorted(
        order.index(each.family) for each in CATALOGUE.values()
    )


def test_bad_settings_are_refused_with_name_value_and_fix() -> None:
    """Out of bounds, of another type, unknown, or lengths the wrong way round."""
    rsi, macd = CATALOGUE["rsi"], CATALOGUE["macd"]
    with pytest.raises(
        ParameterInvalid, match=r"indicator 'rsi': parameter 'length' is 0, but must be .* from 1 to 5000"
    ):
        rsi.validate({"length": 0})
    with pytest.raises(ParameterInvalid, match=r"parameter 'length' is 'many'"):
        rsi.validate({"length": "many"})
    with pytest.raises(ParameterInvalid, match=r"no parameter 'lenght'; did you mean 'length'\?"):
        rsi.validate({"lenght": 14})
    with pytest.raises(ParameterInvalid, match=r"indicator 'macd': fast is 30 and slow is 26"):
        macd.validate({"fast": 30})
    with pytest.raises(IndicatorUnknown, match=r"unknown indicator 'rsii'; did you mean 'rsi'\?"):
        find("rsii")


# ---- warm-up and memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("settings_of", ["short", "default", "least"])
def test_warm_up_is_exact(name: str, settings_of: str) -> None:
    """Some output is NaN until ``warm_up`` bars were seen, and none ever after."""
    indicator = CATALOGUE[name]
    least = {parameter.name: parameter.low for parameter in indicator.parameters}
    given = {"short": short(indicator), "default": {}, "least": least}[settings_of]
    values = run(name, walk(420), **given)
    is_known = ~np.isnan(values).any(axis=0)
    expected = 25 if name == "pivot_points" else indicator.warm_up(indicator.validate(given))  # a day of 24 bars first
    assert int(is_known.argmax()) + 1 == expected
    assert is_known[expected - 1 :].all()


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_as_large_as_it_must_be(name: str) -> None:
    """One float less is too few, and none is ever added."""
    indicator = CATALOGUE[name]
    values = indicator.validate(short(indicator))
    memory = indicator.start(values)
    bars = walk(200)
    rows = [tuple(float(bars[each][bar]) for each in indicator.inputs) for bar in range(200)]
    for row in rows:
        indicator.step(memory, *values.values(), *row)
    assert len(memory) == len(indicator.start(values))
    if memory:
        smaller = indicator.start(values)[:-1]
        with pytest.raises(IndexError):
            [indicator.step(smaller, *values.values(), *row) for row in rows]


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if CATALOGUE[name].recall is not Recall.ENDLESS and SESSION not in CATALOGUE[name].inputs],
)
def test_a_value_reaches_as_far_back_as_it_says(name: str) -> None:
    """Begun 20 bars before, a window indicator has the same value; a fading one has it after hundreds of bars.

    An endless one, or one of a session, depends on when it began.
    """
    indicator = CATALOGUE[name]
    given = short(indicator) if indicator.recall is Recall.FADING else {}
    bars = walk(1500)
    warm_up = indicator.warm_up(indicator.validate(given))
    kept = warm_up + 20 if indicator.recall is Recall.WINDOW else 1000
    late = {each: column[-kept:] for each, column in bars.items()}
    whole, begun_late = run(name, bars, **given)[:, -1], run(name, late, **given)[:, -1]
    np.testing.assert_allclose(begun_late, whole, rtol=1e-9, atol=1e-9)


# ---- no look-ahead -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_future_changes_no_value(name: str) -> None:
    """Cut at any bar, or with another future behind it, the values up to there are the same bits."""
    bars = walk(150)
    other = walk(150, seed=9)
    given = short(CATALOGUE[name])
    whole = run(name, bars, **given)
    for cut in (1, 2, 37, 64, 149):
        np.testing.assert_array_equal(
            run(name, {each: column[:cut] for each, column in bars.items()}, **given), whole[:, :cut]
        )
        poisoned = {each: np.concatenate([bars[each][:cut], other[each][cut:]]) for each in bars}
        np.testing.assert_array_equal(run(name, poisoned, **given)[:, :cut], whole[:, :cut])


def test_a_lagging_span_drawn_back_would_be_caught() -> None:
    """The mutant that puts each close where it is drawn, 26 bars before it was known, changes with the future."""

    def drawn_back(bars: Columns) -> Floats:
        return np.append(bars["close"][26:], np.full(26, np.nan))

    bars = walk(150)
    cut = {each: column[:100] for each, column in bars.items()}
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(drawn_back(cut), drawn_back(bars)[:100])


# ---- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_no_market_breaks_it(name: str) -> None:
    """No error, no infinity; and with prices above zero a number for every bar after the warm-up."""
    indicator = CATALOGUE[name]
    given = short(indicator)
    for kind, bars in ADVERSE.items():
        values = run(name, bars, **given)
        assert not np.isinf(values).any(), kind
        if kind in POSITIVE and SESSION not in indicator.inputs:
            assert not np.isnan(values[:, indicator.warm_up(indicator.validate(given)) - 1 :]).any(), kind


@given(bars=drawn(), name=st.sampled_from(NAMES))
@settings(max_examples=150, deadline=None)
def test_no_drawn_market_breaks_it(bars: Columns, name: str) -> None:
    """The same of whatever hypothesis finds."""
    indicator = CATALOGUE[name]
    given = short(indicator)
    values = run(name, bars, **given)
    assert not np.isinf(values).any()
    if SESSION not in indicator.inputs:
        assert not np.isnan(values[:, indicator.warm_up(indicator.validate(given)) - 1 :]).any()


SCALES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("rsi", "stoch", "stoch_fast", "stoch_rsi", "mfi", "uo", "percent_rank", "connors_rsi"), (0.0, 100.0)
    ),
    **dict.fromkeys(("adx", "adxr", "dx", "aroon"), (0.0, 100.0)),
    **dict.fromkeys(("cmo", "tsi", "aroon_oscillator"), (-100.0, 100.0)),
    **dict.fromkeys(("bop", "cmf", "correlation"), (-1.0, 1.0)),
    **dict.fromkeys(("r_squared", "hurst"), (0.0, 1.0)),
    "willr": (-100.0, 0.0),
    "drawdown": (-1.0, 0.0),
}


@given(bars=drawn(), name=st.sampled_from(sorted(SCALES)))
@settings(max_examples=100, deadline=None)
def test_a_scale_is_never_left(bars: Columns, name: str) -> None:
    """What is said to go from one number to another does, but for rounding."""
    low, high = SCALES[name]
    values = run(name, bars, **short(CATALOGUE[name]))
    values = values[0] if name == "tsi" else values
    values = values[~np.isnan(values)]
    assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all()


NEUTRAL = {
    **dict.fromkeys(("rsi", "stoch", "stoch_fast", "stoch_rsi", "mfi", "uo"), 50.0),
    **dict.fromkeys(("cci", "cmo", "roc", "mom", "apo", "macd", "ppo", "tsi", "trix", "bop", "rvi", "zscore"), 0.0),
    **dict.fromkeys(("atr", "stddev", "variance", "parkinson", "yang_zhang", "ulcer", "linear_slope"), 0.0),
    **dict.fromkeys(("cmf", "skewness", "kurtosis", "correlation", "beta", "drawdown", "adx"), 0.0),
    "willr": -50.0,
    "hurst": 0.5,
    "choppiness": 100.0,
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_where_nothing_moves_it_is_neutral(name: str) -> None:
    """Neither overbought nor oversold, and exactly so: 0.1 is no binary number."""
    values = run(name, adverse(400)["flat"])[:, -1]
    np.testing.assert_allclose(values, NEUTRAL[name], rtol=0.0, atol=1e-15)


@pytest.mark.parametrize("name", ["sma", "ema", "rma", "trima", "midpoint", "lsma", "median", "kama", "ichimoku"])
def test_an_average_of_one_price_is_that_price(name: str) -> None:
    """To the last bit: a market that stands still crosses no average."""
    values = run(name, adverse(400)["flat"])[:, -1]
    assert set(values.tolist()) == {0.1}


@pytest.mark.parametrize(
    "name", ["sma", "wma", "stddev", "zscore", "bollinger", "cmf", "vwma", "mfi", "ulcer", "vortex"]
)
def test_a_spike_is_forgotten_when_it_leaves_the_window(name: str) -> None:
    """One price of ten billion times the others leaves nothing behind, not a bit of drift."""
    given = short(CATALOGUE[name])
    spiked, usual = adverse(400)["spike"], adverse(400)["walk"]
    after = 400 // 3 + 2 * CATALOGUE[name].warm_up(CATALOGUE[name].validate(given)) + 1
    np.testing.assert_allclose(
        run(name, spiked, **given)[:, after:], run(name, usual, **given)[:, after:], rtol=1e-12, atol=1e-12
    )


def test_a_running_sum_would_not_forget_the_spike() -> None:
    """The mutant that adds what comes and takes off what goes is still wrong long after."""
    close = adverse(400)["spike"]["close"]
    running = np.cumsum(close)[-1] - np.cumsum(close)[-4]
    assert abs(running / close[-3:].sum() - 1.0) > 1e-9


@given(bars=drawn())
@settings(max_examples=30, deadline=None)
def test_a_parabolic_stop_lies_on_the_far_side_of_the_bar(bars: Columns) -> None:
    """Of a long trend not above the low, of a short one not below the high."""
    stop, side = run("sar", bars)
    is_long = side[1:] > 0.0
    assert (stop[1:][is_long] <= bars["low"][1:][is_long]).all()
    assert (stop[1:][~is_long] >= bars["high"][1:][~is_long]).all()


# ---- in a strategy -----------------------------------------------------------------------------------------------


def test_one_at_work_has_the_values_of_the_column() -> None:
    """``update`` and ``on_bar`` give what ``bar_by_bar`` gives, by output name too."""
    bars = walk(60)
    expected = bar_by_bar("bollinger", {each: column.tolist() for each, column in bars.items()}, length=10)
    direct, from_bar = Running("bollinger", length=10), Running("bollinger", length=10)
    for place in range(60):
        bar = Bar(*(float(bars[each][place]) for each in BAR_INPUTS))
        direct.update(bar.close)
        from_bar.on_bar(bar)
        assert direct.is_ready == (place >= direct.warm_up - 1)
    assert direct.value == from_bar.value == tuple(column[-1] for column in expected.values())
    assert direct["lower"] == expected["lower"][-1]


class Dip:
    """Long below the lower band while the index is low."""

    name: ClassVar[str] = "dip"
    description: ClassVar[str] = "Buys what has fallen out of its bands."
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("length", int, 5, 2, 99, "length of the index"),)

    def __init__(self, length: int) -> None:
        self.rsi = Running("rsi", length=length)
        self.bands = Running("bollinger", length=10, deviations=1.0)

    def on_bar(self, bar: Bar) -> float:
        self.rsi.update(bar.close)
        self.bands.on_bar(bar)
        if not (self.rsi.is_ready and self.bands.is_ready):
            return math.nan
        return 1.0 if self.rsi.value < 40.0 and bar.close < self.bands["lower"] else 0.0


def test_a_strategy_of_a_class_decides_by_indicators() -> None:
    """Its targets are those computed from whole columns; it restarts from a copy of its memory as if nothing were."""
    bars = walk(200)
    closes = {"close": bars["close"].tolist()}
    index, lower = (
        bar_by_bar("rsi", closes, length=5)["rsi"],
        bar_by_bar("bollinger", closes, length=10, deviations=1.0)["lower"],
    )
    expected = [
        math.nan if place < 9 else float(index[place] < 40.0 and bars["close"][place] < lower[place])
        for place in range(200)
    ]
    strategy = from_class(Dip)
    memory, targets = strategy.start(validate(strategy, {})), []
    for place in range(200):
        memory = copy.deepcopy(memory)
        targets.append(strategy.step(memory, 5, *(float(bars[each][place]) for each in BAR_INPUTS)))
    np.testing.assert_array_equal(targets, expected)
    assert 0 < np.nansum(targets) < 150


def test_one_at_work_takes_what_no_bar_has_by_name() -> None:
    """A session and a second series are given beside the bar."""
    vwap, beta = Running("session_vwap"), Running("beta", length=2)
    for place in range(5):
        bar = Bar(1.0, 2.0, 0.5, 1.5 + place, 10.0)
        vwap.on_bar(bar, session=place // 3)
        beta.on_bar(bar, other=bar.close * 2.0)
    assert beta.value == pytest.approx(1.0)
    assert vwap["vwap"] == pytest.approx((2.0 + 0.5 + 1.5 + 3 + 2.0 + 0.5 + 1.5 + 4) / 6.0)


def test_one_at_work_is_plain_data() -> None:
    """It is copied, compared and looked into as the rest of a strategy's state."""
    rsi = Running("rsi", length=3)
    for price in (1.0, 2.0, 1.5, 1.7):
        rsi.update(price)
    copied = copy.deepcopy(rsi)
    assert copied == rsi
    assert fingerprint(copied) == fingerprint(rsi)
    copied.update(2.0)
    assert copied != rsi
    assert math.isnan(Running("rsi").value)
    with pytest.raises(KeyError, match="has no output 'upper'"):
        rsi["upper"]


@pytest.mark.parametrize("name", [name for name, each in CATALOGUE.items() if each.inputs == ("close",)])
def test_a_hole_in_a_series_is_passed_over(name: str) -> None:
    """With NaN between its values a series gives NaN there, and elsewhere what it gives without."""
    parameters = short(CATALOGUE[name])
    close = walk(120)["close"]
    places = np.flatnonzero(np.arange(180) % 3 != 0)
    holed = np.full(180, np.nan)
    holed[places] = close
    values = run(name, {"close": holed}, **parameters)
    np.testing.assert_array_equal(values[:, places], run(name, {"close": close}, **parameters))
    assert np.isnan(np.delete(values, places, axis=1)).all()
