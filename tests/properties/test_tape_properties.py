"""Whatever answers come, in whatever order and however often: the tape stays gapless, and saying it again is free."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common import simulation_checks as checks
from tapeline_common.events import (
    Event,
    HaltRequested,
    LimitBreached,
    StrategyDisableRequested,
    TradeDeclined,
    TradingResumed,
)
from tapeline_common.sequencer import Sequencer
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import Decline, HaltReason, InstrumentId, Realm, StrategyId
from tapeline_common.wire import Answer, Draft

names = st.sampled_from(["dawn", "dusk", "no.token"])
texts = st.text(max_size=5)
events: dict[str, st.SearchStrategy[Event]] = {
    "operator": st.builds(HaltRequested, st.just("mara"), texts)
    | st.builds(lambda name: StrategyDisableRequested(StrategyId(name), "mara", ""), names),
    "risk": st.builds(TradingResumed, texts) | st.builds(LimitBreached, st.just(HaltReason.OPERATOR), texts, texts),
    "strategy": st.builds(
        lambda name, text: TradeDeclined(
            StrategyId(name), InstrumentId("BTC"), Decline.INPUT_STALE, 0, Decimal(0), text
        ),
        names,
        texts,
    ),
}


@st.composite
def asks(draw: st.DrawFn) -> tuple[str, Answer]:
    author = draw(st.sampled_from(list(events)))
    said = draw(st.lists(events[draw(st.sampled_from([author, author, author, "risk"]))], max_size=3))
    cause = draw(st.integers(0, 12))
    drafts = tuple(Draft(event, draw(st.sampled_from(["a", "b", "c", "d", ""])) if not cause else "") for event in said)
    after = draw(st.none() | st.integers(0, 8))
    expected = draw(st.just({}) | st.just({"run": draw(st.integers(0, 4))}))
    return author, Answer(cause, drafts, after, None, expected)


@settings(deadline=None)
@given(st.lists(asks(), max_size=40), st.lists(st.integers(0, 1000), min_size=40, max_size=40))
def test_positions_and_versions_are_gapless(requests: list[tuple[str, Answer]], clocks: list[int]) -> None:
    """Admitted or refused, the tape is whole after every request, and a refusal leaves it as it was."""
    tape = MemoryTape()
    for (author, answer), now_ns in zip(requests, clocks, strict=False):
        tape.now_ns = now_ns
        before = (tape.head, tape.head_hash)
        receipt = tape.record(author, answer)
        if not receipt.ok:
            assert (tape.head, tape.head_hash) == before
        else:
            assert [tape.records[pos - 1].fact.event for pos in receipt.positions] == [d.event for d in answer.facts]
    assert checks.order_wrong(tape.facts) is None
    assert checks.answers_wrong(tape.facts) is None
    assert checks.chain_wrong([recorded.payload for recorded in tape.records], tape.head_hash) is None


@settings(deadline=None)
@given(st.lists(asks(), max_size=30))
def test_resending_changes_nothing(requests: list[tuple[str, Answer]]) -> None:
    """Whatever was recorded can be sent again at any later time: same positions, nothing new."""
    tape = MemoryTape()
    done = []
    for author, answer in requests:
        receipt = tape.record(author, answer)
        if receipt.ok and answer.facts and not answer.expected:
            done.append((author, answer, receipt))
    head = (tape.head, tape.head_hash)
    for author, answer, receipt in done:
        assert tape.record(author, answer) == receipt
    assert (tape.head, tape.head_hash) == head


@settings(deadline=None)
@given(st.lists(asks(), max_size=30))
def test_resumed_sequencer_is_the_same(requests: list[tuple[str, Answer]]) -> None:
    """A sequencer that took over a tape from its bytes stands where the one that wrote it stands."""
    tape = MemoryTape()
    for author, answer in requests:
        tape.record(author, answer)
    resumed = Sequencer(Realm.LIVE)
    resumed.resume((recorded.fact, recorded.payload) for recorded in tape.records)
    assert resumed == tape._sequencer
