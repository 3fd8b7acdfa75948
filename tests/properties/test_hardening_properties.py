"""Facts looked at column by column are sound exactly when, looked at one by one, nothing is wrong with any."""

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline_common.events import BarClosed, DataRejected, EquityMarked, Event, ParameterValue, PresetRegistered
from tapeline_common.values import DataFault, DecimalText, InstrumentId, StrategyId
from tapeline_common.wire import Answer, Draft
from tapeline_ledger.hardening import MANY_FACTS, are_sound, fault_of, first_fault

BTC = InstrumentId("BTC-USDT_sim")
ints = st.sampled_from([0, 1, -(2**63), 2**63 - 1, 2**63, -(2**63) - 1, 2**80])
words = st.sampled_from(["", "dawn", "a\0b", "x" * 4_000, "x" * 4_001, "ü", "two words", "\n"])
usual = ["1", "-1", "60000.25", "1e5", "1E-99", "1.5e+10", "9" * 40, "9" * 41, "0." + "9" * 40, "0." + "9" * 41]
unusual = ["", "1 2", " 1", "1 ", "1.", ".5", "--1", "+1", "1e", "1e123", "1.2.3", "NaN", "Infinity", "1\n", "٣", "1_0"]
number_texts = st.sampled_from([*usual, *unusual]) | st.text(alphabet="0123456789.-+eE ", max_size=6)
numbers = st.sampled_from(
    [Decimal(text) for text in ("0", "1.5", "-1e39", "1e40", "NaN", "Infinity", "1e-41", "9" * 41)]
)
ids = st.sampled_from(["", "bar:1", "x" * 200, "x" * 201, "a\nb", "a\0b", "ü", "two words", "\u200b"])


def bar(open_ns: int, timeframe: str, price: str) -> Event:
    text = DecimalText(price)
    return BarClosed(BTC, timeframe, open_ns, 0, text, text, text, text, DecimalText("1"))


events: st.SearchStrategy[Event] = st.one_of(
    st.builds(bar, ints, words, number_texts),
    st.builds(lambda word, open_ns: DataRejected(BTC, DataFault.GAP, open_ns, word), words, ints),
    st.builds(EquityMarked, ints, numbers, numbers, numbers),
    st.builds(
        lambda word, value: PresetRegistered(StrategyId("ema"), "calm", {word: value}),
        words,
        st.one_of(words, ints, st.floats(), st.booleans()),
    ),
)
sound = Draft(bar(1, "1m", "60000.25"), "bar:1")
drafts = st.builds(Draft, events, ids)


@settings(max_examples=300, deadline=None)
@given(st.lists(drafts, min_size=1, max_size=4), st.integers(0, 20))
@example([Draft(bar(1, "1m", "1 2"), "a"), Draft(bar(1, "1m", "1"), "b")], 0)
def test_columns_and_facts_agree(found: list[Draft], beside: int) -> None:
    """However many sound facts stand beside a wrong one, it is seen, and where all are sound nothing is."""
    many = (*[sound] * (beside // 2), *found, *[sound] * (beside - beside // 2))
    assert are_sound(many) == (first_fault(many) is None)
    assert fault_of(Answer(0, many)) == first_fault(many)


@pytest.mark.parametrize("parameter", [2**63, "a\0b"])
def test_a_wrong_parameter_among_many_is_named(parameter: ParameterValue) -> None:
    """The column-wise look only says that something is wrong; the receipt still says what."""
    wrong = Draft(PresetRegistered(StrategyId("ema"), "calm", {"fast": parameter}), "preset:1")
    fault = fault_of(Answer(0, (*[sound] * MANY_FACTS, wrong)))
    assert fault is not None
    assert fault.startswith("PresetRegistered.parameters: ")


def test_a_number_with_a_blank_is_not_two_numbers() -> None:
    """Joined by blanks, ``1 2`` would look like two prices: it is counted as one text and refused."""
    wrong = Draft(bar(1, "1m", "1 2"), "bar:2")
    assert fault_of(Answer(0, (*[sound] * MANY_FACTS, wrong))) == "BarClosed.open: '1 2' is no decimal number"
