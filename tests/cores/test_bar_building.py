"""Bars from trades: each rule closes where it says, no trade is lost or doubled, and a naive twin agrees."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.events import BarClosed
from tapeline_common.values import InstrumentId
from tapeline_marketdata import bar_building
from tapeline_marketdata.bar_building import bar_builder
from tapeline_marketdata.bar_rules import BarRule, RuleKind, UnknownRule, fixed_length_ns, parse_rule, rule_of
from tapeline_marketdata.checks import Accepted, AcceptedAfterGap, Checker
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_marketdata.trades import Trade

NOON = 1_700_049_600 * 10**9
"""2023-11-15 12:00 UTC."""
SECOND = 10**9
COIN = InstrumentId("BTC-USD_sim")

RULES = ["time:1s", "time:1s:carry", "tick:3", "volume:5", "value:500", "imbalance:4", "imbalance:3:2", "renko:2"]


def trade(second: float, price: str, size: str = "1") -> Trade:
    return Trade(NOON + round(second * SECOND), Decimal(price), Decimal(size))


def built(rule: str, trades: Sequence[Trade]) -> tuple[list[BarClosed], int]:
    """The bars, and the number of trades in none of them."""
    builder = bar_builder(parse_rule(rule), COIN)
    bars = [bar for one in trades for bar in builder.push(one)]
    return bars, builder.left_over


def bar(name: str, opened: float, closed: float, *texts: str) -> BarClosed:
    times = NOON + round(opened * SECOND), NOON + round(closed * SECOND)
    return BarClosed(COIN, name, *times, *texts)  # type: ignore[call-arg, arg-type]


# ---- one rule after the other ------------------------------------------------------------------------------------


def test_time_bars_lie_on_the_grid_and_close_with_the_next_interval() -> None:
    """A bar is said when a trade behind its interval comes; that trade belongs to the next one."""
    trades = [trade(61, "100.50", "1.0"), trade(90, "99", "0.25"), trade(119.999999999, "101"), trade(120, "7", "2")]
    assert built("time:1m", trades) == ([bar("1m", 60, 120, "100.50", "101", "99", "101", "2.25")], 1)


def test_empty_intervals_are_missing_and_the_checker_says_so() -> None:
    """Two minutes without trades are a gap of two bars."""
    bars, _ = built("time:1m", [trade(0, "100"), trade(180, "103"), trade(240, "104")])
    checker = Checker(fixed_length_ns("1m"))
    assert [checker.check(one) for one in bars] == [Accepted(), AcceptedAfterGap(2, NOON + 60 * SECOND)]


def test_empty_intervals_can_be_carried() -> None:
    """Carried bars stand still at the last close, without volume, and leave no gap."""
    bars, _ = built("time:1m:carry", [trade(0, "100"), trade(59, "101.5"), trade(180, "103")])
    still = ("101.5", "101.5", "101.5", "101.5", "0")
    assert bars == [
        bar("1m", 0, 60, "100", "101.5", "100", "101.5", "2"),
        bar("1m", 60, 120, *still),
        bar("1m", 120, 180, *still),
    ]


def test_a_silence_of_years_is_not_carried() -> None:
    """A wrong time in the future must not fill the memory: beyond the bound the gap stays one."""
    bars, _ = built("time:1s:carry", [trade(0, "100"), trade(bar_building.MOST_AT_ONCE + 2, "101")])
    assert len(bars) == 1


def test_weeks_open_on_mondays() -> None:
    """Time bars have the grid of every other feed."""
    bars, _ = built("time:1w", [trade(0, "100"), trade(86_400 * 7, "101")])
    assert bars[0].open_ns % (7 * 86_400 * SECOND) == 4 * 86_400 * SECOND


def test_tick_bars_count_trades() -> None:
    """Every third trade closes a bar, at its own time."""
    bars, left = built("tick:3", [trade(at, str(100 + at)) for at in range(7)])
    assert bars == [
        bar("tick-3", 0, 2, "100", "102", "100", "102", "3"),
        bar("tick-3", 3, 5, "103", "105", "103", "105", "3"),
    ]
    assert left == 1


def test_volume_bars_are_never_divided() -> None:
    """A bar ends with the trade that reaches the volume, whole; the next one begins at zero."""
    sizes = ["2", "2.999", "0.001", "4.999", "7"]
    bars, left = built("volume:5", [trade(at, "100", size) for at, size in enumerate(sizes)])
    assert ([one.volume for one in bars], left) == (["5.000", "11.999"], 0)


def test_value_bars_count_money() -> None:
    """Price times size, exactly: 3 x 33.3 + 0.1 is the hundred."""
    trades = [trade(0, "33.3"), trade(1, "33.3"), trade(2, "33.3"), trade(3, "0.1"), trade(4, "99.99999999")]
    bars, left = built("value:100", trades)
    assert ([(one.open, one.close) for one in bars], left) == ([("33.3", "0.1")], 1)


def test_bars_of_one_time_keep_their_order() -> None:
    """Bars closed in the same nanosecond rise by one each, never before a trade of theirs, never overlapping."""
    trades = [trade(0, "100"), trade(0, "101"), trade(0, "102"), trade(1, "103")]
    bars, _ = built("tick:1", trades)
    assert [(one.open_ns - NOON, one.close_ns - NOON) for one in bars] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (SECOND, SECOND + 1),
    ]


def test_renko_bricks_lie_on_the_grid() -> None:
    """From 105 the grid of tens begins at 100: bricks up at 110 and 120, a turn only at 100, two bricks below."""
    prices = ["105", "109.9", "110", "104", "121", "111", "100.01", "100"]
    bars, left = built("renko:10", [trade(at, price) for at, price in enumerate(prices)])
    assert [(one.open, one.high, one.low, one.close, one.volume) for one in bars] == [
        ("100", "110", "100", "110", "3"),
        ("110", "121", "104", "120", "2"),
        ("110", "111", "100", "100", "3"),
    ]
    assert left == 0


def test_one_trade_makes_several_bricks() -> None:
    """The first brick holds the trades before, the last one the trade that jumped, those between none."""
    bars, left = built("renko:10", [trade(0, "100", "2"), trade(1, "99", "3"), trade(5, "135", "7"), trade(6, "134")])
    assert [(one.open, one.high, one.low, one.close, one.volume) for one in bars] == [
        ("100", "110", "99", "110", "5"),
        ("110", "120", "110", "120", "0"),
        ("120", "135", "120", "130", "7"),
    ]
    assert [one.close_ns - NOON for one in bars] == [5 * SECOND, 5 * SECOND + 1, 5 * SECOND + 2]
    assert (bars[0].open_ns, left) == (NOON, 1)


def test_a_brick_that_is_no_brick_is_refused() -> None:
    """A price of 60,000 in bricks of a hundred-thousandth would be billions of bars: one error says so."""
    builder = bar_builder(parse_rule("renko:0.00001"), COIN)
    builder.push(trade(0, "60000"))
    with pytest.raises(UnknownRule, match=r"renko:0.00001: the trade at 60001.5 is 150000 bricks away: write a larger"):
        builder.push(trade(1, "60001.5"))


def test_imbalance_bars_end_early_when_one_side_outweighs() -> None:
    """After a balanced first bar a run in one direction ends bars sooner than a market without direction does."""
    balanced = [trade(at, ("100", "101")[at % 2]) for at in range(400)]
    run = [trade(400 + at, str(102 + at)) for at in range(100)]
    builder = bar_builder(parse_rule("imbalance:100"), COIN)
    assert sum(len(builder.push(one)) for one in balanced) == 1
    closed = [len(builder.push(one)) for one in run]
    assert (sum(closed), closed.index(1)) == (8, 9)


def test_an_imbalance_bar_needs_more_than_chance() -> None:
    """Signs that only alternate never outweigh: no bar follows the first, whatever the mean of the signs is."""
    bars, left = built("imbalance:100", [trade(at, ("100", "101")[at % 2]) for at in range(1000)])
    assert ([one.volume for one in bars], left) == (["100"], 900)


# ---- every rule --------------------------------------------------------------------------------------------------

PRICES = st.integers(80, 120).map(lambda tenths: Decimal(tenths) / 10 + 90)
SIZES = st.sampled_from([Decimal("0.001"), Decimal("1"), Decimal("2.50"), Decimal("17")])
STEPS_NS = st.sampled_from([0, 0, 1, 1000, SECOND // 3, SECOND, 5 * SECOND])


@st.composite
def markets(draw: st.DrawFn) -> list[Trade]:
    now_ns, trades = NOON, []
    for step_ns, price, size in draw(st.lists(st.tuples(STEPS_NS, PRICES, SIZES), max_size=60)):
        now_ns += step_ns
        trades.append(Trade(now_ns, price, size))
    return trades


@pytest.mark.parametrize("rule", RULES)
@given(trades=markets())
def test_no_trade_is_lost_or_doubled(rule: str, trades: list[Trade]) -> None:
    """Volume in bars plus volume left over is all volume, and a bar's range holds the prices of its trades."""
    bars, left = built(rule, trades)
    volume = sum((Decimal(one.volume) for one in bars), Decimal(0))
    assert volume == sum((one.size for one in trades[: len(trades) - left]), Decimal(0))
    taken = iter(trades)
    for one in bars:
        inside, missing = [], Decimal(one.volume)
        while missing > 0:
            inside.append(next(taken))
            missing -= inside[-1].size
        assert missing == 0
        assert all(Decimal(one.low) <= each.price <= Decimal(one.high) for each in inside)
        assert all(each.time_ns <= one.close_ns for each in inside)
    assert len(list(taken)) == left


@pytest.mark.parametrize("rule", RULES)
@given(trades=markets())
def test_bars_are_accepted_by_the_checker_and_their_times_rise(rule: str, trades: list[Trade]) -> None:
    """No rule makes a bar that a feed would reject; opens and closes rise strictly, and no two bars overlap."""
    bars, _ = built(rule, trades)
    checker = Checker(fixed_length_ns(parse_rule(rule).timeframe))
    verdicts = [checker.check(one) for one in bars]
    assert all(isinstance(verdict, Accepted | AcceptedAfterGap) for verdict in verdicts), verdicts
    if "time" not in rule or "carry" in rule:
        assert all(isinstance(verdict, Accepted) for verdict in verdicts)
    assert all(one.open_ns < one.close_ns <= after.open_ns for one, after in pairwise(bars))


@pytest.mark.parametrize("rule", RULES)
@given(trades=markets())
def test_one_by_one_and_at_once_are_the_same(rule: str, trades: list[Trade]) -> None:
    """Pushing trades one at a time gives the bars of a plain computation over the whole list."""
    bars, _ = built(rule, trades)
    assert bars == stamped(parse_rule(rule), TWINS[parse_rule(rule).kind](parse_rule(rule), trades))


@given(markets(), st.sampled_from(["1", "2", "0.5"]))
def test_bricks_are_bricks(trades: list[Trade], brick: str) -> None:
    """Every brick has one size on the grid and begins where the last one ended, or began if the price turned."""
    size = Decimal(brick)
    bars, _ = built(f"renko:{brick}", trades)
    prices = [(Decimal(one.open), Decimal(one.close)) for one in bars]
    assert all(abs(close - start) == size and start % size == 0 for start, close in prices)
    for (start, close), (next_start, next_close) in pairwise(prices):
        turned = (close > start) != (next_close > next_start)
        assert next_start == (start if turned else close)


# ---- naive twins: whole lists, no state --------------------------------------------------------------------------

Cut = tuple[int, int, tuple[Decimal, Decimal, Decimal, Decimal], Decimal]
"""First and last time, four prices, volume."""


def whole(trades: Sequence[Trade]) -> Cut:
    prices = [one.price for one in trades]
    four = (prices[0], max(prices), min(prices), prices[-1])
    return trades[0].time_ns, trades[-1].time_ns, four, sum((one.size for one in trades), Decimal(0))


def stamped(rule: BarRule, cuts: Sequence[Cut]) -> list[BarClosed]:
    bars: list[BarClosed] = []
    last = 0
    for first_ns, last_ns, prices, volume in cuts:
        open_ns, close_ns = first_ns, last_ns
        if rule.kind is not RuleKind.TIME:
            open_ns = max(first_ns, last)
            close_ns = max(last_ns, open_ns + 1)
        last = close_ns
        texts = [format(value, "f") for value in (*prices, volume)]
        bars.append(BarClosed(COIN, rule.timeframe, open_ns, close_ns, *texts))  # type: ignore[call-arg, arg-type]
    return bars


def time_twin(rule: BarRule, trades: Sequence[Trade]) -> list[Cut]:
    """Group by interval; the last interval is not over."""
    length = rule.length_ns
    groups: dict[int, list[Trade]] = {}
    for one in trades:
        groups.setdefault(one.time_ns // length * length, []).append(one)
    cuts: list[Cut] = []
    for start, after in pairwise(groups):
        prices, volume = whole(groups[start])[2:]
        cuts.append((start, start + length, prices, volume))
        if rule.carry:
            cuts += [
                (empty, empty + length, (prices[3],) * 4, Decimal(0)) for empty in range(start + length, after, length)
            ]
    return cuts


def measure_twin(rule: BarRule, trades: Sequence[Trade]) -> list[Cut]:
    """Cut off the shortest beginning that holds the amount, again and again."""
    measures = {
        RuleKind.TICK: lambda one: Decimal(1),
        RuleKind.VOLUME: lambda one: one.size,
        RuleKind.VALUE: lambda one: one.size * one.price,
    }
    measure = measures[rule.kind]
    cuts, start = [], 0
    for stop in range(1, len(trades) + 1):
        if sum((measure(one) for one in trades[start:stop]), Decimal(0)) >= rule.amount:
            cuts.append(whole(trades[start:stop]))
            start = stop
    return cuts


def imbalance_twin(rule: BarRule, trades: Sequence[Trade]) -> list[Cut]:
    """The definition written out: signs of the whole list, weighted sums of the whole past at every bar's end."""
    amount = float(rule.amount)
    signs = [0] * len(trades)
    for at in range(1, len(trades)):
        change = trades[at].price - trades[at - 1].price
        signs[at] = signs[at - 1] if change == 0 else (1 if change > 0 else -1)
    decay = 1.0 - 2.0 / (rule.span * amount + 1.0)
    cuts, start, length, threshold = [], 0, amount, 0.0
    for stop in range(1, len(trades) + 1):
        theta = sum(signs[start:stop])
        if not (stop >= amount if not cuts else abs(theta) >= threshold):
            continue
        cuts.append(whole(trades[start:stop]))
        length += 2.0 / (rule.span + 1.0) * (stop - start - length)
        length = min(max(length, amount / 2.0), amount * 2.0)
        mean, repeats, weights = 0.0, 0.0, 0.0
        for at in range(stop):
            mean = mean * decay + signs[at]
            repeats = repeats * decay + signs[at] * (signs[at - 1] if at else 0)
            weights = weights * decay + 1.0
        repeated = min(max(repeats / weights, 0.0), 0.99)
        chance = math.sqrt((1.0 + repeated) / (1.0 - repeated) / length)
        threshold = length * min(max(abs(mean / weights), chance), 1.0)
        start = stop
    return cuts


def renko_twin(rule: BarRule, trades: Sequence[Trade]) -> list[Cut]:
    """Brick by brick: is the price a whole brick beyond the last one?"""
    size = rule.amount
    cuts: list[Cut] = []
    waiting: list[Trade] = []
    top = bottom = Decimal(0)
    for at, one in enumerate(trades):
        if at == 0:
            top = bottom = one.price // size * size
        made: list[tuple[Decimal, Decimal]] = []
        while one.price >= top + size or one.price <= bottom - size:
            start, end = (top, top + size) if one.price >= top + size else (bottom, bottom - size)
            made.append((start, end))
            top, bottom = max(start, end), min(start, end)
        for index, (start, end) in enumerate(made):
            inside = (waiting if index == 0 else []) + ([one] if index == len(made) - 1 else [])
            reach = [start, end, *(each.price for each in inside)]
            volume = sum((each.size for each in inside), Decimal(0))
            first_ns = inside[0].time_ns if inside else one.time_ns
            cuts.append((first_ns, one.time_ns, (start, max(reach), min(reach), end), volume))
        waiting = [] if made else [*waiting, one]
    return cuts


TWINS = {
    RuleKind.TIME: time_twin,
    RuleKind.TICK: measure_twin,
    RuleKind.VOLUME: measure_twin,
    RuleKind.VALUE: measure_twin,
    RuleKind.IMBALANCE: imbalance_twin,
    RuleKind.RENKO: renko_twin,
}

# ---- mutants -----------------------------------------------------------------------------------------------------

MUTANTS = [
    ("trade.time_ns < self._end_ns", "trade.time_ns <= self._end_ns", "time:1s"),
    ("self._measured < self._amount", "self._measured <= self._amount", "volume:5"),
    ("self._measured = ZERO\n        return (", "return (", "value:500"),
    ("self.volume += trade.size", "pass", "tick:3"),
    ("if price > self.high:", "if price < self.high:", "tick:3"),
    ("open_ns = max(first_ns, self._close_ns)", "open_ns = first_ns", "tick:3"),
    ("if above < 1 and below < 1:", "if above <= 1 and below < 1:", "renko:2"),
    ("self._theta = 0\n\n\n", "\n\n\n", "imbalance:4"),
]


@pytest.mark.parametrize(("right", "wrong", "rule"), MUTANTS)
def test_mutants_are_caught(right: str, wrong: str, rule: str) -> None:
    """On one fixed market the twin tells every changed comparison from the right one."""
    steps = [0, 0, SECOND // 2, SECOND // 2, 0, SECOND, 3 * SECOND, 0] * 8
    trades, now_ns = [], NOON
    for at, step_ns in enumerate(steps):
        now_ns += step_ns
        trades.append(Trade(now_ns, Decimal(100 + at * 7 % 11 - at * 3 % 5), Decimal(1 + at * 3 % 4)))
    source = inspect.getsource(bar_building)
    assert source.count(right) == 1, source.count(right)
    mutant: Any = types.ModuleType("bar_building_mutant")
    exec(source.replace(right, wrong), mutant.__dict__)  # noqa: S102 - our own source, one thing changed
    expected = stamped(parse_rule(rule), TWINS[parse_rule(rule).kind](parse_rule(rule), trades))
    assert built(rule, trades)[0] == expected
    builder = mutant.bar_builder(parse_rule(rule), COIN)
    assert [bar for one in trades for bar in builder.push(one)] != expected


# ---- rules as text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "timeframe"),
    [
        ("time:1m", "1m"),
        ("time:90s:carry", "90s"),
        ("tick:500", "tick-500"),
        ("volume:0.5", "volume-0.5"),
        ("value:1000000", "value-1000000"),
        ("imbalance:500", "imbalance-500"),
        ("imbalance:500:7", "imbalance-500-7"),
        ("renko:10", "renko-10"),
    ],
)
def test_a_rule_has_one_text_and_one_name(text: str, timeframe: str) -> None:
    """A rule prints as it is written, names its bars, and is found again by that name (carrying apart)."""
    rule = parse_rule(text)
    assert (str(rule), rule.timeframe) == (text, timeframe)
    assert str(rule_of(timeframe)) == text.removesuffix(":carry")


@pytest.mark.parametrize(("text", "same"), [("value:1e6", "value:1000000"), ("volume:10.0", "volume:10")])
def test_amounts_have_one_text(text: str, same: str) -> None:
    """Two ways to write an amount name the same bars."""
    assert parse_rule(text) == parse_rule(same)


@pytest.mark.parametrize(
    "text",
    [
        *("", "tick", "tick:", "tick:0", "tick:-1", "tick:1.5", "tick:5:5", "tick:٥", "bars:5", "renko:0"),
        *("volume:x", "volume:NaN", "volume:inf", "time:1M", "time:1m:fill", "imbalance:5:0", "imbalance:5:1.5"),
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    """Each bad rule is named with what would be one."""
    with pytest.raises(UnknownTimeframe, match=r"write"):
        parse_rule(text)
