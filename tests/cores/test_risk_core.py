"""The risk core: one decision for every order, reservations that hold what is open, and halts that stay."""

from decimal import Decimal

import pytest

from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BooksReconciled,
    BorrowPosted,
    Event,
    FlattenRequested,
    FundingPosted,
    HaltRequested,
    InstrumentListed,
    LifecycleViolated,
    LimitBreached,
    LimitsSet,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
    ResumeRequested,
    RunStarted,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.testing import SECOND_NS, History, at, given
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    HaltReason,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderState,
    Purpose,
    Realm,
    Refusal,
    Regime,
    Rejection,
    Side,
    StrategyId,
    Withheld,
)
from tapeline_risk.core import CORE, State

BTC = InstrumentId("BTC")
ETH = InstrumentId("ETH")
PILOT = StrategyId("pilot")
DAY = 86_400

RUN = RunStarted("run", "tape", Realm.REPLAY, 1, "USD", "test")
FUNDED = AccountFunded("main", "USD", Decimal(10_000))
BTC_LISTED = InstrumentListed(BTC, "BTC/USD", "simulated", "BTC", "USD")
ETH_LISTED = InstrumentListed(ETH, "ETH/USD", "simulated", "ETH", "USD")
UNLIMITED = LimitsSet()
THREE_AT_MOST = LimitsSet(max_position=Decimal(3))
LOSE_A_HUNDRED = LimitsSet(max_daily_loss=Decimal(100))


def bar(close: str, instrument: InstrumentId = BTC) -> BarClosed:
    text = DecimalText(close)
    return BarClosed(instrument, "1m", 0, 1, text, text, text, text, DecimalText("1"))


def account(limits: LimitsSet) -> tuple[Event, ...]:
    """A funded, running account with a last price of 100 for both instruments."""
    return (RUN, FUNDED, BTC_LISTED, ETH_LISTED, limits, bar("100"), bar("100", ETH))


def terms(
    side: Side, quantity: str, instrument: InstrumentId = BTC, *, flatten: bool = False, strategy: StrategyId = PILOT
) -> OrderTerms:
    purpose = Purpose.FLATTEN if flatten else Purpose.SIGNAL
    return OrderTerms(strategy, instrument, side, Decimal(quantity), reduce_only=flatten, purpose=purpose)


def proposed(order: str, wanted: OrderTerms, decided: int = 0) -> OrderProposed:
    return OrderProposed(OrderId(order), wanted, decided * SECOND_NS, 0, Decimal(0), Regime.UNKNOWN)


def approved(order: str, wanted: OrderTerms, valid_until: int = 60) -> OrderApproved:
    return OrderApproved(OrderId(order), wanted, valid_until * SECOND_NS)


def refused(order: str, reason: Refusal, observed: str, limit: str, instrument: InstrumentId = BTC) -> OrderRefused:
    return OrderRefused(OrderId(order), PILOT, instrument, reason, observed, limit)


def filled(
    order: str, side: Side, quantity: str, price: str = "100", *, fee: str = "0", fee_currency: str = "USD",
    instrument: InstrumentId = BTC,
) -> OrderFilled:  # fmt: skip
    return OrderFilled(
        OrderId(order), "c", PILOT, instrument, f"t-{order}-{quantity}", side, Decimal(quantity), Decimal(price),
        Decimal(fee), fee_currency, Liquidity.TAKER, Decimal(0),
    )  # fmt: skip


BUY_TWO = terms(Side.BUY, "2")
SELL_TWO = terms(Side.SELL, "2")


def long_two(limits: LimitsSet) -> History[State]:
    return given(CORE, *account(limits), approved("entry", BUY_TWO), filled("entry", Side.BUY, "2"))


# ---- one decision for each order ---------------------------------------------------------------------------------


def test_an_order_within_the_limits_is_approved_as_it_is() -> None:
    """The terms are carried unchanged and the approval is valid for approval_valid_ms from now."""
    limits = LimitsSet(approval_valid_ms=5_000)
    history = given(CORE, at(7), *account(limits))

    history.when(proposed("a", BUY_TWO, 7)).then(approved("a", BUY_TWO, valid_until=12))


def test_an_order_beyond_a_limit_is_refused_with_the_numbers() -> None:
    """Exactly one fact: the refusal, with what was observed and what is allowed."""
    given(CORE, *account(THREE_AT_MOST)).when(proposed("a", terms(Side.BUY, "4"))).then(
        refused("a", Refusal.MAX_POSITION, "4", "3"),
    )


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ((), Refusal.TRADING_HALTED),
        ((RUN,), Refusal.LIMITS_MISSING),
        ((RUN, UNLIMITED), Refusal.INSTRUMENT_UNKNOWN),
        ((RUN, UNLIMITED, BTC_LISTED), Refusal.PRICE_MISSING),
    ],
)
def test_what_was_never_said_is_not_assumed(history: tuple[Event, ...], reason: Refusal) -> None:
    """No run, no limits, no listing, no price: each refuses."""
    (said,) = given(CORE, *history).when(proposed("a", BUY_TWO)).decisions

    assert isinstance(said, OrderRefused)
    assert said.reason is reason


def test_an_order_id_is_decided_once() -> None:
    """A second proposal under a decided id is refused, and the first approval's reservation stands."""
    again = refused("a", Refusal.ORDER_ALREADY_DECIDED, "decided", "one decision")
    history = given(CORE, *account(THREE_AT_MOST)).when(proposed("a", BUY_TWO)).then(approved("a", BUY_TWO))

    history = history.when(proposed("a", BUY_TWO)).then(again)
    history = history.when(proposed("b", BUY_TWO)).then(refused("b", Refusal.MAX_POSITION, "4", "3"))
    history.when(proposed("b", BUY_TWO)).then(
        refused("b", Refusal.ORDER_ALREADY_DECIDED, "decided", "one decision"),
    )


def test_a_disabled_strategy_is_refused_until_it_is_enabled() -> None:
    """Its signals are refused, others' are not; its flattening passes; enabling ends it."""
    history = long_two(UNLIMITED).when(StrategyDisableRequested(PILOT, "operator", "review")).then_nothing()
    history = history.when(proposed("a", SELL_TWO)).then(
        refused("a", Refusal.STRATEGY_DISABLED, "disabled", "enabled"),
    )
    other = terms(Side.BUY, "1", strategy=StrategyId("wing"))
    history = history.when(proposed("b", other)).then(approved("b", other))
    out = terms(Side.SELL, "2", flatten=True)
    history = history.when(proposed("c", out)).then(approved("c", out))
    history = history.when(StrategyEnableRequested(PILOT, "operator", "fine", 1, "s")).then_nothing()
    history.when(proposed("d", BUY_TWO)).then(approved("d", BUY_TWO))


# ---- reservations ------------------------------------------------------------------------------------------------


def test_an_approved_order_is_reserved_in_full() -> None:
    """Before any fill, a second order is judged as if the first had filled."""
    history = given(CORE, *account(THREE_AT_MOST), approved("a", BUY_TWO))

    history.when(proposed("b", BUY_TWO)).then(refused("b", Refusal.MAX_POSITION, "4", "3"))
    history.when(proposed("c", terms(Side.BUY, "1"))).then(approved("c", terms(Side.BUY, "1")))


def test_both_sides_are_reserved_apart() -> None:
    """An open buy leaves no room on the sell side: it may be the sell that fills."""
    history = given(CORE, *account(THREE_AT_MOST), approved("a", BUY_TWO))

    history.when(proposed("b", terms(Side.SELL, "4"))).then(refused("b", Refusal.MAX_POSITION, "4", "3"))


@pytest.mark.parametrize(
    "end",
    [
        OrderWithheld(OrderId("a"), "c", Withheld.APPROVAL_EXPIRED),
        OrderRejected(OrderId("a"), "c", Rejection.BELOW_MIN_NOTIONAL, ""),
        OrderCanceled(OrderId("a"), "c", CancelReason.REQUESTED),
        OrderExpired(OrderId("a"), "c"),
    ],
    ids=["withheld", "rejected", "canceled", "expired"],
)
def test_an_order_that_is_over_frees_what_was_open_once(end: Event) -> None:
    """A part fill stays held, the rest is free; the same end told twice frees nothing more."""
    history = given(CORE, *account(THREE_AT_MOST), approved("a", BUY_TWO), filled("a", Side.BUY, "0.5"), end, end)

    fits, too_much = terms(Side.BUY, "2.5"), terms(Side.BUY, "2.6")
    history.when(proposed("b", too_much)).then(refused("b", Refusal.MAX_POSITION, "3.1", "3"))
    history.when(proposed("c", fits)).then(approved("c", fits))


def test_a_fill_after_the_end_of_an_order_counts() -> None:
    """The venue was faster than the cancel: the position is there although nothing was reserved any more."""
    history = given(
        CORE, *account(THREE_AT_MOST), approved("a", BUY_TWO),
        OrderCanceled(OrderId("a"), "c", CancelReason.REQUESTED), filled("a", Side.BUY, "2"),
    )  # fmt: skip
    history.when(proposed("b", BUY_TWO)).then(refused("b", Refusal.MAX_POSITION, "4", "3"))


def test_a_fill_beyond_the_order_frees_no_more_than_was_reserved() -> None:
    """The venue filled 2.5 of 2: the position is 2.5 and the reservation is gone, not negative."""
    history = given(CORE, *account(THREE_AT_MOST), approved("a", BUY_TWO), filled("a", Side.BUY, "2.5"))

    book = history.state.books[BTC]
    assert (book.position, book.buys, book.sells) == (Decimal("2.5"), Decimal(0), Decimal(0))
    assert history.state.reserved == {}


def test_gross_exposure_counts_every_instrument_and_open_order() -> None:
    """A position in one and an open order in the other leave what is left."""
    history = given(
        CORE, *account(LimitsSet(max_gross_exposure=Decimal(500))), approved("a", BUY_TWO),
        filled("a", Side.BUY, "2"), approved("b", terms(Side.SELL, "2", ETH)), bar("110"),
    )  # fmt: skip

    history.when(proposed("c", terms(Side.BUY, "1"))).then(refused("c", Refusal.MAX_GROSS_EXPOSURE, "530", "500"))
    half = terms(Side.BUY, "0.5")
    history.when(proposed("d", half)).then(approved("d", half))


def test_open_positions_count_reserved_instruments() -> None:
    """An open order takes the place of the position it will become."""
    history = given(CORE, *account(LimitsSet(max_open_positions=1)), approved("a", BUY_TWO))
    one_eth = terms(Side.BUY, "1", ETH)

    history.when(proposed("b", one_eth)).then(refused("b", Refusal.MAX_OPEN_POSITIONS, "2", "1", ETH))
    history = history.when(proposed("c", BUY_TWO)).then(approved("c", BUY_TWO))
    history = history.when(OrderExpired(OrderId("a"), "c")).then_nothing()
    history = history.when(OrderExpired(OrderId("c"), "c")).then_nothing()
    history.when(proposed("d", one_eth)).then(approved("d", one_eth))


def test_prices_and_decisions_grow_old() -> None:
    """Both ages are measured against the clock of the fact at hand."""
    history = given(CORE, *account(LimitsSet(max_price_age_ms=2000, max_input_age_ms=1000)))

    history.when(proposed("a", BUY_TWO, decided=0), seconds=2).then(
        refused("a", Refusal.INPUT_STALE, "2000 ms", "1000 ms"),
    )
    history.when(proposed("b", BUY_TWO, decided=3), seconds=3).then(
        refused("b", Refusal.PRICE_STALE, "3000 ms", "2000 ms"),
    )
    history.when(proposed("c", BUY_TWO, decided=1), seconds=2).then(approved("c", BUY_TWO, 62))


# ---- halting -----------------------------------------------------------------------------------------------------

HALT = HaltRequested("operator", "lunch")
HALTED = TradingHalted(HaltReason.OPERATOR, "operator: lunch")
RESUME = ResumeRequested("operator", "back", 1, "signature")
RESUMED = TradingResumed("operator: back")
FLATTEN = FlattenRequested("operator", "storm")
LOST = TradingHalted(HaltReason.DAILY_LOSS, "lost 100 since 00:00 UTC, the limit is 100")
BREACHED = LimitBreached(HaltReason.DAILY_LOSS, "100", "100")


def test_a_requested_halt_stops_approvals_until_resumed() -> None:
    """Halt, refuse, resume, approve."""
    history = given(CORE, *account(UNLIMITED)).when(HALT).then(HALTED)
    history = history.when(proposed("a", BUY_TWO)).then(refused("a", Refusal.TRADING_HALTED, "HALTED", "RUNNING"))
    history = history.when(RESUME).then(RESUMED)
    history.when(proposed("b", BUY_TWO)).then(approved("b", BUY_TWO))


def test_flattening_approves_only_what_flattens() -> None:
    """Signals are refused, even exits; the flattening order passes."""
    history = long_two(UNLIMITED).when(FLATTEN).then_nothing()

    history = history.when(proposed("a", SELL_TWO)).then(refused("a", Refusal.TRADING_HALTED, "FLATTENING", "RUNNING"))
    out = terms(Side.SELL, "2", flatten=True)
    history = history.when(proposed("b", out)).then(approved("b", out))
    history.when(proposed("c", out)).then(refused("c", Refusal.REDUCE_ONLY_WOULD_INCREASE, "2", "0"))


def test_books_that_differ_halt_once() -> None:
    """Differences halt; agreement does not; the same trouble is not said again while it holds."""
    differs = BooksReconciled("simulated", {"USD": Decimal("0.10"), "BTC": Decimal(-1)})
    history = given(CORE, *account(UNLIMITED)).when(BooksReconciled("simulated", {})).then_nothing()

    history = history.when(differs).then(TradingHalted(HaltReason.BOOKS_MISMATCH, "simulated: USD 0.1, BTC -1"))
    history = history.when(differs).then_nothing()
    history = history.when(RESUME).then(RESUMED)
    history.when(differs).then(TradingHalted(HaltReason.BOOKS_MISMATCH, "simulated: USD 0.1, BTC -1"))


def test_an_impossible_order_halts_once() -> None:
    """A violated lifecycle halts, and is added to a halt of another reason."""
    violated = LifecycleViolated(OrderId("a"), OrderState.FILLED, "OrderAccepted", "")
    said = TradingHalted(HaltReason.LIFECYCLE_VIOLATED, "a: OrderAccepted in FILLED")

    given(CORE, *account(UNLIMITED)).when(violated).then(said).when(violated).then_nothing()
    given(CORE, *account(UNLIMITED), HALT, HALTED).when(violated).then(said)


# ---- the daily loss ----------------------------------------------------------------------------------------------


def test_a_bar_that_takes_the_day_to_its_limit_halts_once() -> None:
    """A loss of exactly the limit halts; one cent less does not; further losses add nothing."""
    history = long_two(LOSE_A_HUNDRED).when(bar("50.005")).then_nothing()
    history = history.when(bar("50")).then(BREACHED, LOST)
    history.when(bar("40")).then_nothing()


def test_a_fill_that_takes_the_day_to_its_limit_halts() -> None:
    """Price paid above the last price, and the fee, are losses at once."""
    bought = (*account(LOSE_A_HUNDRED), approved("a", BUY_TWO))

    given(CORE, *bought).when(filled("a", Side.BUY, "2", price="140", fee="20")).then(BREACHED, LOST)
    given(CORE, *bought).when(filled("a", Side.BUY, "2", price="140", fee="19.99")).then_nothing()


def test_fees_in_base_currency_and_funding_are_losses() -> None:
    """A fee of 0.5 BTC at 100 and funding paid add up; a fee in a third currency is not counted."""
    history = given(
        CORE, *account(LOSE_A_HUNDRED), filled("a", Side.BUY, "2", fee="0.5", fee_currency="BTC"),
        filled("b", Side.BUY, "2", fee="9", fee_currency="BNB"),
    )  # fmt: skip
    history = history.when(FundingPosted(PILOT, BTC, Decimal(-49), "USD")).then_nothing()
    history = history.when(FundingPosted(PILOT, BTC, Decimal(-999), "EUR")).then_nothing()
    history.when(FundingPosted(PILOT, BTC, Decimal(-1), "USD")).then(BREACHED, LOST)


def test_what_borrowing_cost_is_a_loss() -> None:
    """As funding is."""
    history = given(CORE, *account(LOSE_A_HUNDRED)).when(BorrowPosted(PILOT, BTC, Decimal(-99), "USD")).then_nothing()
    history.when(BorrowPosted(PILOT, BTC, Decimal(-1), "USD")).then(BREACHED, LOST)


def test_without_a_position_a_falling_price_loses_nothing() -> None:
    """No position, no loss, no word."""
    given(CORE, *account(LOSE_A_HUNDRED)).when(bar("1")).then_nothing()


def test_a_short_loses_when_prices_rise() -> None:
    """Marked to market with its sign."""
    given(CORE, *account(LOSE_A_HUNDRED), filled("a", Side.SELL, "2")).when(bar("150")).then(BREACHED, LOST)


def test_the_loss_counts_from_the_first_fact_of_the_utc_day() -> None:
    """Yesterday's loss is yesterday's; today's is measured from what the account was worth at midnight."""
    history = long_two(LOSE_A_HUNDRED).when(bar("60"), seconds=DAY - 1).then_nothing()
    history = history.when(bar("20"), seconds=DAY).then_nothing()
    history.when(bar("10"), seconds=DAY + 1).then(BREACHED, LOST)


def test_a_withdrawal_is_no_loss() -> None:
    """The day's reference moves with deposits and withdrawals."""
    history = long_two(LOSE_A_HUNDRED).when(AccountFunded("main", "USD", Decimal(-5000))).then_nothing()
    history = history.when(bar("51")).then_nothing()
    history.when(bar("50")).then(BREACHED, LOST)


def test_a_standing_loss_is_not_resumed_from_on_the_same_day() -> None:
    """Resuming is answered with the halt again until the day is over."""
    history = long_two(LOSE_A_HUNDRED).when(bar("50")).then(BREACHED, LOST)
    history = history.when(RESUME, seconds=DAY - 1).then(LOST)
    history = history.when(proposed("a", SELL_TWO, DAY - 1)).then(
        refused("a", Refusal.TRADING_HALTED, "HALTED", "RUNNING"),
    )
    history.when(RESUME, seconds=DAY).then(RESUMED)


def test_each_day_has_its_own_breach() -> None:
    """Still halted and still holding the next day, another loss of the limit is said again."""
    history = long_two(LOSE_A_HUNDRED).when(bar("50")).then(BREACHED, LOST)
    history = history.when(bar("50"), seconds=DAY).then_nothing()
    history.when(bar("0.0"), seconds=DAY + 1).then(BREACHED, LOST)


def test_a_higher_limit_lets_trading_resume() -> None:
    """Once the operator allows the loss, it no longer stands in the way."""
    history = long_two(LOSE_A_HUNDRED).when(bar("50")).then(BREACHED, LOST)
    history = history.when(LimitsSet(max_daily_loss=Decimal(101))).then_nothing()
    history.when(RESUME).then(RESUMED)


def test_after_a_resumption_the_loss_is_watched_again() -> None:
    """A limit raised and reached again halts again."""
    history = long_two(LOSE_A_HUNDRED).when(bar("50")).then(BREACHED, LOST)
    history = history.when(LimitsSet(max_daily_loss=Decimal(120))).then_nothing()
    history = history.when(RESUME).then(RESUMED)
    history.when(bar("40")).then(
        LimitBreached(HaltReason.DAILY_LOSS, "120", "120"),
        TradingHalted(HaltReason.DAILY_LOSS, "lost 120 since 00:00 UTC, the limit is 120"),
    )


def test_a_lowered_limit_halts_at_once() -> None:
    """A loss that was allowed until now is judged when the limit is set."""
    long_two(UNLIMITED).when(bar("50")).then_nothing().when(LOSE_A_HUNDRED).then(BREACHED, LOST)


def test_a_loss_while_flattening_does_not_stop_the_flattening() -> None:
    """The breach is said, the halt is not; the flattening order still passes; resuming is refused."""
    history = long_two(LOSE_A_HUNDRED).when(FLATTEN).then_nothing()
    history = history.when(bar("50")).then(BREACHED)
    out = terms(Side.SELL, "2", flatten=True)
    history = history.when(proposed("a", out)).then(approved("a", out))
    history.when(RESUME).then(LOST)


# ---- the drawdown ------------------------------------------------------------------------------------------------

FALL_A_HUNDRED = LimitsSet(max_drawdown=Decimal(100))
FALLEN = TradingHalted(HaltReason.DRAWDOWN, "lost 100 from the highest equity, the limit is 100")
FALL_BREACHED = LimitBreached(HaltReason.DRAWDOWN, "100", "100")


def test_a_fall_from_the_highest_equity_to_the_limit_halts_once() -> None:
    """Measured from the best price while held, over midnight too; a cent less is quiet, further losses add nothing."""
    history = long_two(FALL_A_HUNDRED).when(bar("130")).then_nothing()
    history = history.when(bar("80.005"), seconds=DAY + 1).then_nothing()
    history = history.when(bar("80"), seconds=DAY + 2).then(FALL_BREACHED, FALLEN)
    history = history.when(bar("70"), seconds=DAY + 3).then_nothing()
    history.when(bar("60"), seconds=3 * DAY).then_nothing()


def test_a_fill_that_takes_equity_down_to_the_limit_halts() -> None:
    """Fees and a bad price fall from the highest equity at once."""
    bought = (*account(FALL_A_HUNDRED), approved("a", BUY_TWO))

    given(CORE, *bought).when(filled("a", Side.BUY, "2", price="140", fee="20")).then(FALL_BREACHED, FALLEN)
    given(CORE, *bought).when(filled("a", Side.BUY, "2", price="140", fee="19.99")).then_nothing()


def test_money_paid_in_or_out_is_no_drawdown() -> None:
    """The highest equity moves with deposits and withdrawals."""
    history = long_two(FALL_A_HUNDRED).when(AccountFunded("main", "USD", Decimal(-5000))).then_nothing()
    history = history.when(bar("50.01")).then_nothing()
    history.when(bar("50")).then(FALL_BREACHED, FALLEN)


def test_a_standing_drawdown_is_not_resumed_from() -> None:
    """Not on the same day and not later: a higher limit, or equity that has come back, must come first."""
    history = long_two(FALL_A_HUNDRED).when(bar("50")).then(FALL_BREACHED, FALLEN)
    history = history.when(RESUME, seconds=5 * DAY).then(FALLEN)
    history.when(bar("51"), seconds=5 * DAY).then_nothing().when(RESUME, seconds=5 * DAY).then(RESUMED)
    history.when(LimitsSet(max_drawdown=Decimal(101))).then_nothing().when(RESUME, seconds=5 * DAY).then(RESUMED)


def test_two_losses_at_their_limits_are_both_said() -> None:
    """The day's loss first, then the drawdown, each with its halt."""
    both = LimitsSet(max_daily_loss=Decimal(100), max_drawdown=Decimal(100))
    long_two(both).when(bar("50")).then(BREACHED, LOST, FALL_BREACHED, FALLEN)


# ---- the cool-down -----------------------------------------------------------------------------------------------

COOL_TEN_SECONDS = LimitsSet(cool_down_ms=10_000)
TOO_SOON = refused("b", Refusal.COOL_DOWN, "4000 ms", "10000 ms")


def test_after_an_exit_no_position_is_opened_for_so_long() -> None:
    """Refused until the time has passed since the fill that closed, approved from exactly then on."""
    history = long_two(COOL_TEN_SECONDS).when(filled("out", Side.SELL, "2"), seconds=100).then_nothing()
    history = history.when(proposed("b", BUY_TWO, 104), seconds=104).then(TOO_SOON)
    history.when(proposed("c", BUY_TWO, 110), seconds=110).then(approved("c", BUY_TWO, valid_until=170))


def test_reducing_a_position_starts_no_cool_down() -> None:
    """Half an exit is none; what is left may be added to."""
    history = long_two(COOL_TEN_SECONDS).when(filled("out", Side.SELL, "1"), seconds=100).then_nothing()
    history.when(proposed("b", BUY_TWO, 104), seconds=104).then(approved("b", BUY_TWO, valid_until=164))


def test_another_strategy_or_instrument_is_not_cooled_down() -> None:
    """The exit is the strategy's own, in that instrument."""
    history = long_two(COOL_TEN_SECONDS).when(filled("out", Side.SELL, "2"), seconds=100).then_nothing()
    elsewhere, other = terms(Side.BUY, "2", ETH), terms(Side.BUY, "2", strategy=StrategyId("other"))
    history = history.when(proposed("a", elsewhere, 104), seconds=104).then(approved("a", elsewhere, valid_until=164))
    history.when(proposed("b", other, 104), seconds=104).then(approved("b", other, valid_until=164))


def test_a_turn_through_zero_is_an_exit_and_is_not_held_back() -> None:
    """The order that turns passes; once the turned position is closed, opening waits from that close on."""
    history = long_two(COOL_TEN_SECONDS).when(filled("turn", Side.SELL, "4"), seconds=100).then_nothing()
    history = history.when(proposed("a", BUY_TWO, 101), seconds=101).then(approved("a", BUY_TWO, valid_until=161))
    history = history.when(filled("a", Side.BUY, "2"), seconds=102).then_nothing()
    history.when(proposed("b", BUY_TWO, 106), seconds=106).then(TOO_SOON)
