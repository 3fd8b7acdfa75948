"""The bar checker: for each fault it acts, it stays quiet at the boundary, and the watermark tells the truth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.events import BarClosed
from tapeline_common.values import DataFault
from tapeline_marketdata.checks import (
    ACCEPTED,
    Accepted,
    AcceptedAfterGap,
    Checker,
    CheckerState,
    Rejected,
    Verdict,
    fault_of_content,
)

MINUTE = 60 * 10**9
NOON = 1_700_049_600 * 10**9
"""2023-11-15 12:00 UTC."""


def bar(minute: int = 0, **changes: Any) -> BarClosed:
    """A good bar, ``minute`` minutes after noon, with changes."""
    open_ns = NOON + minute * MINUTE
    good = BarClosed("BTC-USDT_sim", "1m", open_ns, open_ns + MINUTE, "100.5", "102", "99", "101.25", "3")
    return msgspec.structs.replace(good, **changes)


def verdicts(*bars: BarClosed) -> list[Verdict]:
    checker = Checker(MINUTE)
    return [checker.check(one) for one in bars]


def fault_of(verdict: Verdict) -> DataFault | None:
    return None if isinstance(verdict, Accepted) else verdict.fault


CONTENT_FAULTS = [
    (DataFault.NOT_A_NUMBER_TEXT, {"open": "abc"}),
    (DataFault.NOT_A_NUMBER_TEXT, {"close": ""}),
    (DataFault.NOT_A_NUMBER_TEXT, {"volume": "1e5"}),
    (DataFault.NOT_A_NUMBER_TEXT, {"high": "1_000"}),
    (DataFault.NOT_A_NUMBER_TEXT, {"high": " 102"}),
    (DataFault.NOT_A_NUMBER_TEXT, {"high": "102 103", "low": ""}),
    (DataFault.NOT_A_NUMBER_TEXT, {"high": "١٠٢"}),
    (DataFault.NOT_FINITE, {"open": "NaN"}),
    (DataFault.NOT_FINITE, {"high": "inf"}),
    (DataFault.NOT_FINITE, {"volume": "-Infinity"}),
    (DataFault.NON_POSITIVE_PRICE, {"low": "0"}),
    (DataFault.NON_POSITIVE_PRICE, {"low": "-0.00000001"}),
    (DataFault.NON_POSITIVE_PRICE, {"open": "0", "high": "0", "low": "0", "close": "0"}),
    (DataFault.NEGATIVE_VOLUME, {"volume": "-0.00000001"}),
    (DataFault.NEGATIVE_VOLUME, {"volume": "-3"}),
    (DataFault.HIGH_BELOW_LOW, {"high": "98.99999999"}),
    (DataFault.HIGH_BELOW_LOW, {"low": "102.00000000000000000001"}),
    (DataFault.OPEN_OUTSIDE_RANGE, {"open": "102.00000000000000000001"}),
    (DataFault.OPEN_OUTSIDE_RANGE, {"open": "98.9"}),
    (DataFault.CLOSE_OUTSIDE_RANGE, {"close": "102.00000000000000000001"}),
    (DataFault.CLOSE_OUTSIDE_RANGE, {"close": "98.9"}),
]


@pytest.mark.parametrize(("fault", "changes"), CONTENT_FAULTS)
def test_a_bar_bad_in_itself_is_rejected_with_field_and_value(fault: DataFault, changes: dict[str, Any]) -> None:
    """The fault is named exactly (to the 20th digit, which a float would not see), with a value that shows it."""
    verdict = Checker(MINUTE).check(bar(**changes))
    assert isinstance(verdict, Rejected)
    assert verdict.fault is fault
    assert any(value in verdict.detail or repr(value) in verdict.detail for value in changes.values())


@pytest.mark.parametrize(("fault", "changes"), CONTENT_FAULTS)
def test_a_bad_bar_does_not_move_the_watermark(fault: DataFault, changes: dict[str, Any]) -> None:
    """The good bar for the same minute is accepted after the bad one, without a gap."""
    checker = Checker(MINUTE)
    checker.check(bar(0))
    before = checker.state
    assert fault_of(checker.check(bar(1, **changes))) is fault
    assert checker.state == before
    assert checker.check(bar(1)) == ACCEPTED


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"open": "102", "close": "102"},
        {"open": "99", "close": "99"},
        {"open": "99.0", "high": "99.00", "low": "99", "close": "99.000"},
        {"volume": "0"},
        {"volume": "-0"},
        {"open": "0.00000001", "high": "0.00000001", "low": "0.00000001", "close": "0.00000001"},
    ],
)
def test_the_boundaries_are_good(changes: dict[str, Any]) -> None:
    """Prices equal to high or low, no volume, and the smallest price are no faults."""
    assert Checker(MINUTE).check(bar(**changes)) == ACCEPTED


def test_bars_in_a_row_are_accepted() -> None:
    """Each minute after the last: nothing to say."""
    assert verdicts(*map(bar, range(5))) == [ACCEPTED] * 5


def test_a_gap_is_counted_and_dated() -> None:
    """Minutes 1 to 3 are missing: three bars, the first at minute 1; the bar after it counts."""
    assert verdicts(bar(0), bar(4), bar(5)) == [ACCEPTED, AcceptedAfterGap(3, NOON + MINUTE), ACCEPTED]


def test_a_gap_is_named_as_a_fault_of_the_data() -> None:
    """A gap has its place in the closed enum of faults although the bar is accepted."""
    assert AcceptedAfterGap(3, NOON).fault is DataFault.GAP


def test_the_first_bar_follows_no_gap() -> None:
    """Without a watermark nothing is missing."""
    assert verdicts(bar(1_000)) == [ACCEPTED]


def test_a_rejected_bar_leaves_a_gap_behind_it() -> None:
    """If the good version never comes, the bar after it says that one is missing."""
    outcome = verdicts(bar(0), bar(1, high="1"), bar(2))
    assert outcome[0] == ACCEPTED
    assert fault_of(outcome[1]) is DataFault.HIGH_BELOW_LOW
    assert outcome[2] == AcceptedAfterGap(1, NOON + MINUTE)


def test_the_same_bar_again_is_a_duplicate() -> None:
    """Once accepted, twice said."""
    assert [fault_of(verdict) for verdict in verdicts(bar(0), bar(0), bar(1), bar(1))] == [
        None,
        DataFault.DUPLICATE,
        None,
        DataFault.DUPLICATE,
    ]


def test_other_zeros_are_still_the_same_bar() -> None:
    """100.5 and 100.50 are one price: a second source that prints more zeros revises nothing."""
    verdict = verdicts(bar(0), bar(0, open="100.50", volume="3.000"))[1]
    assert fault_of(verdict) is DataFault.DUPLICATE


def test_a_duplicate_does_not_hide_what_follows() -> None:
    """After a duplicate the next minute is accepted without a gap."""
    assert verdicts(bar(0), bar(0), bar(1))[2] == ACCEPTED


def test_the_same_time_with_other_content_is_a_revision_that_names_the_change() -> None:
    """Old and new value are both said, and only those that changed."""
    verdict = verdicts(bar(0), bar(0, close="101.26"))[1]
    assert verdict == Rejected(DataFault.REVISED, f"bar at {NOON} ns came again changed: close 101.25 became 101.26")


def test_a_revision_in_the_last_digit_is_seen() -> None:
    """A difference that a float cannot hold is a revision, not a duplicate."""
    exact = verdicts(bar(0, volume="3.00000000000000000001"), bar(0, volume="3.00000000000000000002"))
    assert fault_of(exact[1]) is DataFault.REVISED


def test_the_first_version_stays_after_a_revision() -> None:
    """Decisions were made on the first version: it again is a duplicate, not a second revision."""
    assert fault_of(verdicts(bar(0), bar(0, close="101.26"), bar(0))[2]) is DataFault.DUPLICATE


def test_an_older_bar_is_out_of_order() -> None:
    """Behind the watermark nothing is accepted, however good."""
    assert [fault_of(verdict) for verdict in verdicts(bar(3), bar(2), bar(1))] == [
        None,
        DataFault.OUT_OF_ORDER,
        DataFault.OUT_OF_ORDER,
    ]


def test_an_older_bar_changes_nothing() -> None:
    """After an old bar the next one follows directly on the newest."""
    assert verdicts(bar(3), bar(2), bar(4))[2] == ACCEPTED


def test_an_older_bar_that_was_missed_is_not_let_in_later() -> None:
    """A gap said is a gap kept: the late bar is out of order."""
    outcome = verdicts(bar(0), bar(2), bar(1))
    assert outcome[1] == AcceptedAfterGap(1, NOON + MINUTE)
    assert fault_of(outcome[2]) is DataFault.OUT_OF_ORDER


@pytest.mark.parametrize("shift_ns", [1, MINUTE // 2, MINUTE - 1])
def test_an_open_time_between_the_minutes_is_off_grid(shift_ns: int) -> None:
    """No minute bar opens at 12:00:30."""
    shifted = bar(0, open_ns=NOON + shift_ns, close_ns=NOON + shift_ns + MINUTE)
    assert [fault_of(verdict) for verdict in verdicts(shifted, bar(1))] == [DataFault.OFF_GRID, None]


@pytest.mark.parametrize("length_ns", [0, MINUTE - 1, 5 * MINUTE])
def test_a_bar_of_another_length_is_off_grid(length_ns: int) -> None:
    """A bar that closes elsewhere than one timeframe after its open would be seen too early or too late."""
    assert fault_of(Checker(MINUTE).check(bar(0, close_ns=NOON + length_ns))) is DataFault.OFF_GRID


def test_a_venue_may_have_its_own_grid() -> None:
    """Daily bars that open at 22:00 UTC are on the grid of that hour, and on no other."""
    day, hour = 86_400 * 10**9, 3_600 * 10**9
    open_ns = NOON + 10 * hour
    daily = bar(0, open_ns=open_ns, close_ns=open_ns + day)
    assert Checker(day, offset_ns=22 * hour).check(daily) == ACCEPTED
    assert fault_of(Checker(day).check(daily)) is DataFault.OFF_GRID


def test_weekly_bars_open_on_mondays() -> None:
    """2023-11-13 was a Monday: good; the Thursday after it is off the grid."""
    day = 86_400 * 10**9
    monday = NOON - 2 * day - day // 2
    weekly = Checker(7 * day)
    assert weekly.check(bar(0, open_ns=monday, close_ns=monday + 7 * day)) == ACCEPTED
    thursday = monday + 10 * day
    assert fault_of(weekly.check(bar(0, open_ns=thursday, close_ns=thursday + 7 * day))) is DataFault.OFF_GRID


def test_a_restored_checker_goes_on_where_the_other_stopped() -> None:
    """Through JSON and back the state gives the same verdicts as never having stopped."""
    history = [bar(0), bar(0), bar(3), bar(3, close="100"), bar(2), bar(4), bar(6)]
    whole = verdicts(*history)
    for stop in range(len(history)):
        first = Checker(MINUTE)
        before = [first.check(one) for one in history[:stop]]
        kept = msgspec.json.decode(msgspec.json.encode(first.state), type=CheckerState)
        second = Checker(MINUTE, kept)
        assert before + [second.check(one) for one in history[stop:]] == whole


def test_verdicts_travel_as_json() -> None:
    """A verdict survives encoding, so that a fact or a log can carry it."""
    for verdict in (ACCEPTED, AcceptedAfterGap(3, NOON), Rejected(DataFault.GAP, "detail")):
        decoded = msgspec.json.decode(msgspec.json.encode(verdict), type=Accepted | AcceptedAfterGap | Rejected)
        assert decoded == verdict


@pytest.mark.parametrize("timeframe_ns", [0, -1])
def test_a_checker_needs_a_length(timeframe_ns: int) -> None:
    """A timeframe of zero is a bug of the caller."""
    with pytest.raises(ValueError, match="must be positive"):
        Checker(timeframe_ns)


prices = st.decimals(min_value="-1", max_value="3", places=1).map(str)


@given(prices, prices, prices, prices, prices)
def test_content_is_judged_as_the_definition_says(open_: str, high: str, low: str, close: str, volume: str) -> None:
    """A bar is good exactly if all prices are above 0, low <= open, close <= high, and volume >= 0."""
    o, h, l, c, v = map(Decimal, (open_, high, low, close, volume))  # noqa: E741 - the usual five letters
    good = min(o, h, l, c) > 0 and l <= o <= h and l <= c <= h and v >= 0
    judged = fault_of_content(bar(open=open_, high=high, low=low, close=close, volume=volume))
    assert (judged is None) == good


class ForgetfulChecker(Checker):
    """A mutant: it moves its watermark for rejected bars too."""

    def check(self, bar: BarClosed) -> Verdict:
        verdict = super().check(bar)
        self.state = CheckerState(bar.open_ns, (bar.open, bar.high, bar.low, bar.close, bar.volume))
        return verdict


def test_the_watermark_property_can_fail() -> None:
    """The mutant is caught by the history that the watermark tests use."""
    history = [bar(0), bar(1, high="1"), bar(1)]
    mutant, good = ForgetfulChecker(MINUTE), Checker(MINUTE)
    assert [good.check(one) for one in history][2] == ACCEPTED
    assert [mutant.check(one) for one in history][2] != ACCEPTED
