"""The synthetic market: the same chance for the same seed, restartable anywhere, and shaped like a market."""

from __future__ import annotations

import hashlib
from collections import Counter
from decimal import Decimal
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from tapeline_common.events import BarClosed
from tapeline_common.values import Regime
from tapeline_marketdata.checks import ACCEPTED, Checker
from tapeline_marketdata.synthetic import (
    BLOCK_BARS,
    REGIMES,
    SyntheticMarket,
    SyntheticSpec,
    SyntheticState,
    bars_from,
)

MINUTE_NS = 60 * 10**9
BITCOIN = SyntheticSpec(instrument="BTC-USDT_sim", start_price=Decimal(60000), tick_size=Decimal("0.01"))
ETHER = SyntheticSpec(instrument="ETH-USDT_sim", start_price=Decimal(3000), tick_size=Decimal("0.05"))
DUST = SyntheticSpec(
    instrument="DUST-USDT_sim", start_price=Decimal("0.00004000"), tick_size=Decimal("0.00000001"), lot_size=Decimal(1)
)
SPECS = (BITCOIN, ETHER, DUST)
ROUNDS = 50_000
"""Bars per instrument in the statistical tests: five weeks of minutes."""


def market(seed: int = 7, specs: tuple[SyntheticSpec, ...] = SPECS) -> SyntheticMarket:
    return SyntheticMarket(seed, specs)


@cache
def long_run() -> dict[str, list[BarClosed]]:
    """ROUNDS bars of each instrument, made once for all statistical tests."""
    world = market()
    bars = list(bars_from(world, world.start(), ROUNDS * len(SPECS)))
    return {spec.instrument: bars[number :: len(SPECS)] for number, spec in enumerate(SPECS)}


def returns(instrument: str) -> npt.NDArray[np.float64]:
    return np.diff(np.log([float(one.close) for one in long_run()[instrument]]))


def autocorrelation(values: npt.NDArray[np.float64], lag: int) -> float:
    return float(np.corrcoef(values[lag:], values[:-lag])[0, 1])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.instrument)
def test_every_bar_is_fit_for_decisions(spec: SyntheticSpec) -> None:
    """50,000 bars in a row pass the checker without a word."""
    checker = Checker(MINUTE_NS)
    assert Counter(map(checker.check, long_run()[spec.instrument])) == {ACCEPTED: ROUNDS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.instrument)
def test_prices_are_ticks_and_volumes_are_lots(spec: SyntheticSpec) -> None:
    """Every price is a multiple of the tick, every volume of the lot, exactly."""
    for one in long_run()[spec.instrument][::97]:
        assert all(Decimal(price) % spec.tick_size == 0 for price in (one.open, one.high, one.low, one.close))
        assert Decimal(one.volume) % spec.lot_size == 0


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.instrument)
def test_returns_have_heavy_tails(spec: SyntheticSpec) -> None:
    """Kurtosis above 4 (a normal has 3), as minute returns do."""
    moves = returns(spec.instrument)
    assert float(((moves - moves.mean()) ** 4).mean() / moves.var() ** 2) > 4


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.instrument)
def test_volatility_clusters_and_direction_does_not(spec: SyntheticSpec) -> None:
    """The size of a move tells of the sizes after it, at 1 and at 50 bars; its sign tells next to nothing."""
    moves = returns(spec.instrument)
    assert autocorrelation(np.abs(moves), 1) > 0.1
    assert autocorrelation(np.abs(moves), 50) > 0.05
    assert abs(autocorrelation(moves, 1)) < 0.05


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.instrument)
def test_volume_is_positive_skewed_and_moves_with_the_size_of_the_return(spec: SyntheticSpec) -> None:
    """As on real markets: busy bars are large bars, and a few are far busier than the usual one."""
    volumes = np.array([float(one.volume) for one in long_run()[spec.instrument]][1:])
    assert float(np.corrcoef(np.abs(returns(spec.instrument)), volumes)[0, 1]) > 0.3
    assert volumes.mean() > np.median(volumes) > 0


def test_annual_volatility_is_about_what_was_asked_for() -> None:
    """0.8 a year, within a quarter: regimes scale it bar by bar, not on average."""
    year_bars = 365 * 24 * 60
    assert float(returns(BITCOIN.instrument).std()) * year_bars**0.5 == pytest.approx(0.8, rel=0.25)


def test_instruments_share_a_market() -> None:
    """A common factor moves them together, not identically; beta 0 moves alone."""
    pair = float(np.corrcoef(returns(BITCOIN.instrument), returns(ETHER.instrument))[0, 1])
    assert 0.15 < pair < 0.8
    loner = SyntheticMarket(7, [msgspec.structs.replace(ETHER, instrument="LONER", beta=0.0)])
    closes = [float(one.close) for one in bars_from(loner, loner.start(), 20_000)]
    assert abs(float(np.corrcoef(np.diff(np.log(closes)), returns(BITCOIN.instrument)[:19_999])[0, 1])) < 0.05


def test_regimes_differ_in_drift_and_volatility() -> None:
    """Given the true regime, bulls rise, bears fall, and the three have three volatilities."""
    world, moves = market(), returns(BITCOIN.instrument)
    truth = np.array([world.regime_at(BITCOIN.instrument, index) for index in range(1, ROUNDS)])
    mean, spread = (
        {regime: float(measure(moves[truth == regime])) for regime in REGIMES} for measure in (np.mean, np.std)
    )
    assert mean[Regime.BULL] > mean[Regime.CHOP] > mean[Regime.BEAR]
    assert spread[Regime.BEAR] > 1.5 * spread[Regime.BULL] > 2 * spread[Regime.CHOP]


def test_regimes_last() -> None:
    """All three occur, and a regime holds for about 200 bars, not for 20 or 2,000."""
    world = market()
    path = [world.regime_at(ETHER.instrument, index) for index in range(40 * BLOCK_BARS)]
    changes = sum(before is not after for before, after in pairwise(path))
    assert set(path) == set(REGIMES)
    assert 100 < len(path) / changes < 400


def test_the_same_seed_makes_the_same_bars() -> None:
    """Two markets of one seed agree in every bar."""
    one, other = market(), market()
    assert list(bars_from(one, one.start(), 5000)) == list(bars_from(other, other.start(), 5000))


def test_the_bars_of_a_seed_are_fixed_for_ever() -> None:
    """A pinned digest: a change of the market's arithmetic, or another machine, would change recorded demos."""
    world = market()
    text = "\n".join(map(repr, bars_from(world, world.start(), 6000)))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "1318e6b4cd859d9d3eb45e1ba51d6808906b4e3e40336f0bd124edd40537d4e7"
    )


def test_another_seed_makes_another_market() -> None:
    """Nearby seeds share no bar."""
    first, second = market(7), market(8)
    pairs = zip(bars_from(first, first.start(), 3000), bars_from(second, second.start(), 3000), strict=True)
    assert all(one != other for one, other in pairs)


def test_an_instruments_chance_does_not_depend_on_its_neighbours() -> None:
    """Adding an instrument to the market leaves the others' bars alone."""
    alone = market(specs=(ETHER,))
    assert list(bars_from(alone, alone.start(), 2000)) == long_run()[ETHER.instrument][:2000]


@pytest.mark.parametrize("made", [0, 1, 2, 3, 1000, 3 * BLOCK_BARS - 1, 3 * BLOCK_BARS, 3 * BLOCK_BARS + 1, 9_999])
def test_a_restart_from_the_last_bars_goes_on_identically(made: int) -> None:
    """Whenever it stops, also between instruments and at a block's edge, a new market continues from the last bars."""
    world = market()
    whole = list(bars_from(world, world.start(), made + 50))
    last = {one.instrument: one for one in whole[:made]}
    restarted = market()
    assert list(bars_from(restarted, restarted.resume(last), 50)) == whole[made:]


def test_a_state_travels_as_json() -> None:
    """Saved and read back, a state makes the same next bars."""
    world = market()
    state = world.start()
    for _ in range(100):
        _, state = world.next_bar(state)
    kept = msgspec.json.decode(msgspec.json.encode(state), type=SyntheticState)
    assert list(bars_from(market(), kept, 20)) == list(bars_from(world, state, 20))


def test_bars_can_be_asked_for_in_any_order() -> None:
    """next_bar is a function of its state: going back a block and forward again changes nothing."""
    world = market(specs=(BITCOIN,))
    state, states = world.start(), []
    for _ in range(2 * BLOCK_BARS):
        states.append(state)
        _, state = world.next_bar(state)
    late, early = world.next_bar(states[-1]), world.next_bar(states[0])
    assert (world.next_bar(states[-1]), world.next_bar(states[0])) == (late, early)


def test_a_restart_from_bars_of_different_moments_is_refused() -> None:
    """Bitcoin at bar 5 and Ether at bar 2 cannot both be the last."""
    with pytest.raises(ValueError, match="cannot resume"):
        market().resume({spec.instrument: long_run()[spec.instrument][at] for spec, at in ((BITCOIN, 5), (ETHER, 2))})


def test_a_restart_from_a_strangers_bar_is_refused() -> None:
    """A bar of another grid or instrument is no bar of this market."""
    bar = long_run()[BITCOIN.instrument][0]
    with pytest.raises(ValueError, match="is not of this market"):
        market().resume({bar.instrument: msgspec.structs.replace(bar, open_ns=bar.open_ns + 1)})
    with pytest.raises(ValueError, match="cannot resume"):
        market().resume({"STRANGER": bar})


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": ""},
        {"start_price": Decimal(0)},
        {"tick_size": Decimal("-0.01")},
        {"lot_size": Decimal(0)},
        {"annual_volatility": 0.0},
        {"beta": 1.5},
        {"usual_volume": -1.0},
        {"start_price": Decimal("0.001")},
    ],
)
def test_an_impossible_instrument_is_refused(changes: dict[str, object]) -> None:
    """Each message names the field."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        msgspec.structs.replace(BITCOIN, **changes).__post_init__()


def test_a_market_needs_instruments_and_a_start_on_its_grid() -> None:
    """No instruments, the same one twice, and a start between two minutes are refused."""
    with pytest.raises(ValueError, match="at least one"):
        SyntheticMarket(7, [])
    with pytest.raises(ValueError, match="twice"):
        SyntheticMarket(7, [BITCOIN, BITCOIN])
    with pytest.raises(ValueError, match="multiple of 1m"):
        SyntheticMarket(7, [BITCOIN], start_ns=1)


def broken(at_bar: int, times: float) -> tuple[SyntheticSpec, ...]:
    return tuple(msgspec.structs.replace(spec, break_bar=at_bar, break_volatility=times) for spec in SPECS)


def test_a_break_of_volatility_leaves_what_was_before_as_it_is() -> None:
    """Bars before the break are those of the unbroken market, to the last digit."""
    one, other = market(), market(specs=broken(1_500, 2.0))
    count = 1_500 * len(SPECS)
    assert list(bars_from(one, one.start(), count)) == list(bars_from(other, other.start(), count))


def test_a_break_of_volatility_makes_every_regime_as_many_times_as_volatile() -> None:
    """Returns around the regime's drift are twice as large from the break on, and the regimes are the same."""
    one, other = market(specs=(BITCOIN,)), market(specs=broken(2_000, 2.0)[:1])
    series = [np.array([float(bar.close) for bar in bars_from(each, each.start(), 4_000)]) for each in (one, other)]
    usual, wild = (np.diff(np.log(closes))[2_000:] for closes in series)
    assert float(np.median(np.abs(wild)) / np.median(np.abs(usual))) == pytest.approx(2.0, rel=0.02)
    regimes = [[each.regime_at(BITCOIN.instrument, index) for index in range(4_000)] for each in (one, other)]
    assert regimes[0] == regimes[1]


def test_a_break_of_one_is_no_break() -> None:
    """The bars, and so every recorded tape, are the same."""
    one, other = market(), market(specs=broken(10, 1.0))
    assert list(bars_from(one, one.start(), 3_000)) == list(bars_from(other, other.start(), 3_000))


@pytest.mark.parametrize(
    ("at_bar", "times", "message"),
    [(-1, 2.0, "break_bar is -1"), (0, 0.0, "break_volatility is 0.0"), (0, float("inf"), "break_volatility is inf")],
)
def test_a_break_that_cannot_be_is_refused(at_bar: int, times: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        broken(at_bar, times)
