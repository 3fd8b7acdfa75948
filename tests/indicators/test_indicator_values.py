"""Every indicator has the values of a witness: TA-Lib where it knows the formula, else the formula written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import talib
from tests.indicators.bars import Columns, Floats, walk
from tests.indicators.definitions import DEFINITIONS

from tapeline_strategy.indicators import CATALOGUE, bar_by_bar

BARS = walk(900)
TOLERANCE = 1e-9
"""Of the largest value of the series, and TA-Lib's running sums and squares need it: they drift."""

TALIB: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "sma": ("SMA", ("close",), {"timeperiod": 20}),
    "ema": ("EMA", ("close",), {"timeperiod": 20}),
    "wma": ("WMA", ("close",), {"timeperiod": 20}),
    "rma": ("RMA", ("close",), {"timeperiod": 14}),
    "dema": ("DEMA", ("close",), {"timeperiod": 20}),
    "tema": ("TEMA", ("close",), {"timeperiod": 20}),
    "trima": ("TRIMA", ("close",), {"timeperiod": 20}),
    "hma": ("HMA", ("close",), {"timeperiod": 16}),
    "kama": ("KAMA", ("close",), {"timeperiod": 10}),
    "zlema": ("ZLEMA", ("close",), {"timeperiod": 20}),
    "vwma": ("VWMA", ("close", "volume"), {"timeperiod": 20}),
    "t3": ("T3", ("close",), {"timeperiod": 5, "vfactor": 0.7}),
    "lsma": ("LINEARREG", ("close",), {"timeperiod": 14}),
    "midpoint": ("MIDPOINT", ("close",), {"timeperiod": 14}),
    "midprice": ("MIDPRICE", ("high", "low"), {"timeperiod": 14}),
    "typical_price": ("TYPPRICE", ("high", "low", "close"), {}),
    "median_price": ("MEDPRICE", ("high", "low"), {}),
    "weighted_close": ("WCLPRICE", ("high", "low", "close"), {}),
    "rsi": ("RSI", ("close",), {"timeperiod": 14}),
    "stoch": ("STOCH", ("high", "low", "close"), {"fastk_period": 14, "slowk_period": 3, "slowd_period": 3}),
    "stoch_fast": ("STOCHF", ("high", "low", "close"), {"fastk_period": 14, "fastd_period": 3}),
    "willr": ("WILLR", ("high", "low", "close"), {"timeperiod": 14}),
    "cci": ("CCI", ("high", "low", "close"), {"timeperiod": 20}),
    "cmo": ("CMOU", ("close",), {"timeperiod": 14}),
    "roc": ("ROC", ("close",), {"timeperiod": 10}),
    "mom": ("MOM", ("close",), {"timeperiod": 10}),
    "apo": ("APO", ("close",), {"fastperiod": 12, "slowperiod": 26, "matype": 1}),
    "macd": ("MACD", ("close",), {"fastperiod": 12, "slowperiod": 26, "signalperiod": 9}),
    "uo": ("ULTOSC", ("high", "low", "close"), {"timeperiod1": 7, "timeperiod2": 14, "timeperiod3": 28}),
    "bop": ("BOP", ("open", "high", "low", "close"), {}),
    "ao": ("AO", ("high", "low"), {}),
    "dpo": ("DPO", ("close",), {"timeperiod": 20}),
    "coppock": ("COPPOCK", ("close",), {}),
    "tr": ("TRANGE", ("high", "low", "close"), {}),
    "atr": ("ATR", ("high", "low", "close"), {"timeperiod": 14}),
    "natr": ("NATR", ("high", "low", "close"), {"timeperiod": 14}),
    "donchian": ("DONCHIAN", ("high", "low"), {"timeperiod": 20}),
    "stddev": ("STDDEV", ("close",), {"timeperiod": 20}),
    "variance": ("VAR", ("close",), {"timeperiod": 20}),
    "mass": ("MASSI", ("high", "low"), {}),
    "adx": ("ADX", ("high", "low", "close"), {"timeperiod": 14}),
    "adxr": ("ADXR", ("high", "low", "close"), {"timeperiod": 14}),
    "dx": ("DX", ("high", "low", "close"), {"timeperiod": 14}),
    "plus_di": ("PLUS_DI", ("high", "low", "close"), {"timeperiod": 14}),
    "minus_di": ("MINUS_DI", ("high", "low", "close"), {"timeperiod": 14}),
    "aroon": ("AROON", ("high", "low"), {"timeperiod": 14}),
    "aroon_oscillator": ("AROONOSC", ("high", "low"), {"timeperiod": 14}),
    "sar": ("SAR", ("high", "low"), {"acceleration": 0.02, "maximum": 0.2}),
    "supertrend": ("SUPERTREND", ("high", "low", "close"), {"timeperiod": 10, "multiplier": 3.0}),
    "vortex": ("VORTEX", ("high", "low", "close"), {"timeperiod": 14}),
    "linear_slope": ("LINEARREG_SLOPE", ("close",), {"timeperiod": 14}),
    "linear_angle": ("LINEARREG_ANGLE", ("close",), {"timeperiod": 14}),
    "obv": ("OBV", ("close", "volume"), {}),
    "ad": ("AD", ("high", "low", "close", "volume"), {}),
    "adosc": ("ADOSC", ("high", "low", "close", "volume"), {"fastperiod": 3, "slowperiod": 10}),
    "cmf": ("CMF", ("high", "low", "close", "volume"), {"timeperiod": 20}),
    "mfi": ("MFI", ("high", "low", "close", "volume"), {"timeperiod": 14}),
    "efi": ("EFI", ("close", "volume"), {"timeperiod": 13}),
    "vpt": ("PVT", ("close", "volume"), {}),
    "nvi": ("NVI", ("close", "volume"), {}),
    "pvi": ("PVI", ("close", "volume"), {}),
    "percent_rank": ("PERCENTRANK", ("close",), {"timeperiod": 100}),
    "correlation": ("CORREL", ("close", "other"), {"timeperiod": 30}),
    "beta": ("BETA", ("other", "close"), {"timeperiod": 30}),
    "heikin_ashi": ("HA", ("open", "high", "low", "close"), {}),
}
"""Indicator → TA-Lib's function, its inputs and settings that are our defaults."""

BEGINS_LATER = {"macd", "stoch", "stoch_fast"}
"""TA-Lib gives nothing of these before their signal; here each output begins when it can."""


def talib_values(name: str, bars: Columns, **other: int) -> list[Floats]:
    function, inputs, settings = TALIB[name]
    result = getattr(talib, function)(*(bars[each] for each in inputs), **{**settings, **other})
    outputs = [result] if isinstance(result, np.ndarray) else list(result)
    if name == "aroon":  # there the fall comes first
        outputs.reverse()
    if name == "supertrend":  # there its side is 0 before the first
        outputs[1] = np.where(np.isnan(outputs[0]), np.nan, outputs[1])
    return outputs


def assert_same(name: str, ours: Floats, theirs: Floats, *, is_later: bool) -> None:
    ours = np.where(np.isnan(theirs), np.nan, ours) if is_later else ours
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=f"{name} begins elsewhere")
    worst = float(np.nanmax(np.abs(ours - theirs)))
    assert worst <= TOLERANCE * float(np.nanmax(np.abs(theirs))), f"{name} is {worst} away"


@pytest.mark.parametrize("name", TALIB)
@pytest.mark.parametrize("seed", [1, 2])
def test_it_has_the_values_of_ta_lib_from_its_first_bar_on(name: str, seed: int) -> None:
    """Same first bar, same values, at our defaults."""
    bars = walk(900, seed)
    ours = list(bar_by_bar(name, {each: column.tolist() for each, column in bars.items()}).values())
    for mine, theirs in zip(ours, talib_values(name, bars), strict=False):
        assert_same(name, np.array(mine), theirs, is_later=name in BEGINS_LATER)


@pytest.mark.parametrize("name", [name for name, (_, _, settings) in TALIB.items() if "timeperiod" in settings])
@pytest.mark.parametrize("length", [2, 3, 5, 14, 33])
def test_it_has_the_values_of_ta_lib_at_other_lengths(name: str, length: int) -> None:
    """Odd and even, short and long."""
    ours = list(bar_by_bar(name, {each: column.tolist() for each, column in BARS.items()}, length=length).values())
    for mine, theirs in zip(ours, talib_values(name, BARS, timeperiod=length), strict=False):
        assert_same(name, np.array(mine), theirs, is_later=name in BEGINS_LATER)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_has_the_values_of_its_formula_written_out(name: str) -> None:
    """Every output, from the first bar on which the formula says anything."""
    ours = bar_by_bar(name, {each: column.tolist() for each, column in BARS.items()})
    for (output, mine), theirs in zip(ours.items(), DEFINITIONS[name](BARS), strict=True):
        assert_same(f"{name}.{output}", np.array(mine), theirs, is_later=False)


def test_every_indicator_has_a_witness() -> None:
    """Nothing in the catalogue is only equal to itself."""
    assert set(CATALOGUE) == set(TALIB) | set(DEFINITIONS)


def test_a_witness_can_object() -> None:
    """A value that is off by one part in a hundred million is found."""
    theirs = talib_values("rsi", BARS)[0]
    with pytest.raises(AssertionError, match="rsi is"):
        assert_same("rsi", theirs * (1.0 + 1e-8), theirs, is_later=False)
    with pytest.raises(AssertionError, match="begins elsewhere"):
        assert_same("rsi", np.roll(theirs, 1), theirs, is_later=False)
