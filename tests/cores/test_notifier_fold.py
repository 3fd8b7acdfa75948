"""Which facts people are told about and in which words: whole messages, for every kind of fact that is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from tapeline_common.events import (
    BooksReconciled,
    CodeDeployed,
    EquityMarked,
    Event,
    FeedInterrupted,
    FeedResumed,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
    LifecycleViolated,
    LimitBreached,
    LiquidationOrdered,
    ModelPromoted,
    ModelRolledBack,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderSubmitted,
    OrderTerms,
    PositionChanged,
    PromotionRefused,
    ResumeRequested,
    RunStarted,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradeClosed,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.values import (
    CancelReason,
    FeedTroubleKind,
    HaltReason,
    InstrumentId,
    Liquidity,
    ModelId,
    OrderId,
    OrderState,
    PositionSide,
    PromotionRefusal,
    Purpose,
    Realm,
    Side,
    StrategyId,
)
from tapeline_common.wire import Heard
from tapeline_notifier import words
from tapeline_notifier.fold import HEARS, State, tell
from tapeline_notifier.message import MOST_TEXT, MOST_TITLE, Kind, Message, Severity, message

BTC = InstrumentId("BTC-USD")
ATLAS = StrategyId("atlas")
ORDER = OrderId("atlas-7")
LISTED = InstrumentListed(BTC, "BTC/USD", "sim", "BTC", "USD")
OAK, ELM = ModelId("0a4" * 20 + "oak0"), ModelId("e12" * 20 + "elm0")
NOW_NS = 1_700_000_000_000_000_000


@dataclass
class Story:
    """Facts one after the other; each is told about when it comes."""

    state: State = field(default_factory=State)
    pos: int = 0
    told: Sequence[Message] = ()

    def on(self, event: Event, cause: int = 0) -> Story:
        self.pos += 1
        self.told = tell(self.state, Heard(self.pos, NOW_NS, "somebody", cause, event))
        return self

    def then(self, *expected: tuple[Kind, Severity, str, str]) -> Story:
        assert self.told == tuple(Message(*one, NOW_NS, self.pos) for one in expected)
        return self

    def then_nothing(self) -> Story:
        return self.then()


def begun() -> Story:
    return Story().on(LISTED).then_nothing()


def submitted(quantity: str = "1", side: Side = Side.BUY, purpose: Purpose = Purpose.SIGNAL) -> OrderSubmitted:
    terms = OrderTerms(ATLAS, BTC, side, Decimal(quantity), purpose=purpose)
    return OrderSubmitted(ORDER, "c1", terms, approval=1, valid_until_ns=NOW_NS)


def filled(quantity: str, price: str, trade: str = "t1", side: Side = Side.BUY, fee: str = "0.5") -> OrderFilled:
    money = Decimal(quantity), Decimal(price), Decimal(fee)
    return OrderFilled(ORDER, "c1", ATLAS, BTC, trade, side, *money, "USD", Liquidity.TAKER, Decimal(0))


POSITION = PositionChanged(ATLAS, BTC, Decimal(1), Decimal(100), Decimal(0), Decimal(0))
MARK = EquityMarked(NOW_NS, Decimal(1), Decimal(1), Decimal(1))
CLOSED = TradeClosed(
    "trade-1", ATLAS, BTC, PositionSide.LONG, Decimal(1), Decimal(100), Decimal("112.5"), 0, NOW_NS, Decimal("12.5"),
    Decimal("1.2"), "", Decimal("-0.3"),
)  # fmt: skip


def booked(story: Story, *trades: TradeClosed) -> Story:
    """The books take the fill that came last."""
    cause = story.pos
    story.on(POSITION, cause)
    for trade in trades:
        story.on(trade, cause).then_nothing()
    return story.on(MARK, cause)


# ---- trades ------------------------------------------------------------------------------------------------------


def test_an_order_is_told_once_when_it_is_over() -> None:
    """Two fills, one message: quantity, average price, the sum of fees, and the position of its last fill."""
    story = begun().on(submitted("1")).then_nothing()
    booked(story.on(filled("0.4", "100")).then_nothing()).then_nothing()
    story.on(filled("0.6", "105", "t2")).then_nothing()
    last = story.pos
    booked(story)
    text = "order atlas-7: 1 of 1 in 2 fills, average 103, fee 1.00 USD"
    expected = Message(Kind.TRADE, Severity.INFO, "Bought 1 BTC/USD at 103 (atlas)", text, NOW_NS, last)
    assert story.told == (expected,)
    assert story.state.orders == story.state.filled_by == story.state.positioned == {}


def test_the_result_of_a_trade_is_told_with_the_order_that_closed_it() -> None:
    """Net of fees and funding in the title, its parts below."""
    story = booked(begun().on(submitted("1", Side.SELL)).on(filled("1", "112.5", side=Side.SELL)), CLOSED)
    (told,) = story.told
    assert told.title == "Sold 1 BTC/USD at 112.50 (atlas): +11.00 USD"
    assert told.text == (
        "order atlas-7: 1 of 1 in 1 fill, average 112.50, fee 0.50 USD\n"
        "closed a long of 1, entered at 100, left at 112.50: net +11.00 USD (gross 12.50, fees 1.20, funding -0.30)"
    )


def test_an_hour_that_ends_with_a_fill_does_not_end_the_waiting() -> None:
    """The mark of the old hour comes before the new position; the trade it closed comes after it."""
    story = begun().on(submitted("1", Side.SELL)).on(filled("1", "112.5", side=Side.SELL))
    cause = story.pos
    story.on(MARK, cause).then_nothing().on(POSITION, cause).on(CLOSED, cause).then_nothing().on(MARK, cause)
    assert [told.title for told in story.told] == ["Sold 1 BTC/USD at 112.50 (atlas): +11.00 USD"]


def test_what_was_filled_of_a_cancelled_order_is_told() -> None:
    """Before the books took the fill or after it: the message comes once, with the reason."""
    cancelled = OrderCanceled(ORDER, "c1", CancelReason.OPERATOR_HALT)
    early = begun().on(submitted("1")).on(filled("0.4", "100"))
    cause = early.pos
    early.on(cancelled).then_nothing().on(POSITION, cause).on(MARK, cause)
    late = booked(begun().on(submitted("1")).on(filled("0.4", "100"))).then_nothing().on(cancelled)
    assert [told.text for told in early.told] == [
        "order atlas-7: 0.4 of 1 in 1 fill, average 100, fee 0.50 USD\nthe rest was cancelled (OPERATOR_HALT)"
    ]
    assert early.told == late.told


def test_an_order_without_a_fill_is_quiet() -> None:
    """Nothing was traded: it is counted in the metrics, and forgotten."""
    story = begun().on(submitted("1")).on(OrderExpired(ORDER, "c1")).then_nothing()
    assert story.state.orders == {}


def test_a_repeated_fill_is_not_told() -> None:
    """Neither while the order is open nor later: the books do not take it."""
    story = begun().on(submitted("1")).on(filled("0.4", "100")).on(filled("0.4", "100")).then_nothing()
    assert story.state.orders[ORDER].filled == Decimal("0.4")
    over = booked(begun().on(submitted("1")).on(filled("1", "100")))
    over.on(filled("1", "100")).then_nothing()


def test_a_fill_behind_the_end_of_its_order_is_told() -> None:
    """The venue was faster than the cancel: money moved, so people hear of it."""
    story = begun().on(submitted("1")).on(OrderCanceled(ORDER, "c1", CancelReason.REQUESTED)).then_nothing()
    booked(story.on(filled("1", "100")))
    assert [told.text for told in story.told] == [
        "order atlas-7: 1 of 1 in 1 fill, average 100, fee 0.50 USD\nafter the order was over"
    ]


def test_a_trade_that_no_known_order_closed_is_told_by_itself() -> None:
    """The same words, of its own."""
    begun().on(CLOSED, cause=77).then(
        (
            Kind.TRADE,
            Severity.INFO,
            "Trade closed in BTC/USD (atlas): +11.00 USD",
            "closed a long of 1, entered at 100, left at 112.50: net +11.00 USD "
            "(gross 12.50, fees 1.20, funding -0.30)",
        )
    )


def test_a_liquidation_wakes_somebody_and_its_fill_is_told() -> None:
    """The venue's own order: a page when it is ordered, a trade when it is filled."""
    terms = OrderTerms(ATLAS, BTC, Side.SELL, Decimal(1), reduce_only=True, purpose=Purpose.LIQUIDATION)
    story = begun().on(LiquidationOrdered(ORDER, "c1", terms, Decimal("8.5"), Decimal(10)))
    story.then(
        (
            Kind.TRADE,
            Severity.PAGE,
            "Liquidation: the venue orders to sell 1 BTC/USD",
            "the account is worth 8.50, its positions need 10.00 (strategy atlas, order atlas-7)",
        )
    )
    booked(story.on(filled("1", "90", side=Side.SELL)))
    assert [told.text for told in story.told] == [
        "order atlas-7: 1 of 1 in 1 fill, average 90, fee 0.50 USD\npurpose liquidation"
    ]


# ---- control, models, feeds --------------------------------------------------------------------------------------

C, M, A = Kind.CONTROL, Kind.MODEL, Kind.ALERT
PAGE, TICKET, INFO = Severity.PAGE, Severity.TICKET, Severity.INFO

TOLD: list[tuple[Event, tuple[Kind, Severity, str, str]]] = [
    (
        RunStarted("paper", "tape-1", Realm.LIVE, 7, "USD", "0.1.0+abc"),
        (C, INFO, "Run paper started", "USD, code 0.1.0+abc"),
    ),
    (CodeDeployed("0.2.0+def"), (C, INFO, "Code 0.2.0+def deployed", "decisions from here on are made by it")),
    (HaltRequested("alice", "odd prices"), (C, INFO, "Halt: asked by alice", "odd prices")),
    (FlattenRequested("alice", ""), (C, INFO, "Flatten: asked by alice", "no reason given")),
    (ResumeRequested("alice", "well", 1, "s"), (C, INFO, "Resume: asked by alice", "well")),
    (
        StrategyDisableRequested(ATLAS, "alice", "losing"),
        (C, INFO, "Disable strategy atlas: asked by alice", "losing"),
    ),
    (
        StrategyEnableRequested(ATLAS, "alice", "mended", 2, "s"),
        (C, INFO, "Enable strategy atlas: asked by alice", "mended"),
    ),
    (
        TradingHalted(HaltReason.OPERATOR, "alice: drill"),
        (C, INFO, "Trading halted: OPERATOR", "alice: drill"),
    ),
    (
        TradingHalted(HaltReason.DAILY_LOSS, "lost 12, the limit is 10"),
        (C, PAGE, "Trading halted: DAILY_LOSS", "lost 12, the limit is 10"),
    ),
    (TradingResumed("alice: well"), (C, INFO, "Trading resumed", "alice: well")),
    (LimitBreached(HaltReason.DRAWDOWN, "12", "10"), (C, PAGE, "Limit breached: DRAWDOWN", "observed 12, limit 10")),
    (
        LifecycleViolated(ORDER, OrderState.FILLED, "OrderAccepted", "twice"),
        (C, PAGE, "Order atlas-7 (FILLED) cannot be followed by OrderAccepted", "twice"),
    ),
    (
        LifecycleViolated(ORDER, None, "OrderFilled", "nobody sent it"),
        (C, PAGE, "Order atlas-7 (not known) cannot be followed by OrderFilled", "nobody sent it"),
    ),
    (
        BooksReconciled("sim", {"USD": Decimal("-3.50"), "BTC": Decimal("0.001")}),
        (C, PAGE, "Books differ from sim", "reported minus books:\nUSD -3.5\nBTC 0.001"),
    ),
    (
        ModelPromoted(OAK, BTC, None, "first model"),
        (M, INFO, "Model 0a40a40a40a4 promoted for BTC/USD", "the first one; first model"),
    ),
    (
        ModelPromoted(OAK, BTC, ELM, "operator: better"),
        (M, INFO, "Model 0a40a40a40a4 promoted for BTC/USD", "replaces e12e12e12e12; operator: better"),
    ),
    (
        ModelRolledBack(OAK, BTC, ELM, "operator: worse"),
        (M, INFO, "Model 0a40a40a40a4 is back for BTC/USD", "instead of e12e12e12e12; operator: worse"),
    ),
    (
        PromotionRefused(OAK, PromotionRefusal.MODEL_UNKNOWN, "never registered"),
        (M, INFO, "Promotion refused: MODEL_UNKNOWN", "0a40a40a40a4: never registered"),
    ),
    (
        FeedInterrupted(BTC, FeedTroubleKind.RATE_LIMITED, "429"),
        (A, TICKET, "Feed of BTC/USD: RATE_LIMITED", "429"),
    ),
    (FeedResumed(BTC, 3), (A, TICKET, "Feed of BTC/USD is back", "3 bars backfilled")),
]


@pytest.mark.parametrize(("event", "expected"), TOLD, ids=lambda one: type(one).__name__)
def test_what_is_told_about_a_fact(event: Event, expected: tuple[Kind, Severity, str, str]) -> None:
    """Kind, severity and every word."""
    begun().on(event).then(expected)


def test_every_type_that_is_heard_is_told_or_learnt_in_a_test() -> None:
    """A row that no test looks at could say anything."""
    learnt = {"InstrumentListed", "OrderSubmitted", "LiquidationOrdered", "OrderFilled", "TradeClosed", "EquityMarked"}
    learnt |= {"PositionChanged", "OrderCanceled", "OrderExpired", "OrderRejected", "OrderWithheld"}
    assert {event.__name__ for event in HEARS} == learnt | {type(event).__name__ for event, _ in TOLD}


def test_books_are_told_when_their_differences_change() -> None:
    """Agreement is quiet, the same differences again are quiet, others are told, and so is their end."""
    story = begun().on(BooksReconciled("sim", {})).then_nothing()
    differing = BooksReconciled("sim", {"USD": Decimal(1)})
    page = (C, PAGE, "Books differ from sim", "reported minus books:\nUSD 1")
    story.on(differing).then(page).on(differing).then_nothing()
    story.on(BooksReconciled("sim", {"USD": Decimal(2)})).then((C, PAGE, page[2], "reported minus books:\nUSD 2"))
    story.on(BooksReconciled("sim", {})).then((C, INFO, "Books agree with sim again", ""))


def test_a_feed_that_stays_interrupted_is_told_once() -> None:
    """Until it is back; missing history is over when it is said, and told each time."""
    trouble = FeedInterrupted(BTC, FeedTroubleKind.INTERRUPTED, "reset")
    first = (A, TICKET, "Feed of BTC/USD: INTERRUPTED", "reset")
    story = begun().on(trouble).then(first).on(trouble).then_nothing()
    story.on(FeedResumed(BTC, 0)).on(trouble).then(first)
    missing = FeedInterrupted(BTC, FeedTroubleKind.HISTORY_MISSING, "an hour")
    told = (A, TICKET, "Feed of BTC/USD: HISTORY_MISSING", "an hour")
    story.on(missing).then(told).on(missing).then(told)


def test_the_same_tape_gives_the_same_messages() -> None:
    """Nothing but the facts decides; an instrument nobody listed has its token for a name."""
    facts = [event for event, _ in TOLD]

    def all_told() -> list[Message]:
        story = Story()
        return [told for event in facts for told in story.on(event).told]

    assert all_told() == all_told()
    assert next(told.title for told in all_told() if "promoted" in told.title).endswith(f"promoted for {BTC}")


# ---- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "price", "money", "quantity"),
    [
        ("59706.17", "59,706.17", "59,706.17", "59,706.17"),
        ("0.0000123456789", "0.000012345679", "0.000012", "0.0000123456789"),
        ("123456789.129", "123,456,789.13", "123,456,789.13", "123,456,789.129"),
        ("1.50", "1.50", "1.50", "1.5"),
        ("100", "100", "100.00", "100"),
        ("-0.004", "-0.004", "-0.004", "-0.004"),
        ("0", "0", "0.00", "0"),
    ],
)
def test_numbers_as_people_read_them(value: str, price: str, money: str, quantity: str) -> None:
    """Prices to eight digits, money to the cent, quantities exactly; small amounts are not called none."""
    amount = Decimal(value)
    assert (words.price(amount), words.money(amount), words.quantity(amount)) == (price, money, quantity)


@drawn(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=12))
def test_a_quantity_is_exact_and_a_price_close(value: Decimal) -> None:
    """What is shown can be read back: a quantity as it was, a price to a part in ten million."""
    assert Decimal(words.quantity(value).replace(",", "")) == value
    shown = Decimal(words.price(value).replace(",", ""))
    assert abs(shown - value) <= abs(value) * Decimal("1e-7")


def test_words_of_others_are_cut_and_cleaned() -> None:
    """A reason may be of any length and hold anything; a message may not."""
    told = message(C, INFO, "a\x1b[31mb\n" * 99, "c\x00\n" * 9_999, time_ns=0)
    assert len(told.title) <= MOST_TITLE
    assert len(told.text) <= MOST_TEXT
    assert "\x1b" not in told.title
    assert "\n" not in told.title
    assert "\x00" not in told.text
    assert told.text.startswith("c \nc \n")
