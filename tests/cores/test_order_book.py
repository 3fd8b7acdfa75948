"""The order book: for each fault it acts, it stays quiet at the boundary, and it equals a naive twin."""

from __future__ import annotations

import inspect
import types
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_marketdata import order_book
from tapeline_marketdata.order_book import (
    Applied,
    BookFault,
    Diff,
    Held,
    Level,
    Old,
    OrderBook,
    Outcome,
    Refused,
    Snapshot,
    kraken_checksum,
)

MORNING = Snapshot(
    bids=[("99.5", "2"), ("99.0", "5"), ("98.5", "1")], asks=[("100.5", "3"), ("101.0", "4")], sequence=10
)


def level(price: str, size: str) -> Level:
    return Decimal(price), Decimal(size)


def opened(**options: Any) -> OrderBook:
    book = OrderBook(**options)
    assert book.take(MORNING) == Applied(0)
    return book


def fault_of(outcome: Outcome) -> BookFault | None:
    return outcome.fault if isinstance(outcome, Refused | Held) else None


def test_a_snapshot_is_the_book() -> None:
    """Levels come sorted from the best on, with the text's digits, and the best ones are the ends."""
    book = opened()
    assert book.bid_levels() == [level("99.5", "2"), level("99.0", "5"), level("98.5", "1")]
    assert book.ask_levels() == [level("100.5", "3"), level("101.0", "4")]
    assert (book.best_bid, book.best_ask, book.sequence) == (level("99.5", "2"), level("100.5", "3"), 10)
    assert (book.bid_levels(1), book.ask_levels(1)) == ([level("99.5", "2")], [level("100.5", "3")])
    assert [str(price) for price, _ in book.bid_levels()] == ["99.5", "99.0", "98.5"]


def test_a_diff_sets_adds_and_removes_levels() -> None:
    """A size replaces what rests at its price, a new price finds its place, 0 removes, absent levels stay."""
    book = opened()
    outcome = book.take(
        Diff(bids=[("99.5", "0"), ("98.75", "7")], asks=[("100.5", "1.5"), ("100.1", "2")], after=10, sequence=14)
    )
    assert outcome == Applied(1)
    assert book.bid_levels() == [level("99.0", "5"), level("98.75", "7"), level("98.5", "1")]
    assert book.ask_levels() == [level("100.1", "2"), level("100.5", "1.5"), level("101.0", "4")]
    assert book.sequence == 14


def test_a_level_is_its_value_not_its_text() -> None:
    """Exchanges print one price in several ways: 99.50 and 99.5 are the same level."""
    book = opened()
    book.take(Diff(bids=[("99.50", "0.00")], asks=[], after=10, sequence=11))
    assert book.best_bid == level("99", "5")


def test_removing_what_is_not_there_changes_nothing() -> None:
    """Snapshots are cut off somewhere, so exchanges remove levels that the book never had."""
    book = opened()
    assert book.take(Diff(bids=[("50", "0")], asks=[("200", "0")], after=10, sequence=11)) == Applied(1)
    assert book.bid_levels() == opened().bid_levels()


def test_one_message_may_pass_through_a_crossed_book() -> None:
    """Only the book after a whole message is judged: the order of levels within it means nothing."""
    book = opened()
    diff = Diff(bids=[("100.7", "1")], asks=[("100.5", "0"), ("101.0", "2")], after=10, sequence=11)
    assert book.take(diff) == Applied(1)
    assert (book.best_bid, book.best_ask) == (level("100.7", "1"), level("101.0", "2"))


FAULTS = [
    (BookFault.SEQUENCE_GAP, Diff([("99", "1")], [], 11, 12)),
    (BookFault.CROSSED, Diff([("100.5", "1")], [], 10, 11)),
    (BookFault.CROSSED, Diff([], [("99.4", "1")], 10, 11)),
    (BookFault.NEGATIVE_SIZE, Diff([("99", "-0.001")], [], 10, 11)),
    (BookFault.NON_POSITIVE_PRICE, Diff([("0", "1")], [], 10, 11)),
    (BookFault.NON_POSITIVE_PRICE, Diff([], [("-1", "1")], 10, 11)),
    (BookFault.NOT_A_NUMBER, Diff([("nine", "1")], [], 10, 11)),
    (BookFault.NOT_A_NUMBER, Diff([("NaN", "1")], [], 10, 11)),
    (BookFault.NOT_A_NUMBER, Diff([], [("101", "Infinity")], 10, 11)),
    (BookFault.NOT_A_NUMBER, Diff([], [("101", "")], 10, 11)),
]


@pytest.mark.parametrize(("fault", "diff"), FAULTS, ids=lambda value: str(value)[:60])
def test_a_book_that_may_be_wrong_is_empty_until_the_next_snapshot(fault: BookFault, diff: Diff) -> None:
    """Each fault is named, empties the book, holds what follows, and the next snapshot is a book again."""
    book = opened()
    assert fault_of(book.take(diff)) is fault
    assert (book.best_bid, book.best_ask, book.sequence, book.ready) == (None, None, None, False)
    assert fault_of(book.take(Diff([], [], 12, 13))) is BookFault.UPDATE_BEFORE_SNAPSHOT
    assert isinstance(book.take(Snapshot([("99", "1")], [("100", "1")], 13)), Applied)
    assert (book.best_bid, book.best_ask) == (level("99", "1"), level("100", "1"))


QUIET = [
    Diff([("99.6", "1")], [], 10, 11),
    Diff([("100.4", "1")], [], 10, 11),
    Diff([("99", "0")], [], 10, 11),
    Diff([("0.00000001", "1")], [], 10, 11),
    Diff([("99", "1")], [], 8, 12),
    Diff([], [], 10, 10 + 10**12),
    Diff([("99.6", "1")], []),
]


@pytest.mark.parametrize("diff", QUIET, ids=lambda value: str(value)[:60])
def test_what_is_just_right_is_applied(diff: Diff) -> None:
    """One step beside each fault: no gap, a spread of one tick, a removal, a tiny price, an overlap, no numbers."""
    assert opened().take(diff) == Applied(1)


@pytest.mark.parametrize("sequence", [9, 10])
def test_what_the_book_contains_already_is_old(sequence: int) -> None:
    """A diff that ends at or before the book's sequence changes nothing, and is said to."""
    book = opened()
    assert book.take(Diff([("99.5", "77")], [], 5, sequence)) == Old()
    assert (book.best_bid, book.sequence) == (level("99.5", "2"), 10)


def test_diffs_before_the_snapshot_are_held_and_bridge_to_it() -> None:
    """Streams run before the snapshot comes: of what was held the old is dropped, the rest applied."""
    book = OrderBook()
    early = [Diff([("99.5", "9")], [], 4, 8), Diff([("99.5", "6")], [], 8, 12), Diff([("99.25", "3")], [], 12, 15)]
    assert [book.take(diff) for diff in early] == [Held(1), Held(2), Held(3)]
    assert book.take(MORNING) == Applied(2)
    assert (book.bid_levels(2), book.sequence) == ([level("99.5", "6"), level("99.25", "3")], 15)


def test_a_gap_among_the_held_is_found() -> None:
    """What was held must follow the snapshot without a gap too; the rest stays held for the next one."""
    book = OrderBook()
    for diff in (Diff([], [], 10, 12), Diff([], [("100.4", "1")], 13, 15), Diff([], [], 15, 17)):
        book.take(diff)
    assert fault_of(book.take(MORNING)) is BookFault.SEQUENCE_GAP
    assert book.take(Snapshot(MORNING.bids, MORNING.asks, 14)) == Applied(2)
    assert (book.best_ask, book.sequence) == (level("100.4", "1"), 17)


def test_the_diff_that_showed_a_gap_is_not_lost() -> None:
    """It is the first one held, so a snapshot from before its end is bridged without asking again."""
    book = opened()
    assert fault_of(book.take(Diff([("99.75", "1")], [], 20, 25))) is BookFault.SEQUENCE_GAP
    assert book.take(Snapshot(MORNING.bids, MORNING.asks, 22)) == Applied(1)
    assert (book.best_bid, book.sequence) == (level("99.75", "1"), 25)


def test_held_diffs_are_bounded_and_a_lost_one_shows_as_a_gap() -> None:
    """The oldest are dropped beyond the bound; the sequence then says so."""
    book = OrderBook(held=2)
    for sequence in (11, 12, 13):
        book.take(Diff([], [], sequence - 1, sequence))
    assert fault_of(book.take(MORNING)) is BookFault.SEQUENCE_GAP


def test_a_snapshot_is_always_believed() -> None:
    """A book that is ready begins anew with a snapshot, whatever its number."""
    book = opened()
    assert book.take(Snapshot([("50", "1")], [("51", "1")], 3)) == Applied(0)
    assert (book.bid_levels(), book.sequence) == ([level("50", "1")], 3)


def test_a_bad_snapshot_is_no_book() -> None:
    """A snapshot is judged like a diff."""
    book = OrderBook()
    assert fault_of(book.take(Snapshot([("100", "1")], [("100", "1")], 1))) is BookFault.CROSSED
    assert not book.ready


def test_a_book_of_limited_depth_forgets_what_falls_out() -> None:
    """Where an exchange keeps ten levels and says nothing of the eleventh, neither do we."""
    book = opened(depth=2)
    assert book.bid_levels() == [level("99.5", "2"), level("99.0", "5")]
    book.take(Diff([("99.7", "1")], [], 10, 11))
    assert book.bid_levels() == [level("99.7", "1"), level("99.5", "2")]
    book.take(Diff([("99.7", "0")], [], 11, 12))
    assert book.bid_levels() == [level("99.5", "2")]


# ---- checksum ------------------------------------------------------------------------------------------------------

GUIDE_V1 = (
    [f"0.0{price}" for price in (5000, 4995, 4990, 4980, 4975, 4970, 4965, 4960, 4955, 4950)],
    [f"0.0{price}" for price in range(5005, 5055, 5)],
)
"""The bids and asks of Kraken's guide, each of size 0.00000500; its checksum is given there."""


def guide_book(checksum: int) -> Snapshot:
    bids, asks = ([(price, "0.00000500") for price in side] for side in GUIDE_V1)
    return Snapshot(bids, asks, checksum=checksum)


def test_krakens_own_example_has_its_checksum() -> None:
    """The guide's book gives the guide's number."""
    assert OrderBook(checksum=kraken_checksum(5, 8)).take(guide_book(974947235)) == Applied(0)


def test_numbers_that_lost_their_zeros_have_the_same_checksum() -> None:
    """The guide's book of WebSocket v2 as JSON numbers print it: the pair's decimals bring the zeros back."""
    bids = {
        "45283.5": "0.1",
        "45283.4": "1.54582015",
        "45282.1": "0.1",
        "45281": "0.1",
        "45280.3": "1.54592586",
        "45279": "0.0799",
        "45277.6": "0.03310103",
        "45277.5": "0.3",
        "45277.3": "1.54602737",
        "45276.6": "0.15445238",
    }
    asks = {
        "45285.2": "0.001",
        "45286.4": "1.54571953",
        "45286.6": "1.54571109",
        "45289.6": "1.54560911",
        "45290.2": "0.1589066",
        "45291.8": "1.54553491",
        "45294.7": "0.04454749",
        "45296.1": "0.3538",
        "45297.5": "0.09945542",
        "45299.5": "0.18772827",
    }
    book = OrderBook(checksum=kraken_checksum(1, 8))
    assert book.take(Snapshot(list(bids.items()), list(asks.items()), checksum=3310070434)) == Applied(0)


@pytest.mark.parametrize(("price", "size"), [("0.05000", "0.00000501"), ("0.04950", "0"), ("0.05001", "0.00000001")])
def test_a_wrong_level_has_another_checksum(price: str, size: str) -> None:
    """A book that differs in one of the ten levels is refused."""
    book = OrderBook(checksum=kraken_checksum(5, 8))
    book.take(guide_book(974947235))
    assert fault_of(book.take(Diff([(price, size)], [], checksum=974947235))) is BookFault.CHECKSUM_MISMATCH
    assert not book.ready


def test_levels_behind_the_tenth_are_not_covered_and_digits_may_be_missing() -> None:
    """The checksum covers ten levels, and numbers whose zeros JSON dropped are printed with the pair's decimals."""
    book = OrderBook(checksum=kraken_checksum(5, 8))
    book.take(guide_book(974947235))
    assert book.take(Diff([("0.01", "3"), ("0.05", "0.000005")], [], checksum=974947235)) == Applied(1)


# ---- naive twin ------------------------------------------------------------------------------------------------------


class NaiveBook:
    """Dictionaries and min and max: what a book is."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.put(snapshot)

    def put(self, message: Snapshot | Diff) -> None:
        for side, levels in ((self.bids, message.bids), (self.asks, message.asks)):
            for price, size in levels:
                side[Decimal(price)] = Decimal(size)
                if Decimal(size) == 0:
                    del side[Decimal(price)]

    def best(self) -> tuple[Level | None, Level | None]:
        bid, ask = max(self.bids, default=None), min(self.asks, default=None)
        return (None if bid is None else (bid, self.bids[bid])), (None if ask is None else (ask, self.asks[ask]))

    def is_crossed(self) -> bool:
        return bool(self.bids) and bool(self.asks) and max(self.bids) >= min(self.asks)


SIZES = st.sampled_from(["0", "0", "1", "2.5", "0.001"])


def sides(low: int, high: int) -> st.SearchStrategy[list[tuple[str, str]]]:
    prices = st.integers(low, high).map(lambda tenths: f"{tenths / 10:.1f}")
    return st.lists(st.tuples(prices, SIZES), max_size=8)


@given(st.lists(st.tuples(sides(900, 1003), sides(998, 1100)), max_size=30))
def test_the_book_equals_its_naive_twin(changes: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]]) -> None:
    """After every diff the best levels and all others are those of plain dictionaries, until both find it crossed."""
    start = Snapshot([("99.0", "1")], [("101.0", "1")], 0)
    book, twin = OrderBook(), NaiveBook(start)
    book.take(start)
    for sequence, (bids, asks) in enumerate(changes):
        diff = Diff(bids, asks, sequence, sequence + 1)
        twin.put(diff)
        outcome = book.take(diff)
        assert (fault_of(outcome) is BookFault.CROSSED) == twin.is_crossed()
        if twin.is_crossed():
            assert (book.best_bid, book.best_ask) == (None, None)
            break
        assert (book.best_bid, book.best_ask) == twin.best()
        assert book.bid_levels() == sorted(twin.bids.items(), reverse=True)
        assert book.ask_levels() == sorted(twin.asks.items())


@given(st.lists(st.tuples(sides(900, 990), sides(1010, 1100)), min_size=1, max_size=20), st.data())
def test_when_the_snapshot_comes_makes_no_difference(
    changes: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]], data: st.DataObject
) -> None:
    """A snapshot of any moment, heard at any later one, leads to the same book as listening from the start."""
    diffs = [Diff(bids, asks, at, at + 1) for at, (bids, asks) in enumerate(changes)]
    start = Snapshot([("99.0", "1")], [("101.0", "1")], 0)
    whole = OrderBook()
    whole.take(start)
    taken = data.draw(st.integers(0, len(diffs)))
    heard = data.draw(st.integers(taken, len(diffs)))
    late = OrderBook()
    for diff in diffs[:taken]:
        whole.take(diff)
    texts = [[(str(price), str(size)) for price, size in side] for side in (whole.bid_levels(), whole.ask_levels())]
    for diff in diffs[taken:]:
        whole.take(diff)
    for diff in diffs[:heard]:
        late.take(diff)
    late.take(Snapshot(texts[0], texts[1], taken))
    for diff in diffs[heard:]:
        late.take(diff)
    assert (late.bid_levels(), late.ask_levels(), late.sequence) == (
        whole.bid_levels(),
        whole.ask_levels(),
        whole.sequence,
    )


# ---- mutants ---------------------------------------------------------------------------------------------------------

MUTANTS = [
    ("bids[-1] >= asks[0]", "bids[-1] > asks[0]"),
    ("if after > at:", "if after > at + 1:"),
    ("if sequence <= at:", "if sequence < at:"),
    ("elif sizes.pop(price, None) is not None:", "elif False:"),
    ("ZERO <= size < TOO_LARGE", "-TOO_LARGE < size < TOO_LARGE"),
    ("self._held.appendleft(diff)", "pass"),
]


def behaves(module: Any) -> bool:
    """Whether a book module does the few things that its mutants get wrong."""
    start = module.Snapshot([("99.5", "2"), ("99", "1")], [("100.5", "3")], 10)

    def after(*diffs: Any) -> tuple[Any, Any]:
        book = module.OrderBook()
        outcomes = [book.take(message) for message in (start, *diffs)]
        return outcomes[-1], book

    locked, _ = after(module.Diff([("100.5", "1")], [], 10, 11))
    gap, gapped = after(module.Diff([("99.6", "1")], [], 11, 12))
    gapped.take(module.Snapshot([("99", "1")], [("100", "1")], 11))
    old, _ = after(module.Diff([("99.5", "9")], [], 9, 10))
    _, removed = after(module.Diff([("99.5", "0")], [], 10, 11))
    negative, _ = after(module.Diff([("99.5", "-1")], [], 10, 11))
    return (
        [type(each).__name__ for each in (locked, gap, old, negative)] == ["Refused", "Refused", "Old", "Refused"]
        and removed.best_bid == (Decimal(99), Decimal(1))
        and gapped.best_bid == (Decimal("99.6"), Decimal(1))
    )


@pytest.mark.parametrize(("right", "wrong"), MUTANTS)
def test_mutants_are_caught(right: str, wrong: str) -> None:
    """Each rule that keeps a wrong book from being shown is seen to matter."""
    source = inspect.getsource(order_book)
    assert source.count(right) == 1
    mutant = types.ModuleType("order_book_mutant")
    exec(source.replace(right, wrong), mutant.__dict__)  # noqa: S102 - our own source, one comparison changed
    assert behaves(order_book)
    try:
        caught = not behaves(mutant)
    except (KeyError, ValueError, IndexError):
        caught = True
    assert caught
