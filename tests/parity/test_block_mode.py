"""Block mode against the exact path of the loop gear: the same tape, whatever was passed over."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import pytest
from tests.backtesting import write_bars

from tapeline_backtest.feed import Source, script, source
from tapeline_backtest.runner import Finished, run_blocks, run_loop
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.settings import (
    FeedTable,
    InstrumentTable,
    PresetTable,
    RegimeTable,
    RiskTable,
    RunTable,
    Settings,
    StrategyTable,
    VenueTable,
)
from tapeline_common.values import InstrumentId, Realm, Regime
from tapeline_common.wiring import checked
from tapeline_marketdata import files as files_module
from tapeline_marketdata import shelf as shelf_module
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

pytest.importorskip("numba", reason="block mode compiles")

NAMES = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


def bars_file(path: Path, chance: random.Random, bars: int) -> Path:
    """Synthetic minutes that begin anywhere near midnight and have some holes."""
    spec = SyntheticSpec(instrument=InstrumentId("X"), start_price=Decimal(1000), tick_size=Decimal("0.01"))
    market = SyntheticMarket(chance.randrange(1000), [spec])
    late_ms = 60_000 * chance.randrange(1200, 1500)
    rows = [
        (bar.open_ns // 1_000_000 + late_ms, *map(float, (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars_from(market, market.start(), bars)
    ]
    holes = {chance.randrange(1, bars) for _ in range(chance.choice((0, 3, 40)))}
    return write_bars(path, [row for index, row in enumerate(rows) if index not in holes])


def settings_of(chance: random.Random) -> Settings:
    """Any mixture of what a configuration can say that bars meet."""
    names = NAMES[: chance.choice((1, 1, 2, 3))]
    rounds = chance.random() < 0.5

    def strategy(index: int) -> StrategyTable:
        kind = chance.choice(("ema_cross", "ema_cross", "momentum_breakout", "trend_follow"))
        has_presets = kind == "momentum_breakout" and chance.random() < 0.5
        fast = chance.randrange(2, 12)
        return StrategyTable(
            name=f"s{index}",
            kind=kind,
            instruments=tuple(chance.sample(names, chance.randrange(1, len(names) + 1))),
            size=Decimal(chance.choice(("1", "0.1", "0.00037"))),
            parameters={"fast": fast, "slow": fast + chance.randrange(1, 30)} if kind == "ema_cross" else {},
            regimes=(Regime.BULL, Regime.CHOP) if chance.random() < 0.2 else (),
            preset=(PresetTable("a", {"lookback": 9, "exit_lookback": 4}), PresetTable("b", {"lookback": 20}))
            if has_presets
            else (),
        )

    return Settings(
        run=RunTable(name="parity", seed=chance.randrange(100), cash=Decimal(100_000)),
        feed=FeedTable(kind="files"),
        venue=VenueTable(
            taker_fee=Decimal(chance.choice(("0", "0.001"))),
            slippage_bps=Decimal(chance.choice(("0", "2.5"))),
            participation=chance.choice((None, Decimal("0.0005"))),
        ),
        risk=RiskTable(
            max_daily_loss=chance.choice((None, Decimal(3), Decimal(9), Decimal(40))),
            max_drawdown=chance.choice((None, None, Decimal(5), Decimal(60))),
            cool_down_ms=chance.choice((None, None, 600_000)),
            max_position=chance.choice((None, Decimal("0.05"))),
            max_open_positions=chance.choice((None, None, 1)),
            max_price_age_ms=60_000,
        ),
        regime=RegimeTable(enabled=chance.random() < 0.3, train_bars=150, refit_bars=200),
        instrument=tuple(
            InstrumentTable(
                name,
                tick_size=Decimal("0.01") if rounds else None,
                lot_size=Decimal("0.0001") if rounds else None,
            )
            for name in names
        ),
        strategy=tuple(strategy(index) for index in range(chance.randrange(1, 4))),
    )


def both(settings: Settings, files: list[Path], chunk_bars: int, *, is_long: bool = False) -> tuple[Finished, Finished]:
    """By the exact path and in blocks; ``is_long``: the latter with columns on disk, gone through in parts."""

    def sources() -> list[Source]:
        return [
            source(instrument_id(table), str(file), read_bars(file))
            for table, file in zip(settings.instrument, files, strict=True)
        ]

    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="test")
    exact = run_loop(script(opening, sources()))
    with pytest.MonkeyPatch.context() as patch:
        if is_long:
            patch.setattr(files_module, "LONG_ROWS", 1)
            patch.setattr(shelf_module, "PART_ROWS", 97)
        return exact, run_blocks(opening, sources(), chunk_bars=chunk_bars)


@pytest.mark.parametrize("seed", range(40))
def test_block_mode_gives_the_same_tape(seed: int, tmp_path: Path) -> None:
    """Any strategies, limits, costs, instruments and holes: hash, fills and every state are those of the exact path."""
    chance = random.Random(seed)
    settings = checked(settings_of(chance))
    files = [
        bars_file(tmp_path / f"{index}.parquet", chance, chance.randrange(200, 900))
        for index, _ in enumerate(settings.instrument)
    ]

    exact, block = both(settings, files, chunk_bars=chance.choice((7, 100, 16_384)), is_long=seed % 2 == 1)

    assert block.collected == exact.collected
    assert block.states == exact.states
    assert (block.facts, block.tape_hash) == (exact.facts, exact.tape_hash)


def test_most_bars_are_passed_over(tmp_path: Path) -> None:
    """The comparison means something: block mode does skip the exact path where nothing happens."""
    chance = random.Random(1)
    settings = checked(
        Settings(
            run=RunTable(name="parity"),
            feed=FeedTable(kind="files"),
            regime=RegimeTable(enabled=False),
            instrument=(InstrumentTable("BTC/USDT"),),
            strategy=(
                StrategyTable("ema", "ema_cross", ("BTC/USDT",), Decimal(1), parameters={"fast": 10, "slow": 30}),
            ),
        )
    )
    exact, block = both(settings, [bars_file(tmp_path / "bars.parquet", chance, 3_000)], chunk_bars=500)

    assert block.tape_hash == exact.tape_hash
    assert exact.passed == 0
    assert block.passed > 2_000


@pytest.mark.parametrize("limited", ["max_daily_loss", "max_drawdown"])
@pytest.mark.parametrize("limit", ["0.5", "1", "2", "3", "4", "5", "7", "9"])
@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:2]], ids=["one", "two"])
def test_a_loss_halts_at_the_same_bar(limit: str, limited: str, names: tuple[str, ...], tmp_path: Path) -> None:
    """Also what two positions lose together is found in time, though neither would reach the limit alone."""
    settings = checked(
        Settings(
            run=RunTable(name="parity", cash=Decimal(100_000)),
            feed=FeedTable(kind="files"),
            venue=VenueTable(taker_fee=Decimal(0), slippage_bps=Decimal(0), participation=None),
            risk=RiskTable(**{limited: Decimal(limit)}),
            regime=RegimeTable(enabled=False),
            instrument=tuple(InstrumentTable(name) for name in names),
            strategy=(StrategyTable("ema", "ema_cross", names, Decimal(1), parameters={"fast": 20, "slow": 60}),),
        )
    )
    file = bars_file(tmp_path / "bars.parquet", random.Random(3), 1_500)

    exact, block = both(settings, [file] * len(names), chunk_bars=400)

    assert exact.states["risk"].halted_for is not None
    assert block.states == exact.states
    assert block.tape_hash == exact.tape_hash
