"""Strategies in Freqtrade's shape: what carries over does so, what does not is refused, and nothing looks ahead."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.strategy_runs import random_bars

from tapeline_common.events import ParameterValue, StrategyConfigured, TradeDeclined
from tapeline_common.testing import given
from tapeline_common.values import Decline, InstrumentId, StrategyId
from tapeline_strategy import catalogue, loading
from tapeline_strategy.core import CORE
from tapeline_strategy.frames import BooleanParameter, DecimalParameter, FramesRefused, IntParameter, from_frames
from tapeline_strategy.sdk import ParameterInvalid, Strategy, check_bars, validate

pytest.importorskip("pandas", reason="frames are an extra")


class Crossing:
    """Long while a short mean is above a long one; short below it."""

    timeframe = "5m"
    startup_candle_count = 12
    can_short = True
    minimal_roi: ClassVar[dict[str, float]] = {}
    stoploss = -0.99

    fast = IntParameter(2, 10, default=4, space="buy")
    gap = DecimalParameter(0.0, 1.0, default=0.0)
    inverted = BooleanParameter(default=False)

    def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
        dataframe["fast"] = dataframe["close"].rolling(self.fast.value).mean()
        dataframe["slow"] = dataframe["close"].rolling(12).mean()
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: Any) -> Any:
        above = dataframe["fast"] > dataframe["slow"] + self.gap.value
        below = dataframe["fast"] < dataframe["slow"] - self.gap.value
        dataframe.loc[above, "enter_short" if self.inverted.value else "enter_long"] = 1
        dataframe.loc[below, "enter_long" if self.inverted.value else "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: Any, metadata: Any) -> Any:
        dataframe.loc[dataframe["fast"] < dataframe["slow"], "exit_long"] = 1
        dataframe.loc[dataframe["fast"] > dataframe["slow"], "exit_short"] = 1
        return dataframe


class Scripted:
    """Reads its signals off the volume's digits: 1 enters long, 2 exits long, 3 both, 4 enters short, 5 exits short."""

    timeframe = "1h"
    startup_candle_count = 1
    can_short = True

    def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: Any) -> Any:
        dataframe.loc[dataframe["volume"].isin([1, 3]), "enter_long"] = 1
        dataframe.loc[dataframe["volume"] == 4, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: Any, metadata: Any) -> Any:
        dataframe.loc[dataframe["volume"].isin([2, 3]), "exit_long"] = 1
        dataframe.loc[dataframe["volume"] == 5, "exit_short"] = 1
        return dataframe


def answers(strategy: Strategy, rows: list[Any], **chosen: ParameterValue) -> list[float]:
    parameters = validate(strategy, chosen)
    memory = strategy.start(parameters)
    return [strategy.step(memory, *parameters.values(), *row) for row in rows]


def scripted(*bars: tuple[float, int], **attributes: Any) -> list[float]:
    """Bars that stand still at a price, with the script's digit."""
    written = type("Scripted", (Scripted,), attributes)
    return answers(from_frames(written), [(price, price, price, price, float(digit)) for price, digit in bars])


def test_signals_of_the_last_row_decide() -> None:
    """The same rule over plain lists gives the same answers, from the startup candle on."""
    rows = random_bars(3, 80)
    closes = [row[3] for row in rows]

    def side(i: int) -> float:
        fast, slow = math.fsum(closes[i - 3 : i + 1]) / 4, math.fsum(closes[i - 11 : i + 1]) / 12
        return 1.0 if fast > slow else -1.0

    found = answers(from_frames(Crossing), rows)

    assert all(math.isnan(answer) for answer in found[:11])
    assert found[11:] == [side(i) for i in range(11, len(rows))]


def test_parameters_are_the_classs_own() -> None:
    """They are declared in the order of the class, have its bounds, and ``.value`` is what was given."""
    strategy = from_frames(Crossing)
    rows = random_bars(3, 30)

    assert [(each.name, each.type, each.default) for each in strategy.parameters] == [
        ("fast", int, 4),
        ("gap", float, 0.0),
        ("inverted", bool, False),
    ]
    with pytest.raises(ParameterInvalid, match="'fast' is 11"):
        validate(strategy, {"fast": 11})
    straight, inverted = answers(strategy, rows), answers(strategy, rows, inverted=True)
    assert straight[11:] != inverted[11:]
    assert Crossing.inverted.value is False, "the class itself is never changed"


def test_the_future_changes_nothing() -> None:
    """Answers up to a bar are the same whatever follows, also for a class that shifts the future into its rows."""

    class Peeking(Crossing):
        def populate_entry_trend(self, dataframe: Any, metadata: Any) -> Any:
            dataframe.loc[dataframe["close"].shift(-1) > dataframe["close"], "enter_long"] = 1
            return dataframe

    rows = random_bars(8, 40)
    for written in (Crossing, Peeking):
        strategy = from_frames(written)
        assert repr(answers(strategy, rows)[:25]) == repr(answers(strategy, rows[:25]))
    assert set(answers(from_frames(Peeking), rows)[11:]) == {0.0}, "the last row has no future to look at"


def test_contradicting_signals_do_nothing() -> None:
    """An entry beside its own exit is neither: flat stays flat, long stays long."""
    assert scripted((10, 3), (10, 1), (10, 3), (10, 2)) == [0.0, 1.0, 1.0, 0.0]


def test_an_exit_and_the_other_entry_turn_the_position() -> None:
    """A side that was left is not entered again at the same bar; the other one may be."""
    assert scripted((10, 4), (10, 5), (10, 1)) == [-1.0, 0.0, 1.0]
    assert scripted((10, 4), can_short=False) == [0.0]


def test_exit_signals_can_be_switched_off() -> None:
    """``use_exit_signal = False`` leaves by stop and gain only."""
    assert scripted((10, 1), (10, 2), use_exit_signal=False) == [1.0, 1.0]


@pytest.mark.parametrize(("price", "expected"), [(9.01, 1.0), (9.0, 0.0)])
def test_a_stop_loss_counts_from_the_next_bars_open(price: float, expected: float) -> None:
    """What was paid is the open of the bar after the decision, here 10, not the close of 12 that decided."""
    assert scripted((12, 1), (10, 0), (price, 0), stoploss=-0.1)[-1] == expected


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        ([(10, 1), (10, 0), (10.9, 0)], 1.0),  # two hours: a tenth is asked for
        ([(10, 1), (10, 0), (11, 0)], 0.0),
        ([(10, 1), (10, 0), (10, 0), (10.3, 0)], 0.0),  # three hours: two in a hundred are enough
        ([(10, 4), (10, 0), (9, 0)], 0.0),  # short: the gain is the fall
    ],
)
def test_a_gain_that_is_enough_after_its_time_is_taken(bars: list[Any], expected: float) -> None:
    """``minimal_roi``: the entry of the longest time that has passed is the one that counts."""
    assert scripted(*bars, minimal_roi={"0": 0.1, "180": 0.02})[-1] == expected


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"trailing_stop": True}, "trailing_stop is refused"),
        ({"custom_stoploss": lambda self: 0}, "custom_stoploss is refused"),
        ({"adjust_trade_position": lambda self: 0}, "adjust_trade_position is refused: the size of a position"),
        ({"informative_pairs": lambda self: []}, "informative_pairs is refused: an instance hears one instrument"),
        ({"protections": [{}]}, r"protections is refused: limits are configured in \[risk\]"),
        ({"populate_entry_trend": None}, "populate_entry_trend is missing"),
        ({"__init__": lambda self, config: None}, "__init__ is refused"),
        ({"stoploss": 0.1}, r"stoploss is 0\.1"),
        ({"timeframe": ""}, "timeframe is ''"),
        ({"mode": type("CategoricalParameter", (), {})()}, "mode is refused: parameters are IntParameter"),
    ],
)
def test_what_does_not_carry_over_is_refused_by_name(attributes: dict[str, Any], said: str) -> None:
    """With the reason, when the class is read and not in the middle of a run; what is switched off is no obstacle."""
    with pytest.raises(FramesRefused, match=said):
        from_frames(type("Scripted", (Scripted,), attributes))

    assert from_frames(type("Scripted", (Scripted,), {"trailing_stop": False, "protections": []})).name == "Scripted"


def test_a_column_that_is_not_there_is_named() -> None:
    """Frames have no times: the error says which columns there are."""

    class Dated(Scripted):
        def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
            return dataframe.assign(hour=dataframe["date"].dt.hour)

    with pytest.raises(KeyError, match="date") as missing:
        answers(from_frames(Dated), [(1.0,) * 5])

    assert missing.value.__notes__ == ["Dated: frames have the columns open, high, low, close, volume and no metadata"]


def test_other_bars_than_it_is_written_for_are_refused() -> None:
    """Minutes of ``minimal_roi`` would mean something else."""
    check_bars(from_frames(Crossing), "5m")

    with pytest.raises(ParameterInvalid, match="'Crossing' is written for bars of 5m, not of 1m"):
        check_bars(from_frames(Crossing), "1m")


def test_memory_is_plain_data() -> None:
    """Two runs over the same bars end in equal states: nothing hides in the user's object."""
    strategy = from_frames(Crossing)
    parameters = validate(strategy, {})
    first, second = strategy.start(parameters), strategy.start(parameters)
    for row in random_bars(4, 30):
        for memory in (first, second):
            strategy.step(memory, *parameters.values(), *row)

    assert first == second
    assert not strategy.is_numeric


def test_the_documented_class_runs(tmp_path: Path) -> None:
    """The example of the guide, in a folder, is a strategy by the name of its class, and trades."""
    guide = (Path(__file__).parents[2] / "docs/strategies.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(from tapeline_strategy.frames import.*?)```", guide, re.DOTALL)
    (tmp_path / "mean_of_two.py").write_text(text)

    (strategy,) = loading.strategies_of_file(tmp_path / "mean_of_two.py")

    assert (strategy.name, strategy.timeframe) == ("MeanOfTwo", "1m")
    assert strategy.description == "Long while a short mean is above a long one."
    assert {0.0, 1.0} <= set(answers(strategy, random_bars(2, 120)))


def test_an_instance_on_other_bars_says_so_and_stays_out() -> None:
    """On a tape the core declines it with the reason, once for each instrument, and never trades it."""
    catalogue.add(strategy := from_frames(type("OnlyHours", (Scripted,), {})))
    configured = StrategyConfigured(
        StrategyId("mine"), strategy.name, (InstrumentId("BTC_sim"),), "1m", Decimal(1), {}, (), False
    )
    reason = "strategy 'OnlyHours' is written for bars of 1h, not of 1m"

    given(CORE).when(configured).then(
        TradeDeclined(StrategyId("mine"), InstrumentId("BTC_sim"), Decline.PARAMETERS_INVALID, 0, Decimal(0), reason)
    )
