"""The strategy core: from bars, regimes and presets to orders, and a reason whenever a signal is not acted on."""

from collections.abc import Sequence
from decimal import Decimal
from typing import ClassVar

import pytest

from tapeline_common.events import (
    BarClosed,
    Event,
    FeedOpened,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
    PresetChosen,
    PresetRegistered,
    RegimeUpdated,
    RunStarted,
    StrategyConfigured,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradeDeclined,
    TradingResumed,
)
from tapeline_common.testing import SECOND_NS, History, at, fingerprint, given
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    Decline,
    InstrumentId,
    Liquidity,
    OrderId,
    Purpose,
    Realm,
    Refusal,
    Regime,
    Rejection,
    Side,
    StrategyId,
    Withheld,
)
from tapeline_strategy import catalogue
from tapeline_strategy.core import CORE, RETRY_BARS, State
from tapeline_strategy.sdk import Bar, Parameter, from_class

MINUTE_NS = 60 * SECOND_NS
BTC = InstrumentId("BTC")
ETH = InstrumentId("ETH")
PILOT = StrategyId("pilot")


class Follow:
    """Wants whatever the close says: tests write targets as closes. ``shift`` is added; 9 means no opinion yet."""

    name: ClassVar[str] = "follow"
    description: ClassVar[str] = "Wants the exposure that the close says."
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("factor", float, 1.0, -1.0, 1.0, "what the close is multiplied by"),
    )

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def on_bar(self, bar: Bar) -> float:
        return float("nan") if bar.close == 9 else bar.close * self.factor


catalogue.add(from_class(Follow))

RUN = RunStarted("run", "tape", Realm.REPLAY, 1, "USD", "test")
LISTED = InstrumentListed(BTC, "BTC/USD", "simulated", "BTC", "USD")


def configured(**changes: object) -> StrategyConfigured:
    fields: dict[str, object] = {
        "strategy": PILOT,
        "kind": "follow",
        "instruments": (BTC,),
        "timeframe": "1m",
        "size": Decimal(2),
        "parameters": {},
    }
    return StrategyConfigured(**(fields | changes))  # type: ignore[arg-type]


FLYING = (RUN, LISTED, configured())
BULLS_ONLY = (RUN, LISTED, configured(regimes=(Regime.BULL,)))


def bar(minute: int, close: str, *, instrument: InstrumentId = BTC, timeframe: str = "1m") -> BarClosed:
    text = DecimalText(close)
    opened = minute * MINUTE_NS
    return BarClosed(instrument, timeframe, opened, opened + MINUTE_NS, text, text, text, text, DecimalText("1"))


def regime(minute: int, which: Regime, instrument: InstrumentId = BTC) -> RegimeUpdated:
    return RegimeUpdated(instrument, minute * MINUTE_NS, which, (), None, None)


def proposed(
    order: str,
    side: Side,
    quantity: str,
    minute: int,
    target: str,
    *,
    seconds: int = 0,
    instrument: InstrumentId = BTC,
    which: Regime = Regime.UNKNOWN,
    decision: str = "",
    strategy: StrategyId = PILOT,
) -> OrderProposed:
    terms = OrderTerms(strategy, instrument, side, Decimal(quantity), decision=decision)
    return OrderProposed(OrderId(order), terms, seconds * SECOND_NS, minute * MINUTE_NS, Decimal(target), which)


def flattening(order: str, side: Side, quantity: str, minute: int, instrument: InstrumentId = BTC) -> OrderProposed:
    terms = OrderTerms(PILOT, instrument, side, Decimal(quantity), reduce_only=True, purpose=Purpose.FLATTEN)
    return OrderProposed(OrderId(order), terms, 0, minute * MINUTE_NS, Decimal(0), Regime.UNKNOWN)


def filled(order: str, side: Side, quantity: str, instrument: InstrumentId = BTC) -> OrderFilled:
    return OrderFilled(
        OrderId(order), f"c-{order}", PILOT, instrument, f"t-{order}-{quantity}", side, Decimal(quantity), Decimal(100),
        Decimal(0), "USD", Liquidity.TAKER, Decimal(0),
    )  # fmt: skip


def declined(reason: Decline, minute: int, target: str, detail: str) -> TradeDeclined:
    return TradeDeclined(PILOT, BTC, reason, minute * MINUTE_NS, Decimal(target), detail)


def refused(order: str) -> OrderRefused:
    return OrderRefused(OrderId(order), PILOT, BTC, Refusal.PRICE_STALE, "9", "1")


def holding_two(*setup: Event) -> History[State]:
    """The pilot holds its whole size of BTC, settled, after minute 0."""
    return given(CORE, *(setup or FLYING), bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), filled("entry", Side.BUY, "2"))  # fmt: skip  # noqa: E501


def run(history: History[State], *events: Event) -> tuple[History[State], list[Event]]:
    """Let the core hear these and collect everything it says."""
    said: list[Event] = []
    for event in events:
        outcome = history.when(event)
        history = outcome.history
        said.extend(outcome.decisions)
    return history, said


# ---- proposing ---------------------------------------------------------------------------------------------------


def test_a_signal_becomes_an_order_of_the_difference() -> None:
    """A target away from what is held is proposed at once, stamped with the core's clock and the bar."""
    given(CORE, at(60), *FLYING).when(bar(0, "0.5")).then(
        proposed("pilot-4", Side.BUY, "1", 0, "1", seconds=60),
    )


def test_a_quiet_bar_says_nothing() -> None:
    """The same target again, and a target that is held already, need no order."""
    given(CORE, *FLYING).when(bar(0, "0")).then_nothing()
    holding_two().when(bar(1, "1")).then_nothing()


def test_no_opinion_says_nothing() -> None:
    """NaN is no signal: neither an order nor a reason follows, flat or not."""
    given(CORE, *FLYING).when(bar(0, "9")).then_nothing()
    holding_two().when(bar(1, "9")).then_nothing()


def test_a_reversal_is_one_order_across_zero() -> None:
    """From long to short in one order of the whole difference."""
    holding_two().when(bar(1, "-0.5")).then(proposed("pilot-7", Side.SELL, "3", 1, "-1"))


def test_an_open_order_counts_as_filled() -> None:
    """A new signal on the bar after a proposal reverses what will be held, though no fill was heard yet."""
    history = given(CORE, *FLYING).when(bar(0, "1")).then(proposed("pilot-4", Side.BUY, "2", 0, "2"))

    history = history.when(bar(1, "1")).then_nothing()
    history = history.when(bar(2, "0")).then(proposed("pilot-6", Side.SELL, "2", 2, "0"))

    _, said = run(history, filled("pilot-4", Side.BUY, "2"), filled("pilot-6", Side.SELL, "2"), bar(3, "0"))
    assert said == []


def test_a_part_fill_leaves_the_rest_expected() -> None:
    """The remainder of an order counts until it is over; then the missing part is proposed anew."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"))
    history, said = run(history, filled("entry", Side.BUY, "0.5"), bar(1, "1"))
    assert said == []

    history, said = run(history, OrderExpired(OrderId("entry"), "c"), bar(2, "1"))
    assert said == [proposed("pilot-9", Side.BUY, "1.5", 2, "2")]


@pytest.mark.parametrize(
    "end",
    [
        OrderWithheld(OrderId("entry"), "c", Withheld.APPROVAL_EXPIRED),
        OrderCanceled(OrderId("entry"), "c", CancelReason.REQUESTED),
        OrderExpired(OrderId("entry"), "c"),
    ],
    ids=["withheld", "canceled", "expired"],
)
def test_an_order_that_ended_unfilled_is_proposed_again(end: Event) -> None:
    """What ended without a refusal is simply not held: the next bar asks again."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), end)

    history.when(bar(1, "1")).then(proposed("pilot-7", Side.BUY, "2", 1, "2"))


def test_a_fill_after_a_cancel_still_counts() -> None:
    """The venue was faster than the cancel: the position is there and is not bought a second time."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"))

    _, said = run(
        history,
        OrderCanceled(OrderId("entry"), "c", CancelReason.REQUESTED),
        filled("entry", Side.BUY, "2"),
        bar(1, "1"),
    )

    assert said == []


def test_a_position_from_a_late_fill_is_left_again() -> None:
    """Flat was wanted and flat was believed; the late fill makes the next bar sell it."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), bar(1, "0"))
    canceled = OrderCanceled(OrderId("entry"), "c", CancelReason.REQUESTED)

    _, said = run(history, canceled, bar(2, "0"), filled("entry", Side.BUY, "2"), bar(3, "0"))

    assert said == [proposed("pilot-10", Side.SELL, "2", 3, "0")]


def test_only_its_own_bars_reach_an_instance() -> None:
    """A bar of another timeframe or of an instrument it is not bound to is never consumed."""
    history = given(CORE, *FLYING)
    before = history.state.seats[BTC][PILOT].bars

    _, said = run(history, bar(0, "1", timeframe="5m"), bar(0, "1", instrument=ETH))

    assert said == []
    assert history.state.seats[BTC][PILOT].bars == before


def test_nothing_configured_means_nothing_said() -> None:
    """Without a run there is no order; without an instance there is not even a reason."""
    given(CORE).when(bar(0, "1")).then_nothing()
    given(CORE, configured()).when(bar(0, "1")).then(
        declined(Decline.TRADING_HALTED, 0, "2", "trading is HALTED"),
    )


def test_instances_on_one_instrument_keep_their_own_books() -> None:
    """Two instances answer one bar: each for itself, the second order numbered by its index."""
    wing = StrategyId("wing")
    history = given(CORE, *FLYING, configured(strategy=wing, size=Decimal(3)))

    history = history.when(bar(0, "1")).then(
        proposed("pilot-5", Side.BUY, "2", 0, "2"),
        proposed("wing-5-1", Side.BUY, "3", 0, "3", strategy=wing),
    )
    history.when(bar(1, "0")).then(
        proposed("pilot-6", Side.SELL, "2", 1, "0"),
        proposed("wing-6-1", Side.SELL, "3", 1, "0", strategy=wing),
    )


def test_an_exposure_out_of_range_stops_the_service() -> None:
    """A strategy that wants more than its size is a bug, and a bug is not traded on."""
    with pytest.raises(ValueError, match=r"'pilot' \(follow\) wants an exposure of 1\.5"):
        given(CORE, *FLYING).when(bar(0, "1.5"))


# ---- lots --------------------------------------------------------------------------------------------------------

LOTTED = InstrumentListed(BTC, "BTC/USD", "simulated", "BTC", "USD", lot_size=Decimal("0.5"))


def test_quantities_are_rounded_down_to_the_lot() -> None:
    """1.8 wanted in lots of 0.5 is an order of 1.5, and the rest is not asked for again."""
    history = given(CORE, RUN, LOTTED, configured()).when(bar(0, "0.9")).then(
        proposed("pilot-4", Side.BUY, "1.5", 0, "1.8"),
    )  # fmt: skip
    history.when(bar(1, "0.9")).then_nothing()


def test_less_than_a_lot_is_declined_once() -> None:
    """A change smaller than one lot is said once and not repeated."""
    history = given(CORE, RUN, LOTTED, configured()).when(bar(0, "0.2")).then(
        declined(Decline.QUANTITY_BELOW_LOT, 0, "0.4", "0.4 is less than one lot of 0.5"),
    )  # fmt: skip
    history.when(bar(1, "0.2")).then_nothing()


# ---- regimes -----------------------------------------------------------------------------------------------------


def test_a_known_regime_makes_the_bar_wait_for_its_own() -> None:
    """Once a regime is known, the bar is decided at the RegimeUpdated for that bar and at no other."""
    history = given(CORE, *BULLS_ONLY, bar(0, "0"), regime(0, Regime.BULL))

    history = history.when(bar(1, "1")).then_nothing()
    history = history.when(regime(0, Regime.BULL)).then_nothing()
    history = history.when(regime(1, Regime.BULL)).then(
        proposed("pilot-8", Side.BUY, "2", 1, "2", which=Regime.BULL),
    )
    history.when(regime(1, Regime.BEAR)).then_nothing()


def test_the_regime_of_another_bar_decides_nothing() -> None:
    """Neither an earlier nor a later bar's regime stands for the one that is awaited."""
    history = given(CORE, *BULLS_ONLY, bar(0, "0"), regime(0, Regime.BULL), bar(1, "1"))

    _, said = run(history, regime(0, Regime.BULL), regime(2, Regime.BULL))

    assert said == []


def test_without_a_regime_entries_are_declined_at_the_bar() -> None:
    """No regime known: said once at the bar, not on every bar, and again when the signal comes back."""
    history = given(CORE, *BULLS_ONLY)
    unknown = "no regime is known"

    history = history.when(bar(0, "1")).then(declined(Decline.REGIME_UNKNOWN, 0, "2", unknown))
    history = history.when(bar(1, "1")).then_nothing()
    history = history.when(bar(2, "0")).then_nothing()
    history.when(bar(3, "1")).then(declined(Decline.REGIME_UNKNOWN, 3, "2", unknown))


def test_a_regime_said_to_be_unknown_decides_the_waiting_bar() -> None:
    """The model went away at this bar: the bar is decided with UNKNOWN, and the next one does not wait."""
    history = given(CORE, *BULLS_ONLY, bar(0, "0"), regime(0, Regime.BULL), bar(1, "1"))

    history = history.when(regime(1, Regime.UNKNOWN)).then(
        declined(Decline.REGIME_UNKNOWN, 1, "2", "no regime is known"),
    )
    history.when(bar(2, "0.5")).then(declined(Decline.REGIME_UNKNOWN, 2, "1", "no regime is known"))


def test_a_blocked_regime_declines_an_entry_and_says_so_once() -> None:
    """An entry outside its regimes is declined; when the regime comes round, the same signal is acted on."""
    history = given(CORE, *BULLS_ONLY, bar(0, "0"), regime(0, Regime.BEAR), bar(1, "1"))

    history = history.when(regime(1, Regime.BEAR)).then(
        declined(Decline.REGIME_BLOCKED, 1, "2", "regime BEAR is none of BULL"),
    )
    history, said = run(history, bar(2, "1"), regime(2, Regime.BEAR), bar(3, "1"), regime(3, Regime.BULL))
    assert said == [proposed("pilot-11", Side.BUY, "2", 3, "2", which=Regime.BULL)]


@pytest.mark.parametrize("which", [Regime.BEAR, Regime.UNKNOWN])
def test_no_regime_holds_an_exit_back(which: Regime) -> None:
    """Exits and reductions go through in a blocked regime and in none."""
    history = holding_two(*BULLS_ONLY)
    history, said = run(history, regime(0, which), bar(1, "0.5"), regime(1, which), bar(2, "0"), regime(2, which))

    assert [(e.terms.side, e.terms.quantity) for e in said if isinstance(e, OrderProposed)] == [
        (Side.SELL, Decimal(1)),
        (Side.SELL, Decimal(1)),
    ]
    assert len(said) == 2


def test_a_blocked_reversal_is_cut_back_to_the_exit() -> None:
    """Long to short in a regime that allows no entry: the long is closed, the short declined."""
    history = holding_two(*BULLS_ONLY)
    history, said = run(history, regime(0, Regime.BEAR), bar(1, "-1"), regime(1, Regime.BEAR))

    assert said == [
        proposed("pilot-9", Side.SELL, "2", 1, "0", which=Regime.BEAR),
        declined(Decline.REGIME_BLOCKED, 1, "-2", "regime BEAR is none of BULL"),
    ]
    _, said = run(history, filled("pilot-9", Side.SELL, "2"), bar(2, "-1"), regime(2, Regime.BEAR))
    assert said == []


def test_a_regime_that_never_came_stops_entries_until_it_speaks() -> None:
    """The next bar came first: entries are declined as stale at the bar; when the regime is back, bars wait again."""
    history = given(CORE, *BULLS_ONLY, bar(0, "0"), regime(0, Regime.BULL), bar(1, "1"))

    history = history.when(bar(2, "1")).then(
        declined(Decline.INPUT_STALE, 2, "2", "the regime of an earlier bar never came"),
    )
    history, said = run(history, regime(1, Regime.BULL), bar(3, "1"), regime(3, Regime.BULL), bar(4, "1"))
    assert said == []
    history.when(regime(4, Regime.BULL)).then(
        proposed("pilot-12", Side.BUY, "2", 4, "2", which=Regime.BULL),
    )


def test_a_regime_that_never_came_does_not_stop_an_exit() -> None:
    """Without its regime a position can still be left, at the bar."""
    history = holding_two(*BULLS_ONLY)
    _, said = run(history, regime(0, Regime.BULL), bar(1, "0"), bar(2, "0"))

    assert said == [proposed("pilot-9", Side.SELL, "2", 2, "0", which=Regime.BULL)]


# ---- bars of the past --------------------------------------------------------------------------------------------

OLD = "the bar is of the past: a later one has closed since"


def feed(stale_after_s: int, instrument: InstrumentId = BTC) -> FeedOpened:
    return FeedOpened(instrument, "binance", "1m", "REST", stale_after_s * SECOND_NS)


def test_a_bar_of_the_past_is_not_acted_on() -> None:
    """What came while nobody listened is said once for each target; the latest bar decides, entries and exits."""
    history = given(CORE, *FLYING, feed(130), at(600))

    history = history.when(bar(1, "1")).then(declined(Decline.INPUT_STALE, 1, "2", OLD))
    history = history.when(bar(2, "1")).then_nothing()
    history = history.when(bar(3, "0.5")).then(declined(Decline.INPUT_STALE, 3, "1", OLD))
    history.when(bar(9, "0.5")).then(proposed("pilot-8", Side.BUY, "1", 9, "1", seconds=600))


def test_an_exit_waits_for_the_latest_bar() -> None:
    """Leaving on a bar of the past and entering on the next would be two orders for nothing."""
    history = holding_two(*FLYING, feed(130))

    history = history.when(bar(1, "0"), seconds=600).then(declined(Decline.INPUT_STALE, 1, "0", OLD))
    history = history.when(bar(9, "1"), seconds=600).then_nothing()
    history.when(bar(10, "0"), seconds=670).then(proposed("pilot-10", Side.SELL, "2", 10, "0", seconds=670))


@pytest.mark.parametrize(("clock_s", "is_acted_on"), [(190, True), (191, False)])
def test_a_bar_is_good_for_as_long_as_its_feed_says(clock_s: int, is_acted_on: bool) -> None:
    """To the second: 130 s after minute 1 began it is still acted on."""
    _, said = run(given(CORE, *FLYING, feed(130), at(clock_s)), bar(1, "1"))

    assert [type(event) for event in said] == [OrderProposed if is_acted_on else TradeDeclined]


@pytest.mark.parametrize("setup", [(), (feed(0),), (feed(130), feed(0)), (feed(130, ETH),)])
def test_other_feeds_bars_are_never_of_the_past(setup: tuple[Event, ...]) -> None:
    """Files and simulated markets have clocks of their own; the word that counts is the latest of this instrument."""
    given(CORE, *FLYING, *setup, at(10**9)).when(bar(1, "1")).then(
        proposed(f"pilot-{4 + len(setup)}", Side.BUY, "2", 1, "2", seconds=10**9)
    )


def test_flattening_does_not_ask_how_old_a_bar_is() -> None:
    """The operator's order to leave is obeyed at any bar."""
    outcome = holding_two(*FLYING, feed(130)).when(FlattenRequested("operator", "storm"), seconds=600)

    assert [event.terms.purpose for event in outcome.decisions] == [Purpose.FLATTEN]


# ---- control -----------------------------------------------------------------------------------------------------

HALT = HaltRequested("operator", "lunch")
RESUMED = TradingResumed("back")
FLATTEN = FlattenRequested("operator", "storm")
DISABLE = StrategyDisableRequested(PILOT, "operator", "review")
ENABLE = StrategyEnableRequested(PILOT, "operator", "fine", 1, "signature")


def test_a_halt_declines_signals_once_until_trading_resumes() -> None:
    """While halted a signal is declined once; after the resumption the next bar acts on it."""
    history = given(CORE, *FLYING, HALT).when(bar(0, "1")).then(
        declined(Decline.TRADING_HALTED, 0, "2", "trading is HALTED"),
    )  # fmt: skip
    history, said = run(history, bar(1, "1"), RESUMED)
    assert said == []
    history.when(bar(2, "1")).then(proposed("pilot-8", Side.BUY, "2", 2, "2"))


def test_a_quiet_bar_while_halted_says_nothing() -> None:
    """No signal, no reason: a halt alone is not worth a word from every instance."""
    holding_two(*FLYING).when(HALT).history.when(bar(1, "1")).then_nothing()


def test_a_disabled_instance_keeps_its_position_and_declines() -> None:
    """Disabling stops exits as well as entries; enabling acts on the standing signal."""
    history = holding_two(*FLYING).when(DISABLE).then_nothing()
    history = history.when(bar(1, "0")).then(
        declined(Decline.STRATEGY_DISABLED, 1, "0", "disabled by operator: review"),
    )
    history, said = run(history, bar(2, "0"), ENABLE, bar(3, "0"))
    assert said == [proposed("pilot-11", Side.SELL, "2", 3, "0")]


def test_flatten_closes_every_filled_position() -> None:
    """One reduce-only market order for each position, opposite side, whole quantity, named by index."""
    history = given(
        CORE,
        RUN,
        LISTED,
        configured(instruments=(BTC, ETH)),
        filled("a", Side.BUY, "2"),
        filled("b", Side.SELL, "1", ETH),
    )

    history.when(FLATTEN).then(
        flattening("pilot-6", Side.SELL, "2", 0),
        flattening("pilot-6-1", Side.BUY, "1", 0, ETH),
    )


def test_flatten_while_flat_says_nothing() -> None:
    """Nothing held, nothing to close; an open order is execution's to cancel."""
    given(CORE, *FLYING).when(FLATTEN).then_nothing()
    given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2")).when(FLATTEN).then_nothing()


def test_a_second_flatten_does_not_close_twice() -> None:
    """What an open flattening order covers is not ordered again."""
    history = holding_two().when(FLATTEN).then(flattening("pilot-7", Side.SELL, "2", 0))
    history.when(FLATTEN).then_nothing()


def test_a_fill_while_flattening_is_flattened() -> None:
    """The venue filled before the cancel reached it: that position is closed too."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2")).when(FLATTEN).then_nothing()
    history.when(filled("entry", Side.BUY, "2")).then(flattening("pilot-7", Side.SELL, "2", 0))


def test_a_flattening_order_that_failed_is_tried_again_at_the_next_bar() -> None:
    """Flattening is not over before the position is gone."""
    history = holding_two().when(FLATTEN).then(flattening("pilot-7", Side.SELL, "2", 0))
    history = history.when(refused("pilot-7")).then_nothing()
    history = history.when(bar(1, "9")).then(flattening("pilot-9", Side.SELL, "2", 1))
    history.when(bar(2, "9")).then_nothing()


def test_while_flattening_no_signal_is_acted_on() -> None:
    """A new signal is declined as halted, beside the flattening order."""
    history = given(CORE, *FLYING, FLATTEN)
    history.when(bar(0, "1")).then(declined(Decline.TRADING_HALTED, 0, "2", "trading is FLATTENING"))


# ---- refusals and orders in flight -------------------------------------------------------------------------------


def test_a_refused_target_is_declined_once_and_tried_again_later() -> None:
    """Risk said no: the reason is said once; after RETRY_BARS bars the same target is proposed again."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), refused("entry"))

    history = history.when(bar(1, "1")).then(
        declined(Decline.ORDER_REFUSED, 1, "2", "risk refused entry: PRICE_STALE"),
    )
    history, said = run(history, *(bar(minute, "1") for minute in range(2, RETRY_BARS)))
    assert said == []
    history.when(bar(RETRY_BARS, "1")).then(proposed("pilot-16", Side.BUY, "2", RETRY_BARS, "2"))


def test_another_target_is_proposed_although_the_last_was_refused() -> None:
    """The refusal was of that target only."""
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), refused("entry"))

    history.when(bar(1, "0.5")).then(proposed("pilot-7", Side.BUY, "1", 1, "1"))


def test_a_resumption_forgets_refusals() -> None:
    """What was refused before a halt is proposed again when trading resumes."""
    history = given(
        CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), refused("entry"), HALT, RESUMED
    )  # fmt: skip
    history.when(bar(1, "1")).then(proposed("pilot-9", Side.BUY, "2", 1, "2"))


def test_a_rejection_by_the_venue_counts_as_a_refusal() -> None:
    """The venue's no is not asked for on every bar either."""
    rejected = OrderRejected(OrderId("entry"), "c", Rejection.BELOW_MIN_NOTIONAL, "5 < 10")
    history = given(CORE, *FLYING, bar(0, "1"), proposed("entry", Side.BUY, "2", 0, "2"), rejected)

    history = history.when(bar(1, "1")).then(
        declined(Decline.ORDER_REFUSED, 1, "2", "the venue rejected entry: BELOW_MIN_NOTIONAL"),
    )
    history.when(bar(2, "1")).then_nothing()


def test_no_third_order_while_two_are_open() -> None:
    """One order and its reversal may be in flight; a third signal is declined and acted on when one is over."""
    history = given(CORE, *FLYING)
    history, said = run(history, bar(0, "1"), bar(1, "0"), bar(2, "1"), bar(3, "1"))
    assert said == [
        proposed("pilot-4", Side.BUY, "2", 0, "2"),
        proposed("pilot-5", Side.SELL, "2", 1, "0"),
        declined(Decline.ORDER_IN_FLIGHT, 2, "2", "2 orders are open: pilot-4, pilot-5"),
    ]
    history, said = run(history, filled("pilot-4", Side.BUY, "2"), bar(4, "1"))
    assert said == [proposed("pilot-9", Side.BUY, "2", 4, "2")]


# ---- presets -----------------------------------------------------------------------------------------------------

WITH_PRESETS = (RUN, LISTED, configured(uses_presets=True))
BOLD = PresetRegistered(PILOT, "bold", {"factor": 1.0})
TIMID = PresetRegistered(PILOT, "timid", {"factor": "0.5"})


def chosen(decision: str, preset: str) -> PresetChosen:
    return PresetChosen(decision, PILOT, BTC, preset, (), (), (), (), ())


def test_without_a_preset_the_signal_is_declined() -> None:
    """An instance that wants a preset and has none says so at its first signal, once."""
    history = given(CORE, *WITH_PRESETS, BOLD).when(bar(0, "1")).then(
        declined(Decline.PRESET_MISSING, 0, "2", "no preset is chosen"),
    )  # fmt: skip
    history.when(bar(1, "1")).then_nothing()


def test_the_chosen_preset_acts_and_signs_the_order() -> None:
    """Only the chosen preset's target counts; the order carries the decision it was chosen by."""
    history = given(CORE, *WITH_PRESETS, BOLD, TIMID, chosen("d1", "timid"))

    history.when(bar(0, "1")).then(proposed("pilot-7", Side.BUY, "1", 0, "1", decision="d1"))


def test_a_new_choice_waits_until_flat() -> None:
    """A trade ends under the preset it began with; the new choice acts once nothing is held or open."""
    history = given(CORE, *WITH_PRESETS, BOLD, TIMID, chosen("d1", "timid"))
    history, said = run(
        history, bar(0, "1"), chosen("d2", "bold"), filled("pilot-7", Side.BUY, "1"), bar(1, "1"), bar(2, "0"),
        filled("pilot-11", Side.SELL, "1"), bar(3, "1"),
    )  # fmt: skip

    assert said == [
        proposed("pilot-7", Side.BUY, "1", 0, "1", decision="d1"),
        proposed("pilot-11", Side.SELL, "1", 2, "0", decision="d1"),
        proposed("pilot-13", Side.BUY, "2", 3, "2", decision="d2"),
    ]


def test_presets_that_do_not_act_follow_the_bars_too() -> None:
    """Switching needs no warm-up: every registered preset has seen every bar since it was registered."""
    slow_starter = configured(kind="ema_cross", parameters={"fast": 2, "slow": 3}, uses_presets=True)
    longer = PresetRegistered(PILOT, "longer", {"slow": 5})
    history = given(CORE, RUN, LISTED, slow_starter, longer)
    history, _ = run(history, *(bar(minute, str(100 + minute)) for minute in range(4)))

    history = history.when(chosen("d1", "longer")).then_nothing()

    history.when(bar(4, "104")).then(proposed("pilot-10", Side.BUY, "2", 4, "2", decision="d1"))


def test_a_preset_that_cannot_run_is_named() -> None:
    """A preset out of bounds is declined when it is registered, with the whole reason, and is never traded."""
    reason = (
        "preset 'mad': strategy 'follow': parameter 'factor' is 7.0, "
        "but must be a number from -1.0 to 1.0 (what the close is multiplied by)"
    )
    history = given(CORE, *WITH_PRESETS).when(PresetRegistered(PILOT, "mad", {"factor": 7.0})).then(
        TradeDeclined(PILOT, BTC, Decline.PARAMETERS_INVALID, 0, Decimal(0), reason)
    )  # fmt: skip
    history = history.when(chosen("d1", "mad")).then_nothing()
    history.when(bar(0, "1")).then(declined(Decline.PARAMETERS_INVALID, 0, "2", reason))


# ---- configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "folow"}, "unknown strategy 'folow'; did you mean 'follow'?"),
        ({"parameters": {"factr": 1}}, "strategy 'follow' has no parameter 'factr'; did you mean 'factor'?"),
    ],
)
def test_an_instance_that_cannot_run_says_so_and_stays_out(changes: dict[str, object], words: str) -> None:
    """A bad configuration on the tape becomes one clear reason; the instance never trades, nothing else is harmed."""
    outcome = given(CORE, RUN, LISTED).when(configured(**changes))

    (said,) = outcome.decisions
    assert isinstance(said, TradeDeclined)
    assert (said.reason, said.detail[: len(words)]) == (Decline.PARAMETERS_INVALID, words)
    outcome.history.when(bar(0, "1")).then_nothing()


def test_a_change_of_configuration_keeps_position_and_orders() -> None:
    """Twice the size: the next bar proposes only what is missing."""
    history = holding_two().when(configured(size=Decimal(4))).then_nothing()
    history.when(bar(1, "1")).then(proposed("pilot-8", Side.BUY, "2", 1, "4"))


def test_an_instrument_taken_away_is_no_longer_followed_but_still_flattened() -> None:
    """Unbound from BTC, the instance ignores its bars; its position there is closed by a flatten."""
    history = holding_two().when(configured(instruments=(ETH,))).then_nothing()
    history = history.when(bar(1, "0")).then_nothing()
    history.when(FLATTEN).then(flattening("pilot-9", Side.SELL, "2", 0))


def test_every_history_can_be_told_in_one_go() -> None:
    """Learning facts and recorded decisions gives the same state as deciding them."""
    heard: Sequence[Event] = (*FLYING, bar(0, "1"), bar(1, "0"), HALT, bar(2, "1"))
    lived, _ = run(given(CORE), *heard)
    told = given(
        CORE, *FLYING, bar(0, "1"), proposed("pilot-4", Side.BUY, "2", 0, "2"), bar(1, "0"),
        proposed("pilot-5", Side.SELL, "2", 1, "0"), HALT, bar(2, "1"),
        declined(Decline.TRADING_HALTED, 2, "2", "trading is HALTED"),
    )  # fmt: skip

    for state in (lived.state, told.state):
        state.seats[BTC][PILOT].decides_at = 0  # a position, and own facts have positions of their own in one of them
    assert fingerprint(lived.state) == fingerprint(told.state)
