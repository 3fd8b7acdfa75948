"""Projections: the stored tables are the fold of the tape, always."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.events import (
    AUTHOR_OF,
    CancelSubmitted,
    EquityMarked,
    Event,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderSubmitted,
    OrderTerms,
    PositionChanged,
    TradeClosed,
)
from tapeline_common.money import ZERO
from tapeline_common.sequencer import Recorded, Sequencer
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    Liquidity,
    OrderId,
    PositionSide,
    Realm,
    Refusal,
    Regime,
    Side,
    StrategyId,
)
from tapeline_ledger.projections import NAMES, fold, fold_naive
from tapeline_ledger.rebuild import LedgerRunning, rebuild
from tapeline_ledger.store import Store

EMA, BTC = StrategyId("ema"), InstrumentId("BTC-USDT")
TERMS = OrderTerms(EMA, BTC, Side.BUY, Decimal("2.50"))


def fill(order: str, trade_id: str, quantity: str) -> OrderFilled:
    return OrderFilled(
        OrderId(order),
        f"c-{order}",
        EMA,
        BTC,
        trade_id,
        Side.BUY,
        Decimal(quantity),
        Decimal("100.10"),
        Decimal("0.01"),
        "USDT",
        Liquidity.TAKER,
        Decimal("0"),
    )


def life(order: str) -> list[Event]:
    """An order's way from proposal to half a fill."""
    name = OrderId(order)
    return [
        OrderProposed(name, TERMS, 1, 1, Decimal("2.50"), Regime.BULL),
        OrderApproved(name, TERMS, 99),
        OrderSubmitted(name, f"c-{order}", TERMS, 2, 99),
        OrderAccepted(name, f"c-{order}", f"v-{order}"),
        fill(order, "t1", "1.25"),
    ]


def result_of(quantity: str) -> list[Event]:
    return [
        PositionChanged(EMA, BTC, Decimal(quantity), Decimal("100.10"), Decimal("0"), Decimal("0.01")),
        EquityMarked(5, Decimal("1000"), Decimal("1000.5"), Decimal("250.25")),
        TradeClosed(
            f"trade-{quantity}",
            EMA,
            BTC,
            PositionSide.LONG,
            Decimal(quantity),
            Decimal(100),
            Decimal(101),
            1,
            5,
            Decimal("1.2"),
            Decimal("0.02"),
            "",
        ),
    ]


def record(sequencer: Sequencer, events: Sequence[Event]) -> list[Recorded]:
    return [
        sequencer.record(AUTHOR_OF[type(event)], event, f"id-{sequencer.pos + 1}", 0, 0, sequencer.pos)
        for event in events
    ]


def statuses(events: Sequence[Event]) -> dict[str, str]:
    facts = [recorded.fact for recorded in record(Sequencer(Realm.LIVE), events)]
    return {key: row[12] for key, row in fold_naive(facts)["orders"].items()}


def test_an_order_goes_through_its_life() -> None:
    """Each event moves the status on; a full fill ends it."""
    seen = [statuses(life("a")[:count])["a"] for count in range(1, 6)]
    assert seen == ["PROPOSED", "APPROVED", "SUBMITTED", "WORKING", "PARTLY_FILLED"]
    assert statuses([*life("a"), fill("a", "t2", "1.25")]) == {"a": "FILLED"}


def test_a_fill_after_the_end_is_counted_and_changes_nothing_else() -> None:
    """The venue was faster than our cancel: the fill counts, the order stays canceled unless it is full."""
    canceled = OrderCanceled(OrderId("a"), "c-a", CancelReason.FLATTEN)
    late = [*life("a"), CancelSubmitted(OrderId("a"), "c-a", CancelReason.FLATTEN), canceled, fill("a", "t2", "1")]
    assert statuses(late) == {"a": "CANCELED"}
    assert statuses([*late, fill("a", "t3", "0.25")]) == {"a": "FILLED"}
    assert statuses([*late, OrderAccepted(OrderId("a"), "c-a", "v-a")]) == {"a": "CANCELED"}


def test_an_event_about_an_order_nobody_placed_shows_nothing() -> None:
    """Without terms there is no row to write."""
    refused = OrderRefused(OrderId("z"), EMA, BTC, Refusal.PRICE_STALE, "9", "5")
    assert statuses([refused]) == {}


@settings(max_examples=60, deadline=None)
@given(
    orders=st.lists(st.sampled_from("abcde"), min_size=1, max_size=6, unique=True),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_folding_in_groups_is_folding_one_by_one(orders: list[str], cuts: list[int], order: Any) -> None:
    """However the facts are cut into groups, the rows written last are those of the plain fold."""
    events = [event for name in orders for event in [*life(name), *result_of("1.25"), fill(name, "t2", "1.25")]]
    order.shuffle(events)
    facts = [recorded.fact for recorded in record(Sequencer(Realm.LIVE), events)]
    kept: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    start, turn = 0, 0
    while start < len(facts):
        changes = fold(facts[start : start + cuts[turn % len(cuts)]], kept)
        rows.update({key: (row.status, row.filled, row.last_pos) for key, row in changes.orders.items()})
        start += cuts[turn % len(cuts)]
        turn += 1
    naive = fold_naive(facts)["orders"]
    assert rows == {key: (row[12], row[14], row[20]) for key, row in naive.items()}


async def stored(dsn: str) -> dict[str, dict[Any, Any]]:
    connection = await asyncpg.connect(dsn)
    found = {}
    for name in NAMES:
        rows = [tuple(row) for row in await connection.fetch(f"SELECT * FROM {name}")]
        found[name] = {(row[:2] if name == "positions" else row[0]): row for row in rows}
    await connection.close()
    return found


async def fill_tape(dsn: str) -> list[Recorded]:
    """A tape of three orders with a cold start in between, in groups of four."""
    sequencer = Sequencer(Realm.LIVE)
    events = [*life("a"), *result_of("1.25"), *life("b"), fill("a", "t2", "1.25"), *result_of("2.5"), *life("c")]
    records = record(sequencer, events)
    for half in (records[:12], records[12:]):
        store = await Store.open(dsn)
        for start in range(0, len(half), 4):
            await store.append(half[start : start + 4])
        await store.close()
    return records


@pytest.mark.servers
@pytest.mark.parametrize("kept", [500, 1], ids=["orders at hand", "orders read back"])
@pytest.mark.parametrize("most", [0, 100], ids=["by COPY", "in one statement"])
async def test_the_stored_tables_are_the_fold_of_the_tape(
    database: Any, monkeypatch: pytest.MonkeyPatch, most: int, kept: int
) -> None:
    """Written group by group, either way, and across a restart, the tables equal the plain fold; so does a rebuild."""
    monkeypatch.setattr("tapeline_ledger.store.MOST_FACTS_PER_STATEMENT", most)
    monkeypatch.setattr("tapeline_ledger.tables.KEPT_ORDERS", kept)
    records = await fill_tape(database.ledger)
    assert await stored(database.reader) == fold_naive([recorded.fact for recorded in records])
    connection = await asyncpg.connect(database.reader)
    offsets = await connection.fetch("SELECT DISTINCT pos FROM projection_offset")
    await connection.close()
    assert [row["pos"] for row in offsets] == [len(records)]
    result = await rebuild(database.ledger)
    assert (result.facts, result.differences, result.replaced) == (len(records), (), False)
    assert result.rows == {"orders": 3, "fills": 4, "positions": 1, "trades": 2, "equity": 2}


@pytest.mark.servers
async def test_rebuild_reports_what_differs_and_repairs_it(database: Any) -> None:
    """A row changed, one lost and one invented are all found; with ``replace`` the fold takes their place."""
    records = await fill_tape(database.ledger)
    connection = await asyncpg.connect(database.ledger)
    await connection.execute("UPDATE orders SET filled = filled + 1 WHERE order_id = 'a'")
    await connection.execute("DELETE FROM fills WHERE pos = 5")
    await connection.execute("INSERT INTO equity VALUES (999, 1, 1, 1, 1)")
    result = await rebuild(database.ledger)
    found = {difference.table: (difference.stored, difference.refolded) for difference in result.differences}
    assert found == {"orders": (1, 1), "fills": (0, 1), "equity": (1, 0)}
    assert (await rebuild(database.ledger, replace=True)).replaced
    assert (await rebuild(database.ledger)).differences == ()
    assert await stored(database.reader) == fold_naive([recorded.fact for recorded in records])
    await connection.close()


@pytest.mark.servers
async def test_replacing_needs_the_ledger_to_be_down(database: Any) -> None:
    """Two writers of one table would undo each other; comparing is always possible."""
    await fill_tape(database.ledger)
    store = await Store.open(database.ledger)
    with pytest.raises(LedgerRunning, match="stop it"):
        await rebuild(database.ledger, replace=True)
    assert (await rebuild(database.ledger)).differences == ()
    await store.close()


@pytest.mark.servers
async def test_a_group_rolled_back_leaves_no_row_behind_in_memory(database: Any) -> None:
    """Order rows kept at hand are dropped with the transaction they belong to."""
    store = await Store.open(database.ledger)
    sequencer = Sequencer(Realm.LIVE)
    await store.append(record(sequencer, life("a")[:4]))
    spoilt = record(sequencer, [fill("a", "t1", "1.25"), EquityMarked(2**70, Decimal(1), Decimal(1), Decimal(1))])
    with pytest.raises(Exception, match="int64"):
        await store.append(spoilt)
    sequencer = await store.load(Realm.LIVE)
    await store.append(record(sequencer, [fill("a", "t1", "1.25")]))
    await store.close()
    assert (await stored(database.reader))["orders"]["a"][14] == Decimal("1.25")
    assert (await rebuild(database.ledger)).differences == ()


ODD_NUMBERS = ("1E+3", "0E-8", "-0.00", "-12345678901234567890", f"0.{'0' * 39}1", f"{'9' * 40}.{'9' * 40}")


@pytest.mark.servers
@pytest.mark.parametrize("most", [0, 100], ids=["by COPY", "in one statement"])
@pytest.mark.parametrize("size", [1, len(ODD_NUMBERS)], ids=["one by one", "together"])
async def test_numbers_are_stored_to_the_last_digit(
    database: Any, monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    """As text or as digits, alone or in a column: what a fact says is what its table says."""
    monkeypatch.setattr("tapeline_ledger.store.MOST_FACTS_PER_STATEMENT", most)
    numbers = [Decimal(text) for text in ODD_NUMBERS]
    records = record(Sequencer(Realm.LIVE), [EquityMarked(1, number, number.copy_negate(), ZERO) for number in numbers])
    store = await Store.open(database.ledger)
    for start in range(0, len(records), size):
        await store.append(records[start : start + size])
    await store.close()
    rows = (await stored(database.reader))["equity"].values()
    assert [(row[2], row[3]) for row in sorted(rows)] == [(number, number.copy_negate()) for number in numbers]
