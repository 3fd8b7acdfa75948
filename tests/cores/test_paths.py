"""The path within a bar: which extreme came first, when an order is reached, and who comes first in the worst case."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapeline_common.events import OrderTerms
from tapeline_common.values import InstrumentId, Liquidity, OrderType, Side, StrategyId, TimeInForce
from tapeline_execution.matching import Match, Prices
from tapeline_execution.paths import AT_LIMIT, AT_OPEN, AT_STOP, Met, adaptive, match_on_path, rank, reach, worst_first

BUY, SELL = Side.BUY, Side.SELL
BAR = Prices(Decimal(100), Decimal(110), Decimal(85), Decimal(50))
"""The high is nearer to the open: 100, 110, 85, and then the close."""
PATH = adaptive(BAR, Decimal(95))
FIRST = Met(first=True, triggered=False, now=False)
TRIGGERED = Met(first=True, triggered=True, now=True)


def order(side: Side, kind: OrderType, *, limit: str | None = None, stop: str | None = None) -> OrderTerms:
    return OrderTerms(
        StrategyId("atlas"), InstrumentId("BTC-USD"), side, Decimal(1), kind,
        None if limit is None else Decimal(limit), None if stop is None else Decimal(stop),
    )  # fmt: skip


def taken(price: str) -> Match:
    return Match(Decimal(price), Decimal(0), Liquidity.TAKER)


def made(price: str) -> Match:
    return Match(Decimal(price), Decimal(0), Liquidity.MAKER)


def test_the_nearer_extreme_comes_first_and_the_low_if_both_are() -> None:
    """High at ten, low at fifteen from the open; turned around; equally far."""
    assert tuple(map(int, PATH)) == (100, 110, 85, 95)
    low_first = adaptive(Prices(Decimal(90), Decimal(110), Decimal(85), Decimal(1)), Decimal(95))
    assert tuple(map(int, low_first)) == (90, 85, 110, 95)
    even = adaptive(Prices(Decimal(100), Decimal(105), Decimal(95), Decimal(1)), Decimal(100))
    assert tuple(map(int, even)) == (100, 95, 105, 100)


@pytest.mark.parametrize(
    ("level", "upwards", "through", "distance"),
    [
        ("100", True, False, 0),
        ("100", True, True, 0),
        ("105", True, False, 5),
        ("110", True, False, 10),
        ("110", True, True, None),
        ("111", True, False, None),
        ("95", False, True, 25),
        ("85", False, False, 35),
        ("85", False, True, None),
    ],
)
def test_how_far_the_price_travels_to_a_level(level: str, upwards: bool, through: bool, distance: int | None) -> None:
    """Along the legs; a touch is enough only where it is allowed to be."""
    assert reach(PATH, Decimal(level), upwards=upwards, through=through) == distance


@pytest.mark.parametrize(
    ("terms", "met", "expected"),
    [
        (order(BUY, OrderType.MARKET), FIRST, (0, taken("100"))),
        (order(BUY, OrderType.LIMIT, limit="101"), FIRST, (0, taken("100"))),
        (order(BUY, OrderType.LIMIT, limit="90"), FIRST, (30, made("90"))),
        (order(SELL, OrderType.LIMIT, limit="105"), FIRST, (5, made("105"))),
        (order(SELL, OrderType.LIMIT, limit="110"), FIRST, None),
        (order(SELL, OrderType.STOP, stop="90"), TRIGGERED, (30, taken("90"))),
        (order(SELL, OrderType.STOP, stop="101"), TRIGGERED, (0, taken("100"))),
        (order(SELL, OrderType.STOP_LIMIT, stop="90", limit="88"), TRIGGERED, (30, taken("90"))),
        (order(SELL, OrderType.STOP_LIMIT, stop="90", limit="93"), TRIGGERED, (43, made("93"))),
        (order(SELL, OrderType.STOP_LIMIT, stop="90", limit="105"), TRIGGERED, None),
        (order(BUY, OrderType.STOP_LIMIT, stop="105", limit="95"), TRIGGERED, (25, made("95"))),
    ],
)
def test_an_order_executes_when_the_path_reaches_it(
    terms: OrderTerms, met: Met, expected: tuple[int, Match] | None
) -> None:
    """A stop-limit sees only what is left after its trigger: 105 was reached before the fall, 93 is after it."""
    found = match_on_path(terms, BAR, PATH, met)
    assert found == (None if expected is None else (Decimal(expected[0]), expected[1]))


def test_an_immediate_order_has_only_the_open() -> None:
    """Not marketable there: nothing, whatever the path does; and nothing in a later bar."""
    ioc = OrderTerms(
        StrategyId("atlas"), InstrumentId("X"), BUY, Decimal(1), OrderType.LIMIT, Decimal(90),
        time_in_force=TimeInForce.IOC,
    )  # fmt: skip
    assert match_on_path(ioc, BAR, PATH, FIRST) is None


@pytest.mark.parametrize(
    ("terms", "met", "expected"),
    [
        (order(BUY, OrderType.MARKET), FIRST, AT_OPEN),
        (order(BUY, OrderType.LIMIT, limit="101"), FIRST, AT_OPEN),
        (order(BUY, OrderType.LIMIT, limit="90"), FIRST, AT_LIMIT),
        (order(SELL, OrderType.STOP, stop="90"), TRIGGERED, AT_STOP),
        (order(SELL, OrderType.STOP, stop="101"), TRIGGERED, AT_OPEN),
        (order(SELL, OrderType.STOP, stop="80"), FIRST, AT_LIMIT),
        (order(SELL, OrderType.STOP, stop="90"), Met(first=False, triggered=True, now=False), AT_OPEN),
        (order(SELL, OrderType.STOP_LIMIT, stop="90", limit="95"), Met(first=False, triggered=True, now=False), 0),
    ],
)
def test_the_worst_order_is_open_then_stops_then_limits(terms: OrderTerms, met: Met, expected: int) -> None:
    """Whatever the open decides happens first; a stop inside the bar before any resting limit."""
    assert rank(terms, BAR, met) == expected


def test_equals_keep_their_order_and_who_waits_goes_after_the_others() -> None:
    """Two of rank one, one of rank zero; then the first of all waits as long as b is to come."""
    ranks = {"a": 1, "b": 1, "c": 0}
    assert list(worst_first(["a", "b", "c"], ranks.__getitem__, lambda *_: False)) == ["c", "a", "b"]
    assert list(worst_first(["a", "b", "c"], ranks.__getitem__, lambda one, left: one == "a" and "b" in left)) == [
        "c",
        "b",
        "a",
    ]
    assert list(worst_first(["a", "b"], ranks.__getitem__, lambda *_: True)) == ["a", "b"]
