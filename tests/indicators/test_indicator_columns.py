"""Indicators over columns are the indicators bar by bar, to the last bit, and bad columns are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indicators.bars import Columns, adverse, drawn, walk

from tapeline_backtest.indicator_columns import ColumnsInvalid, over
from tapeline_strategy.indicators import CATALOGUE, IndicatorUnknown, bar_by_bar
from tapeline_strategy.indicators.indicator import SESSION
from tapeline_strategy.sdk import ParameterInvalid

SAMPLE = ("rsi", "bollinger", "yang_zhang", "aroon", "session_vwap", "fisher", "median")
"""One of each way to compute: averages, merged means, logarithms, queues, sessions, sorted windows."""

SETTINGS: dict[str, dict[str, int]] = {"rsi": {"length": 5}, "bollinger": {"length": 7}, "median": {"length": 4}}


def assert_same_bits(name: str, bars: Columns, **parameters: int) -> None:
    """Compiled and interpreted agree; what is NaN in one is in the other."""
    compiled = over(name, bars, **parameters)
    interpreted = bar_by_bar(name, {each: column.tolist() for each, column in bars.items()}, **parameters)
    assert list(compiled) == list(interpreted)
    for output, column in compiled.items():
        np.testing.assert_array_equal(column, np.array(interpreted[output]), err_msg=f"{name}.{output}")


@pytest.mark.parametrize("name", SAMPLE)
def test_compiled_is_interpreted_to_the_last_bit(name: str) -> None:
    """On walks and on whatever breaks careless formulas."""
    for bars in adverse(200).values():
        assert_same_bits(name, bars)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in SAMPLE])
def test_every_other_one_as_well(name: str) -> None:
    """The same of the whole catalogue; each takes about half a second to compile."""
    for bars in adverse(200).values():
        assert_same_bits(name, bars)


@given(bars=drawn(), name=st.sampled_from(SAMPLE))
@settings(max_examples=60, deadline=None)
def test_compiled_is_interpreted_on_whatever_is_drawn(bars: Columns, name: str) -> None:
    """With settings that are not the defaults."""
    assert_same_bits(name, bars, **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", SAMPLE)
def test_the_future_changes_no_value_of_a_column(name: str) -> None:
    """Cut anywhere, or followed by something else, the column up to there is the same."""
    bars, other = walk(300), walk(300, seed=8)
    whole = over(name, bars)
    for cut in range(1, 300, 4):
        short = over(name, {each: column[:cut] for each, column in bars.items()})
        poisoned = over(name, {each: np.concatenate([bars[each][:cut], other[each][cut:]]) for each in bars})
        for output, column in whole.items():
            np.testing.assert_array_equal(short[output], column[:cut])
            np.testing.assert_array_equal(poisoned[output][:cut], column[:cut])


def test_columns_of_any_layout_and_type_are_taken() -> None:
    """Whole numbers, lists, every other element of an array, what may not be written to, and none at all."""
    prices = np.arange(20.0, 60.0)
    prices.flags.writeable = False
    expected = over("sma", {"close": prices[::2].copy()}, length=3)["sma"]
    np.testing.assert_array_equal(over("sma", {"close": prices[::2]}, length=3)["sma"], expected)
    np.testing.assert_array_equal(over("sma", {"close": prices[::2].astype(int)}, length=3)["sma"], expected)
    np.testing.assert_array_equal(over("sma", {"close": prices[::2].tolist()}, length="3")["sma"], expected)
    np.testing.assert_array_equal(over("sma", {"close": prices}, length=1)["sma"], prices)
    assert over("sma", {"close": []})["sma"].shape == (0,)


def test_bad_columns_are_refused_by_name() -> None:
    """A missing one, one of another length or shape, one with a hole; and a wrong indicator or setting."""
    close = np.arange(1.0, 9.0)
    with pytest.raises(ColumnsInvalid, match=r"indicator 'atr' needs a column 'high'; given: close"):
        over("atr", {"close": close})
    with pytest.raises(ColumnsInvalid, match=r"indicator 'vwma': column 'volume' has the shape \(7,\)"):
        over("vwma", {"close": close, "volume": close[1:]})
    with pytest.raises(ColumnsInvalid, match=r"column 'close' has the shape \(2, 4\)"):
        over("sma", {"close": close.reshape(2, 4)})
    close[5] = np.nan
    with pytest.raises(ColumnsInvalid, match=r"column 'close' is nan at bar 5; fill or drop it"):
        over("sma", {"close": close})
    with pytest.raises(IndicatorUnknown):
        over("sme", {"close": close})
    with pytest.raises(ParameterInvalid):
        over("sma", {"close": close}, length=0)


def test_the_sample_has_every_kind_of_input() -> None:
    """Among it one with sessions and one without parameters."""
    assert SESSION in CATALOGUE["session_vwap"].inputs
    assert not CATALOGUE["session_vwap"].parameters
