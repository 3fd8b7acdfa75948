"""Two legs as one unit: both orders or none, and no leg is left alone whatever becomes of the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tests.gears import Facts, file_of

from tapeline_backtest.feed import Source, script
from tapeline_backtest.runner import run_blocks, run_loop
from tapeline_common.events import (
    BarClosed,
    Event,
    FlattenRequested,
    InstrumentListed,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderTerms,
    RunStarted,
    StrategyConfigured,
    TradeDeclined,
)
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.recheck import recheck
from tapeline_common.settings import (
    ConfigurationInvalid,
    FeedTable,
    InstrumentTable,
    RegimeTable,
    RiskInstrumentTable,
    RiskTable,
    RunTable,
    Settings,
    StrategyTable,
    VenueTable,
)
from tapeline_common.testing import SECOND_NS, History, fingerprint, given
from tapeline_common.values import (
    DecimalText,
    Decline,
    InstrumentId,
    Liquidity,
    OrderId,
    Purpose,
    Realm,
    Refusal,
    Regime,
    Side,
    StrategyId,
)
from tapeline_marketdata.files import BarFile
from tapeline_strategy import catalogue, pairs
from tapeline_strategy.configuration import checked
from tapeline_strategy.core import CORE, State
from tapeline_strategy.pairs import LEG_BARS
from tapeline_strategy.pairs_reversion import STRATEGY as REVERSION
from tapeline_strategy.sdk import ParameterInvalid, Strategy, validate

MINUTE_NS = 60 * SECOND_NS
BTC, ETH = InstrumentId("BTC"), InstrumentId("ETH")
TWINS = StrategyId("twins")
RUN = RunStarted("run", "tape", Realm.REPLAY, 1, "USD", "test")


def _both(_memory: Any, *numbers: float) -> tuple[float, float]:
    """Wants the exposures that the two closes say; 9 means no opinion yet."""
    first, second = (math.nan if close == 9 else close for close in (numbers[3], numbers[8]))
    return first, second


def _alone(*_bar: float) -> float:
    raise TypeError


SAID = Strategy(
    "said_by_closes", "Wants what the closes say.", (), lambda _: 1, lambda _: [], _alone, is_numeric=False, both=_both
)
catalogue.add(SAID)


def configured(**changes: Any) -> StrategyConfigured:
    fields: dict[str, Any] = {
        "strategy": TWINS, "kind": "said_by_closes", "instruments": (BTC, ETH), "timeframe": "1m",
        "size": Decimal(2), "parameters": {},
    }  # fmt: skip
    return StrategyConfigured(**(fields | changes))


def listed(instrument: InstrumentId, lot: str | None = None) -> InstrumentListed:
    return InstrumentListed(instrument, f"{instrument}/USD", "sim", instrument, "USD", lot_size=lot and Decimal(lot))  # type: ignore[arg-type]


READY = (RUN, listed(BTC), listed(ETH), configured())


def bar(instrument: InstrumentId, minute: int, close: str) -> BarClosed:
    text = DecimalText(close)
    opened = minute * MINUTE_NS
    return BarClosed(instrument, "1m", opened, opened + MINUTE_NS, text, text, text, text, DecimalText("1"))


def bars(minute: int, btc: str, eth: str) -> tuple[BarClosed, BarClosed]:
    return bar(BTC, minute, btc), bar(ETH, minute, eth)


def proposed(
    order: str, instrument: InstrumentId, side: Side, quantity: str, minute: int, target: str
) -> OrderProposed:
    terms = OrderTerms(TWINS, instrument, side, Decimal(quantity))
    return OrderProposed(OrderId(order), terms, 0, minute * MINUTE_NS, Decimal(target), Regime.UNKNOWN)


def filled(order: str, instrument: InstrumentId, side: Side, quantity: str) -> OrderFilled:
    return OrderFilled(
        OrderId(order), f"c-{order}", TWINS, instrument, f"t-{order}", side, Decimal(quantity), Decimal(100),
        Decimal(0), "USD", Liquidity.TAKER, Decimal(0),
    )  # fmt: skip


def missing(instrument: InstrumentId, minute: int, why: str) -> TradeDeclined:
    return TradeDeclined(TWINS, instrument, Decline.LEG_MISSING, minute * MINUTE_NS, Decimal(0), why)


ENTRY = (
    proposed("buy", BTC, Side.BUY, "2", 0, "2"),
    proposed("sell", ETH, Side.SELL, "1", 0, "-1"),
)
ENTERED = (*READY, *bars(0, "1", "-0.5"), *ENTRY)
REFUSED = OrderRefused(OrderId("sell"), TWINS, ETH, Refusal.PRICE_STALE, "9", "1")


def test_both_legs_are_one_answer_at_the_bar_that_completes_the_pair() -> None:
    """The first leg's bar decides nothing; the second's brings both orders, in the order of the legs."""
    history = given(CORE, *READY).when(bar(BTC, 0, "1")).then_nothing()

    history.when(bar(ETH, 0, "-0.5")).then(
        proposed("twins-6", BTC, Side.BUY, "2", 0, "2"), proposed("twins-6-1", ETH, Side.SELL, "1", 0, "-1")
    )


def test_bars_of_two_times_are_no_pair() -> None:
    """A leg without a bar of that time keeps the pair waiting; nothing is decided on a price of another time."""
    history = given(CORE, *READY).when(bar(BTC, 0, "1")).then_nothing()
    history = history.when(bar(ETH, 1, "-0.5")).then_nothing()

    assert len(history.when(bar(BTC, 1, "1")).decisions) == 2


def test_no_opinion_and_nothing_wanted_are_quiet() -> None:
    """NaN and flat propose nothing and decline nothing."""
    history = given(CORE, *READY, bar(BTC, 0, "9")).when(bar(ETH, 0, "9")).then_nothing()
    history = history.when(bar(BTC, 1, "0")).then_nothing()
    history.when(bar(ETH, 1, "0")).then_nothing()


def test_a_leg_that_cannot_be_proposed_keeps_the_other_one_back() -> None:
    """Less than a lot of one leg: neither is ordered, each says why, once."""
    history = given(CORE, RUN, listed(BTC), listed(ETH, "5"), configured(), bar(BTC, 0, "1")).when(bar(ETH, 0, "-0.5"))

    below = TradeDeclined(TWINS, ETH, Decline.QUANTITY_BELOW_LOT, 0, Decimal(-1), "1 is less than one lot of 5")
    history = history.then(below, missing(BTC, 0, "the leg ETH cannot be proposed"))
    history = history.when(bar(BTC, 1, "1")).then_nothing()
    history.when(bar(ETH, 1, "-0.5")).then_nothing()


def test_a_refused_leg_takes_the_other_one_back() -> None:
    """At the next bar of either leg the reason is said and what is held is closed; the refused leg has nothing."""
    history = given(CORE, *ENTERED, filled("buy", BTC, Side.BUY, "2"), REFUSED)

    history = history.when(bar(BTC, 1, "1")).then(
        missing(BTC, 1, "risk refused sell: PRICE_STALE"), proposed("twins-11", BTC, Side.SELL, "2", 1, "0")
    )
    history = history.when(filled("twins-11", BTC, Side.SELL, "2")).then_nothing()
    history.when(bar(ETH, 1, "-0.5")).then_nothing()


def test_an_open_leg_is_taken_back_as_well() -> None:
    """The other leg is still open when one is refused: the order against it is proposed, whichever fills first."""
    history = given(CORE, *ENTERED, REFUSED)

    history.when(bar(ETH, 1, "-0.5")).then(
        missing(ETH, 1, "risk refused sell: PRICE_STALE"), proposed("twins-10", BTC, Side.SELL, "2", 0, "0")
    )


def test_a_failed_trade_is_not_entered_again() -> None:
    """Until the strategy has wanted nothing; then the next trade is a new one."""
    history = given(CORE, *ENTERED, filled("buy", BTC, Side.BUY, "2"), REFUSED, bar(BTC, 1, "1"))
    history = given(
        CORE, *ENTERED, filled("buy", BTC, Side.BUY, "2"), REFUSED, bar(BTC, 1, "1"),
        missing(BTC, 1, "risk refused sell: PRICE_STALE"), proposed("out", BTC, Side.SELL, "2", 1, "0"),
        filled("out", BTC, Side.SELL, "2"), bar(ETH, 1, "-0.5"),
    )  # fmt: skip
    for minute in range(2, 20):
        for each in bars(minute, "1", "-0.5"):
            history = history.when(each).then_nothing()
    for each in (*bars(20, "0", "0"), bar(BTC, 21, "-1")):
        history = history.when(each).then_nothing()

    entered = history.when(bar(ETH, 21, "0.5")).decisions
    assert [(type(event), event.terms.side) for event in entered if isinstance(event, OrderProposed)] == [
        (OrderProposed, Side.SELL),
        (OrderProposed, Side.BUY),
    ]


def test_a_leg_that_stays_open_alone_too_long_ends_the_trade() -> None:
    """For LEG_BARS bars of the pair it may; then both are closed, what is still open included."""
    history = given(CORE, *ENTERED, filled("buy", BTC, Side.BUY, "2"))
    for minute in range(1, LEG_BARS + 1):
        for each in bars(minute, "1", "-0.5"):
            history = history.when(each).then_nothing()
    late = LEG_BARS + 1
    history = history.when(bar(BTC, late, "1")).then_nothing()

    outcome = history.when(bar(ETH, late, "-0.5"))

    declined, *orders = outcome.decisions
    assert declined == missing(ETH, late, f"the leg ETH is still open {LEG_BARS} bars after the other one was done")
    assert [
        (event.terms.instrument, event.terms.side, event.terms.quantity)
        for event in orders
        if isinstance(event, OrderProposed)
    ] == [(BTC, Side.SELL, Decimal(2)), (ETH, Side.BUY, Decimal(1))]


def test_an_exit_is_each_legs_own() -> None:
    """Both are closed in one answer; an exit that ends unfilled is proposed again and brings nothing else about."""
    held = (*ENTERED, filled("buy", BTC, Side.BUY, "2"), filled("sell", ETH, Side.SELL, "1"))
    history = given(CORE, *held, bar(BTC, 1, "0")).when(bar(ETH, 1, "0"))
    history = history.then(
        proposed("twins-12", BTC, Side.SELL, "2", 1, "0"), proposed("twins-12-1", ETH, Side.BUY, "1", 1, "0")
    )
    history = history.when(filled("twins-12", BTC, Side.SELL, "2")).then_nothing()
    expired = OrderExpired(OrderId("twins-12-1"), "c")
    history = history.when(expired).then_nothing()
    history = history.when(bar(BTC, 2, "0")).then_nothing()

    outcome = history.when(bar(ETH, 2, "0"))

    assert [type(event) for event in outcome.decisions] == [OrderProposed]
    assert outcome.decisions[0].terms.instrument == ETH  # type: ignore[attr-defined]


def test_flattening_closes_both() -> None:
    """An operator's flatten does not wait for the pair."""
    held = (*ENTERED, filled("buy", BTC, Side.BUY, "2"), filled("sell", ETH, Side.SELL, "1"))

    outcome = given(CORE, *held).when(FlattenRequested("operator", "enough"))

    assert [(e.terms.instrument, e.terms.purpose) for e in outcome.decisions if isinstance(e, OrderProposed)] == [
        (BTC, Purpose.FLATTEN),
        (ETH, Purpose.FLATTEN),
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"instruments": (BTC,)}, "trades two instruments as one, not 1"),
        ({"instruments": (BTC, ETH, InstrumentId("SOL"))}, "trades two instruments as one, not 3"),
        ({"regimes": (Regime.BULL,)}, "no regimes, no presets"),
        ({"uses_presets": True}, "no regimes, no presets"),
    ],
)
def test_what_is_no_pair_is_declined_at_once(changes: dict[str, Any], why: str) -> None:
    """On the tape with the reason, at each instrument; and it never trades."""
    outcome = given(CORE, RUN).when(configured(**changes))

    for event in outcome.decisions:
        assert isinstance(event, TradeDeclined)
        assert event.reason is Decline.PARAMETERS_INVALID
        assert why in event.detail
    assert len(outcome.decisions) == len(changes.get("instruments", (BTC, ETH)))


def test_the_person_at_the_keyboard_hears_it_too() -> None:
    """A configuration with one instrument for a pair is refused before anything starts."""
    table = StrategyTable("mine", "pairs_reversion", ("BTC/USDT",), Decimal(1))

    with pytest.raises(ConfigurationInvalid, match="'pairs_reversion' trades two instruments as one, not 1"):
        checked(Settings(instrument=(InstrumentTable("BTC/USDT"),), strategy=(table,)))


# ---- no leg is left alone ----------------------------------------------------------------------------------------


def leg_alone(history: History[State]) -> bool:
    """Whether exactly one leg is held, with nothing open that would change it."""
    seats = [history.state.seats[leg][TWINS] for leg in (BTC, ETH)]
    expected = [seat.position + sum((order.remaining for order in seat.working.values()), Decimal(0)) for seat in seats]
    return (expected[0] == 0) != (expected[1] == 0)


def play(choices: Sequence[int], wants: Sequence[tuple[str, str]]) -> list[bool]:
    """A market that fills (0, 1), refuses (2), expires (3) or leaves open (4) what is proposed; a leg alone, by bar."""
    history: History[State] = given(CORE, *READY)
    turns = iter(choices)
    waiting: list[OrderProposed] = []
    found = []
    for minute, (btc, eth) in enumerate(wants):
        for each in bars(minute, btc, eth):
            heard: list[Event] = [each]
            while heard:
                outcome = history.when(heard.pop(0))
                history = outcome.then(*outcome.decisions)
                for order in [*waiting, *(e for e in outcome.decisions if isinstance(e, OrderProposed))]:
                    waiting = [other for other in waiting if other is not order]
                    # What closes a position is filled: refusing exits for ever is another matter than a missing leg.
                    fate = 0 if order.target == 0 else next(turns, 0)
                    terms = order.terms
                    if fate <= 1:
                        heard.append(filled(order.order, terms.instrument, terms.side, str(terms.quantity)))
                    elif fate == 2:
                        heard.append(OrderRefused(order.order, TWINS, terms.instrument, Refusal.PRICE_STALE, "9", "1"))
                    elif fate == 3:
                        heard.append(OrderExpired(order.order, "c"))
                    else:
                        waiting.append(order)
        found.append(leg_alone(history))
    return found


WANTS = st.lists(st.sampled_from([("1", "-0.5"), ("0", "0"), ("-1", "0.5")]), min_size=6, max_size=14)


@settings(max_examples=150, deadline=None)
@drawn(choices=st.lists(st.integers(0, 4), max_size=12), wants=WANTS)
def test_no_leg_stays_alone(choices: list[int], wants: list[tuple[str, str]]) -> None:
    """Whatever becomes of entries, a leg is alone for one bar of the pair at most."""
    alone = play(choices, [*wants, ("0", "0"), ("0", "0")])

    assert not any(one and other for one, other in itertools.pairwise(alone)), alone
    assert not alone[-1]


def test_without_the_policy_a_leg_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above can fail: with failures forgotten, a refused leg leaves the other one there."""
    monkeypatch.setattr(pairs, "fail", lambda _pair, _why: None)

    assert play([0, 2], [("1", "-0.5")] * 6) == [True] * 6


# ---- the rule ----------------------------------------------------------------------------------------------------


def walks(seed: int, count: int) -> tuple[list[float], list[float]]:
    """Two prices that belong together: the second a random walk, the first 1.7 of it and something that comes back."""
    chance = np.random.default_rng(seed)
    second = 100 + np.cumsum(chance.normal(0, 0.5, count))
    away = np.zeros(count)
    for i in range(1, count):
        away[i] = 0.8 * away[i - 1] + chance.normal(0, 0.5)
    return [round(float(x), 2) for x in 1.7 * second + away + 5], [round(float(x), 2) for x in second]


def answers(first: Sequence[float], second: Sequence[float], **given_parameters: Any) -> list[tuple[float, float]]:
    parameters = validate(REVERSION, given_parameters)
    memory = REVERSION.start(parameters)
    assert REVERSION.both is not None
    return [
        REVERSION.both(memory, *parameters.values(), *[a] * 5, *[b] * 5) for a, b in zip(first, second, strict=True)
    ]


@pytest.mark.parametrize("ratio", [0.0, 1.7])
def test_the_rule_agrees_with_least_squares_by_numpy(ratio: float) -> None:
    """At every bar: the ratio by NumPy's least squares, the score, and the same state machine over them."""
    first, second = walks(3, 400)
    window, expected, side, held, barred = 40, [], 0.0, (0.0, 0.0), False
    for i in range(len(first)):
        if i < window - 1:
            expected.append((math.nan, math.nan))
            continue
        a, b = np.array(first[i + 1 - window : i + 1]), np.array(second[i + 1 - window : i + 1])
        slope = ratio or float(np.polyfit(b, a, 1)[0])
        spread = a - slope * b
        z = (spread[-1] - spread.mean()) / spread.std()
        barred = barred and abs(z) >= 1.5
        if side:
            lost = side * z < -2.5
            if lost or side * z >= 0.0:
                side, held, barred = 0.0, (0.0, 0.0), lost
        elif not barred and slope > 0 and 1.5 < abs(z) <= 2.5:
            side = -math.copysign(1.0, z)
            held = (side / max(1.0, slope), -side * slope / max(1.0, slope))
        expected.append(held)

    found = answers(first, second, window=window, ratio=ratio, entry=1.5, stop=2.5)

    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {math.copysign(1, a) for a, _ in found if a == a and a} == {1.0, -1.0}, "both sides were traded"


def test_the_rule_knows_no_future_and_needs_its_window() -> None:
    """Answers so far do not depend on what follows; the first opinion comes with the last bar of the window."""
    first, second = walks(4, 120)
    whole = answers(first, second, window=30)

    assert repr(answers(first[:70], second[:70], window=30)) == repr(whole[:70])
    assert [math.isnan(a) for a, _ in whole[28:31]] == [True, False, False]
    assert REVERSION.warm_up(validate(REVERSION, {"window": 30})) == 30


def test_prices_that_stand_still_or_are_one_are_left_alone() -> None:
    """No spread, no ratio: nothing is wanted."""
    still = [50.0] * 60
    _, second = walks(5, 60)

    assert set(answers(still, still, window=20)[19:]) == {(0.0, 0.0)}
    assert set(answers([2 * x for x in second], second, window=20)[19:]) == {(0.0, 0.0)}
    assert all(a == 0 for a, _ in answers(second, [200 - x for x in second], window=20)[19:]), "a ratio below zero"


@pytest.mark.parametrize(
    ("given_parameters", "said"),
    [({"leave": 2.0}, "leave must be less than entry"), ({"stop": 1.0}, "stop must be more than entry")],
)
def test_bounds_that_do_not_go_together_are_refused(given_parameters: dict[str, Any], said: str) -> None:
    """With the values."""
    with pytest.raises(ParameterInvalid, match=said):
        validate(REVERSION, given_parameters)


# ---- whole runs --------------------------------------------------------------------------------------------------


def files(count: int) -> list[BarFile]:
    return [
        file_of([(minute, x, x, x, x, 1000.0) for minute, x in enumerate(column)], 1_700_006_400_000_000_000)
        for column in walks(6, count)
    ]


def run_settings(risk: RiskTable | None = None) -> Settings:
    names = ("AAA/USD", "BBB/USD")
    return Settings(
        run=RunTable(name="pairs", currency="USD", cash=Decimal(1_000_000)),
        feed=FeedTable(kind="files"),
        venue=VenueTable(Decimal(0), Decimal("0.0005"), Decimal(1), None),
        risk=risk or RiskTable(),
        regime=RegimeTable(enabled=False),
        instrument=tuple(InstrumentTable(name) for name in names),
        strategy=(StrategyTable("twins", "pairs_reversion", names, Decimal(10), {"window": 30, "entry": 1.5}),),
    )


def sources_of(settings: Settings) -> list[Source]:
    return [
        Source(instrument_id(table), f"{index}.parquet", file, f"digest{index}")
        for index, (table, file) in enumerate(zip(settings.instrument, files(600), strict=True))
    ]


def test_a_run_trades_both_legs_and_decides_alike_when_decided_again() -> None:
    """Loop and blocks give one tape, every entry has both legs, and re-deciding the tape gives the same answers."""
    settings = checked(run_settings())
    sources = sources_of(settings)
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="test")
    recorder = Facts()

    run = run_loop(script(opening, sources), recorder=recorder)

    block = run_blocks(opening, sources)
    assert (block.facts, block.tape_hash) == (run.facts, run.tape_hash)
    orders = [fact for fact in recorder.facts if isinstance(fact.event, OrderProposed)]
    causes = [fact.cause for fact in orders]
    assert len(orders) >= 20
    assert {causes.count(cause) for cause in causes} == {2}, "both legs have one cause"
    (again,) = recheck(CORE, (), recorder.facts)
    assert again.difference is None
    assert fingerprint(run.states["strategy"])


def test_a_leg_that_risk_forbids_ends_every_trade_flat() -> None:
    """With one leg over its limit each trade is begun and taken back at once, and the tape says why."""
    limited = run_settings(RiskTable(instrument=(RiskInstrumentTable("BBB/USD", max_order_notional=Decimal(1)),)))
    settings = checked(limited)
    recorder = Facts()

    run_loop(
        script(opening_facts(settings, realm=Realm.REPLAY, code_version="test"), sources_of(settings)),
        recorder=recorder,
    )

    events = [fact.event for fact in recorder.facts]
    fills = [event for event in events if isinstance(event, OrderFilled)]
    told = [event for event in events if isinstance(event, TradeDeclined) and event.reason is Decline.LEG_MISSING]
    assert {fill.instrument for fill in fills} == {"AAA-USD_sim"}
    assert told
    assert all("risk refused" in event.detail for event in told)
    assert sum(fill.side.sign * fill.quantity for fill in fills) == 0
    assert len(fills) == 2 * len(told)
