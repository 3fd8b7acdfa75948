"""What is said of the facts before a fact tells a follower whether it missed one of its own."""

from hypothesis import given
from hypothesis import strategies as st

from tapeline_common import preceding
from tapeline_common.preceding import Preceding, nothing_missed

KINDS = ("BarClosed", "RegimeUpdated", "OrderProposed", "OrderFilled", "TradeClosed")


@given(
    since=st.integers(0, 30),
    kinds=st.lists(st.sampled_from(KINDS), max_size=60),
    back=st.integers(0, 40),
    wanted=st.sets(st.sampled_from(KINDS)),
)
def test_it_is_never_wrong_about_a_gap(since: int, kinds: list[str], back: int, wanted: set[str]) -> None:
    """Against counting every fact: "nothing missed" is said exactly if none of the gap is wanted and all is known."""
    before = Preceding(since)
    for pos, kind in enumerate(kinds, since + 1):
        before.add(kind, pos)
    heard = since + len(kinds) - back
    gap = kinds[max(0, heard - since) :]
    assert nothing_missed(before.text, heard, wanted) == (heard >= since and not wanted.intersection(gap))


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=60), heard=st.integers(0, 60))
def test_old_types_are_forgotten_on_the_safe_side(kinds: list[str], heard: int) -> None:
    """With a short memory the text stays short, and a follower far behind is told to read, never to skip."""
    horizon, preceding.HORIZON = preceding.HORIZON, 5
    try:
        before = Preceding(0)
        for pos, kind in enumerate(kinds, 1):
            before.add(kind, pos)
    finally:
        preceding.HORIZON = horizon
    for wanted in KINDS:
        if nothing_missed(before.text, heard, {wanted}):
            assert wanted not in kinds[heard:]


def test_the_text_is_for_people_too() -> None:
    """Golden: a start, then the types in the order of their latest facts."""
    before = Preceding(7)
    assert before.text == "7"
    for pos, kind in enumerate(("BarClosed", "RegimeUpdated", "BarClosed"), 8):
        before.add(kind, pos)
    assert before.text == "7 RegimeUpdated=9 BarClosed=10"


def test_without_a_text_nothing_is_believed() -> None:
    """A message that says nothing of what lies before it is no proof that nothing does."""
    assert not nothing_missed("", 5, {"BarClosed"})
    assert nothing_missed("5", 5, {"BarClosed"})
