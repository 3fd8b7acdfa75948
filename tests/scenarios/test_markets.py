"""Stand-ins are the markets they stand for in what matters, and the same bars for the same name and seed."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline_lab.bias.tables import PRICES, TIME
from tapeline_lab.scenarios.markets import MARKETS, Market, MarketUnknown, find_market, recorded_part, stand_in

HOUR_NS = 3_600 * 10**9
BY_NAME = pytest.mark.parametrize("market", MARKETS, ids=lambda market: market.name)


def made(market: Market, seed: int = 0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return stand_in(market, seed, price=20_000.0, length_ns=HOUR_NS)


@BY_NAME
def test_a_stand_in_is_made_of_valid_bars(market: Market) -> None:
    table = made(market)
    assert (np.diff(table[TIME]) > 0).all()
    assert (table["low"] > 0).all()
    for name in ("open", "close"):
        assert (table["low"] <= table[name]).all()
        assert (table[name] <= table["high"]).all()
    assert (table["volume"] >= 0).all()


@BY_NAME
def test_the_same_seed_gives_the_same_bars_and_another_one_others(market: Market) -> None:
    one, again, other = made(market), made(market), made(market, seed=1)
    for name in (TIME, *PRICES, "volume"):
        np.testing.assert_array_equal(one[name], again[name])
    assert not np.array_equal(one["close"][:50], other["close"][:50])


@BY_NAME
def test_a_stand_in_ends_where_its_phases_say(market: Market) -> None:
    """The drift of each phase is bent to its change; prices are rounded to cents."""
    expected = 20_000.0 * float(np.prod([1.0 + phase.change for phase in market.phases]))
    assert made(market)["close"][-1] == pytest.approx(expected, rel=1e-3)


def test_returns_have_fat_tails_and_clustered_volatility() -> None:
    """The two facts that hold of every market, where no phase is bent: kurtosis, and memory of absolute returns."""
    closes = np.concatenate([made(find_market("bull"), seed)["close"][:700] for seed in range(6)])
    moves = np.diff(np.log(closes.reshape(6, 700)), axis=1)
    moves = (moves - moves.mean(axis=1, keepdims=True)) / moves.std(axis=1, keepdims=True)
    sizes = np.abs(moves) - np.abs(moves).mean()
    memory = float(np.mean(sizes[:, 1:] * sizes[:, :-1]) / np.mean(sizes**2))
    plain = float(np.mean(moves[:, 1:] * moves[:, :-1]))
    assert float(np.mean(moves**4)) > 4.0
    assert memory > 0.08
    assert abs(plain) < 0.08


def test_gaps_and_silence_are_where_they_should_be() -> None:
    steps = np.diff(made(find_market("gaps"))[TIME]) // HOUR_NS
    assert np.count_nonzero(steps > 1) >= 20
    dead = made(find_market("dead"))
    assert np.count_nonzero(dead["volume"] == 0) == 500
    assert np.ptp(dead["close"][240:540]) == 0
    assert made(find_market("delisting"))["volume"][-48:].max() == 0


def test_recorded_days_are_cut_out_only_if_the_file_covers_them() -> None:
    covid = find_market("covid")
    times = np.arange(1_580_000_000, 1_590_000_000, 3_600, dtype=np.int64) * 10**9  # 26 January to 20 May 2020
    table = {TIME: times, **{name: np.ones(len(times)) for name in (*PRICES, "volume")}}
    part = recorded_part(covid, table)
    assert part is not None
    assert abs(len(part[TIME]) - 71 * 24) <= 1
    assert recorded_part(covid, {name: column[:400] for name, column in table.items()}) is None
    assert recorded_part(find_market("flash"), table) is None


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(MarketUnknown, match="covid"):
        find_market("tulips")
