"""Asking only the limits that are set gives the verdict of asking every limit."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.events import InstrumentLimits, InstrumentListed, LimitsSet, OrderTerms
from tapeline_common.values import InstrumentId, OrderType, Purpose, Side, StrategyId, TradingState
from tapeline_risk import limits
from tapeline_risk.limits import NEEDS, Question, judge, settings_of

BTC, ETH = InstrumentId("BTC"), InstrumentId("ETH")
LISTED = InstrumentListed(BTC, "BTC/USD", "simulated", "BTC", "USD")

amounts = st.integers(0, 40).map(lambda quarters: Decimal(quarters) / 4)
bounds = st.none() | amounts
ages = st.none() | st.integers(0, 4)
own_limits = st.dictionaries(st.sampled_from([BTC, ETH]), st.builds(InstrumentLimits, bounds, bounds), max_size=2)
limit_sets = st.builds(
    LimitsSet,
    max_order_notional=bounds,
    max_position=bounds,
    max_gross_exposure=bounds,
    max_open_positions=st.none() | st.integers(0, 2),
    max_daily_loss=bounds,
    max_drawdown=bounds,
    cool_down_ms=ages,
    max_price_age_ms=ages,
    max_input_age_ms=ages,
    price_collar_bps=bounds,
    instruments=own_limits,
)
order_terms = st.builds(
    OrderTerms,
    st.just(StrategyId("pilot")),
    st.just(BTC),
    st.sampled_from(list(Side)),
    amounts,
    st.sampled_from([OrderType.MARKET, OrderType.LIMIT]),
    st.none() | amounts,
    reduce_only=st.booleans(),
    purpose=st.sampled_from([Purpose.SIGNAL, Purpose.SIGNAL, Purpose.FLATTEN]),
)
questions = st.builds(
    Question,
    terms=order_terms,
    decided_ns=st.integers(0, 8).map(lambda ms: ms * 1_000_000),
    now_ns=st.just(8_000_000),
    is_decided=st.sampled_from([False, False, False, True]),
    trading=st.sampled_from([TradingState.RUNNING, TradingState.RUNNING, *TradingState]),
    is_disabled=st.sampled_from([False, False, False, True]),
    limits=st.one_of(limit_sets, limit_sets, limit_sets, st.none()),
    currency=st.just("USD"),
    listing=st.just(LISTED),
    price=st.none() | amounts,
    price_ns=st.integers(0, 8).map(lambda ms: ms * 1_000_000),
    position=amounts,
    buys=amounts,
    sells=amounts,
    own_position=amounts,
    own_reducing=amounts,
    other_exposure=amounts,
    other_open=st.integers(0, 3),
    daily_loss=amounts,
    drawdown=amounts,
    exited_ns=st.none() | st.integers(0, 8).map(lambda ms: ms * 1_000_000),
)


def agree(question: Question) -> bool:
    chosen = () if question.limits is None else settings_of(question.limits)
    return judge(question, chosen) == judge(question)


@settings(max_examples=800, deadline=None)
@given(questions)
def test_the_shortened_tables_give_the_verdict_of_the_whole_ones(question: Question) -> None:
    """Whatever is limited and whatever is asked: same reason, same observed value, same limit, or the same yes."""
    assert agree(question)


def test_every_need_is_a_setting() -> None:
    """A limit waits for a setting that exists, and every setting of one instrument is among them."""
    assert set(NEEDS.values()) <= set(LimitsSet.__struct_fields__)
    assert set(InstrumentLimits.__struct_fields__) <= set(NEEDS.values())


def test_limits_of_one_instrument_count() -> None:
    """A setting that is made for one instrument only is asked about, and what is not set is not."""
    assert settings_of(LimitsSet()) == ()
    assert settings_of(LimitsSet(instruments={ETH: InstrumentLimits(max_position=Decimal(1))})) == ("max_position",)
    assert settings_of(LimitsSet(max_open_positions=0)) == ("max_open_positions",)


TIGHT: dict[str, Any] = {
    "max_order_notional": Decimal(1),
    "max_position": Decimal(1),
    "max_gross_exposure": Decimal(1),
    "max_open_positions": 0,
    "max_daily_loss": Decimal(1),
    "max_drawdown": Decimal(1),
    "cool_down_ms": 10,
    "max_price_age_ms": 1,
    "max_input_age_ms": 1,
    "price_collar_bps": Decimal(1),
}
BREACHING = Question(
    terms=OrderTerms(StrategyId("pilot"), BTC, Side.BUY, Decimal(9), OrderType.LIMIT, Decimal(9)),
    decided_ns=0,
    now_ns=9_000_000,
    is_decided=False,
    trading=TradingState.RUNNING,
    is_disabled=False,
    limits=LimitsSet(),
    currency="USD",
    listing=LISTED,
    price=Decimal(1),
    price_ns=0,
    position=Decimal(0),
    buys=Decimal(0),
    sells=Decimal(0),
    own_position=Decimal(0),
    own_reducing=Decimal(0),
    other_exposure=Decimal(9),
    other_open=9,
    daily_loss=Decimal(9),
    drawdown=Decimal(9),
    exited_ns=0,
)
"""Breaches whatever is limited."""


@pytest.mark.parametrize("limit", NEEDS, ids=lambda limit: limit.__name__)
def test_a_limit_that_waits_for_the_wrong_setting_is_noticed(
    limit: limits.Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The property can fail: a limit that is set refuses, and does not if it waits for another setting."""
    question = replace(BREACHING, limits=LimitsSet(**{NEEDS[limit]: TIGHT[NEEDS[limit]]}))
    assert judge(question) is not None
    assert agree(question)

    limits.counting.cache_clear()
    monkeypatch.setitem(NEEDS, limit, "another")
    broken = agree(question)
    limits.counting.cache_clear()

    assert not broken
