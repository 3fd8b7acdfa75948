"""What changing the future does not show: fills in the deciding bar, prices nobody traded at, positions in the dead."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bias.bars import market, panel
from tests.gears import settings_of

from tapeline_common.events import BarClosed, OrderAccepted, OrderFilled
from tapeline_common.wire import Fact
from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.leaks import (
    Trades,
    dependence,
    earned_in_deciding_bar,
    fills_in_deciding_bar,
    fills_on_tape,
    survivorship,
    target_leakage,
)
from tapeline_lab.bias.subjects import pipeline_subject
from tapeline_lab.bias.tapes import facts_of


@pytest.fixture(scope="module")
def tape() -> list[Fact]:
    return [one.fact for one in facts_of(settings_of("ema_cross", {"fast": 3, "slow": 8}), market(150))]


def test_a_tape_of_ours_has_no_such_fill(tape: list[Fact]) -> None:
    """The simulated venue fills at the next bar's open."""
    assert sum(isinstance(fact.event, OrderFilled) for fact in tape) > 5
    assert fills_on_tape(tape) == []


def test_a_fill_right_after_its_order_is_a_fill_in_the_deciding_bar(tape: list[Fact]) -> None:
    """A venue that fills at once, at the price the strategy has just seen."""
    place = next(i for i, fact in enumerate(tape) if isinstance(fact.event, OrderAccepted))
    fill = next(fact for fact in tape[place:] if isinstance(fact.event, OrderFilled))
    close = next(fact.event.close for fact in reversed(tape[:place]) if isinstance(fact.event, BarClosed))
    early = msgspec.structs.replace(fill, event=msgspec.structs.replace(fill.event, price=Decimal(close)))
    wrong = [*tape[: place + 1], early, *(fact for fact in tape[place + 1 :] if fact is not fill)]
    assert [finding.kind for finding in fills_on_tape(wrong)] == [Kind.SAME_BAR_FILL]


def test_a_fill_better_than_the_bar_is_impossible(tape: list[Fact]) -> None:
    """A price that was not traded, slippage granted."""
    place = next(i for i, fact in enumerate(tape) if isinstance(fact.event, OrderFilled))
    fill: Any = tape[place].event
    cheap = msgspec.structs.replace(fill, price=fill.price / 2)
    wrong = [*tape[:place], msgspec.structs.replace(tape[place], event=cheap), *tape[place + 1 :]]
    assert [finding.kind for finding in fills_on_tape(wrong)] == [Kind.IMPOSSIBLE_PRICE]


def test_a_position_in_an_instrument_that_vanished_is_told(tape: list[Fact]) -> None:
    """Its bars end while it is held, those of another go on: it is marked at a price that nobody pays."""
    held = next(i for i, fact in enumerate(tape) if type(fact.event).__name__ == "PositionChanged")
    others = [
        msgspec.structs.replace(fact, event=msgspec.structs.replace(fact.event, instrument="OTHER-USD_sim"))
        for fact in tape[held + 1 :]
        if isinstance(fact.event, BarClosed)
    ]
    (finding,) = fills_on_tape([*tape[: held + 1], *others])
    assert (finding.kind, finding.column) == (Kind.SURVIVORSHIP, "BTC-USD_sim")


def test_trades_of_research_code_are_checked_against_their_bars() -> None:
    """Filled where decided: said; filled a bar later at a traded price: nothing; at another price: said."""
    table = market(20)
    decided = np.array([3, 7, 11])
    opens = table["open"]
    assert fills_in_deciding_bar(Trades(decided, decided + 1, opens[decided + 1]), table) == []
    early = fills_in_deciding_bar(Trades(decided, decided, table["close"][decided]), table)
    assert [finding.kind for finding in early] == [Kind.SAME_BAR_FILL]
    beyond = fills_in_deciding_bar(Trades(decided, decided + 1, table["low"][decided + 1] - 1.0), table)
    assert [finding.kind for finding in beyond] == [Kind.IMPOSSIBLE_PRICE]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), fee=st.floats(0.0, 0.01), lag=st.integers(0, 1))
def test_what_a_position_earns_tells_the_bar_it_was_filled_in(seed: int, fee: float, lag: int) -> None:
    """Whatever the position and the costs: lag 0 is found, lag 1 is not."""
    table = market(200, seed=5)
    chance = np.random.Generator(np.random.PCG64(seed))
    position = np.repeat(chance.integers(-1, 2, 50), 4).astype(np.float64)
    moves = np.append([0.0], table["close"][1:] / table["close"][:-1] - 1.0)
    held = position if lag == 0 else np.append([0.0], position[:-1])
    earned = held * moves - fee * np.abs(np.diff(position, prepend=0.0))
    kinds = [finding.kind for finding in earned_in_deciding_bar(position, earned, table)]
    assert kinds == ([Kind.SAME_BAR_FILL] if lag == 0 else [])


def test_dependence_is_one_for_a_function_and_zero_for_chance() -> None:
    """Of any shape: a parabola has no correlation at all. Ties and constants are no trouble."""
    chance = np.random.Generator(np.random.PCG64(1))
    given_, noise = chance.normal(size=2000), chance.normal(size=2000)
    assert dependence(given_, given_**2) > 0.98
    assert dependence(given_, np.sign(given_)) > 0.98
    assert abs(dependence(given_, noise)) < 4 * np.sqrt(0.4 / 2000)
    assert dependence(given_, np.ones(2000)) == 0.0


def test_features_made_of_returns_to_come_are_found() -> None:
    """The sign of tomorrow, its square, tomorrow blurred; yesterday and volatility are left alone."""
    table = market(1000)
    moves = np.append([0.0], table["close"][1:] / table["close"][:-1] - 1.0)
    ahead = np.append(moves[1:], [0.0])
    noise = np.random.Generator(np.random.PCG64(2)).normal(0, moves.std(), 1000)
    wrong = {"sign": np.sign(ahead), "square": ahead**2, "blurred": ahead + noise}
    right = {"yesterday": moves, "calm": np.abs(moves), "level": table["close"], "noise": noise}
    found = target_leakage({**wrong, **right}, table)
    assert {finding.column for finding in found} == set(wrong)


def test_survivors_need_several_instruments() -> None:
    """One instrument has nobody to survive."""
    with pytest.raises(ValueError, match="several instruments"):
        survivorship(pipeline_subject(lambda bars: bars), market(50))


def test_dependence_on_later_prices_is_not_called_survivorship() -> None:
    """What other prices of the same bars change as well is look-ahead."""

    def scaled(bars: dict[str, Any]) -> dict[str, Any]:
        return {"scaled": bars["close"] / bars["close"].sum()}

    assert survivorship(pipeline_subject(scaled), panel()) == []
