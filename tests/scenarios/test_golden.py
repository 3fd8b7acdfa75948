"""Representative runs end as they are written down; if one does not, the message says what moved first."""

from __future__ import annotations

import msgspec
import pytest
from tests.scenarios.golden import RUNS, Golden, bars, moved, run, stored

from tapeline_marketdata.files import BarFile


@pytest.fixture(scope="module")
def file() -> BarFile:
    return bars()


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_as_they_were(name: str, file: BarFile) -> None:
    """Decisions, fills, fees, money and the tape's hash. A change on purpose: ``make golden``, and say why."""
    words = moved(stored()[name], run(name, file))
    assert words is None, f"{name}: {words}; if that is meant, run `make golden` and explain the difference"


def test_the_runs_are_worth_keeping() -> None:
    """Nearly all of them trade several times, some are refused by limits, and each is another tape."""
    golden = stored()
    assert list(golden) == list(RUNS)
    assert sum(len(each.fills) >= 4 for each in golden.values()) >= len(golden) - 3
    assert len({each.tape_hash for each in golden.values()}) == len(golden)


GOLDEN = Golden(["0 BUY 1 MARKET"], ["1 BUY 1 at 10"], ["0.1"], "1", "2", 9, "ab")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"decisions": [], "fills": [], "facts": 3, "tape_hash": "x"},
            "decision 1 of 1: was 0 BUY 1 MARKET, is not there",
        ),
        ({"fills": ["1 BUY 1 at 11"], "fees": ["0.2"], "tape_hash": "x"}, "fill 1 of 1: was 1 BUY 1 at 10"),
        ({"fees": ["0.2"], "final_cash": "3", "tape_hash": "x"}, "fee of fill 1 of 1: was 0.1, is 0.2"),
        ({"final_equity": "5", "tape_hash": "x"}, "final_equity: was 2, is 5"),
        ({"tape_hash": "x"}, "hash only"),
    ],
)
def test_what_moved_first_is_named(change: dict[str, object], words: str) -> None:
    found = moved(GOLDEN, msgspec.structs.replace(GOLDEN, **change))
    assert found is not None
    assert words in found


def test_nothing_moved_is_nothing_said() -> None:
    assert moved(GOLDEN, GOLDEN) is None
