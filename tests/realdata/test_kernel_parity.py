"""On recorded prices the kernel gear equals the loop gear to the last digit, whatever the parameters and limits."""

from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.gears import NAME, assert_same, part_of, settings_of

from tapeline_common.chance import draw
from tapeline_common.settings import RiskInstrumentTable, RiskTable, Settings, VenueTable
from tapeline_common.values import Decline, Refusal
from tapeline_marketdata.files import BarFile, read_bars

T = TypeVar("T")

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
MINUTES = DATA / "crypto" / "bitfinex" / "1m"
FILES = (MINUTES / "BTCUSD_2018-01_2019-07.parquet", MINUTES / "ETHUSD_2019-01_2019-05.parquet")

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not all(file.is_file() for file in FILES), reason=f"no recorded minutes at {MINUTES} (set TAPELINE_DATA)"
    ),
]

SETS_A_KIND = 105


class Draws:
    """Choices that are the same on every machine: one counter of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        self._count += 1
        return low + int(draw(self._seed, self._count, "parity") * (high - low + 1))

    def one(self, *choices: T) -> T:
        return choices[self.between(0, len(choices) - 1)]

    def number(self, *choices: str) -> Decimal:
        return Decimal(self.one(*choices))

    def maybe(self, *choices: str) -> Decimal | None:
        """One of them in one case of three."""
        return self.number(*choices) if self.between(0, 2) == 0 else None


def drawn_parameters(kind: str, draws: Draws) -> dict[str, Any]:
    if kind == "ema_cross":
        fast = draws.between(2, 15)
        return {"fast": fast, "slow": fast + draws.between(1, 25)}
    if kind == "trend_follow":
        return {
            "trend": draws.between(2, 60),
            "atr": draws.between(1, 20),
            "entry_atr": draws.one(0.0, 0.5, 1.0),
            "stop_atr": draws.one(0.5, 1.0, 3.0),
            "short": draws.one(True, False),
        }
    lookback = draws.between(2, 20)
    return {
        "lookback": lookback,
        "exit_lookback": draws.between(1, lookback),
        "volume_factor": draws.one(0.0, 0.6, 1.0),
    }


def drawn_settings(kind: str, draws: Draws) -> Settings:
    """Costs, lots, ticks and limits, each often absent and sometimes tight."""
    lot = draws.maybe("0.01", "0.4", "1", "0.25", "0.00001")
    venue = VenueTable(
        maker_fee=Decimal(0),
        taker_fee=draws.number("0", "0.001", "0.00075", "0.0002"),
        slippage_bps=draws.number("0", "0", "1", "2.5", "0.3", "7"),
        participation=None if lot is None else draws.one(None, Decimal("0.1"), Decimal("0.003"), Decimal("0.0005")),
    )
    risk = RiskTable(
        max_order_notional=draws.maybe("20000", "9000.5", "700.0001"),
        max_position=draws.maybe("1.2", "2", "0.5"),
        max_gross_exposure=draws.maybe("15000", "7000.123", "1e6"),
        max_open_positions=draws.one(None, None, None, None, None, None, 1, 0),
        max_daily_loss=draws.maybe("100", "33.33", "5"),
        max_drawdown=draws.maybe("200", "44.4", "7"),
        cool_down_ms=draws.one(None, None, 600_000, 60_000, 61_000, 3_600_000),
        instrument=draws.one((), (), (RiskInstrumentTable(NAME, Decimal(8000), Decimal("1.5")),)),
    )
    return settings_of(
        kind,
        drawn_parameters(kind, draws),
        size=draws.number("1", "0.5", "2.37", "3", "0.001", "40"),
        cash=draws.number("1000000", "10000.5", "0"),
        venue=venue,
        risk=risk,
        tick_size=draws.maybe("0.01", "0.5", "0.03", "5"),
        lot_size=lot,
        min_notional=draws.maybe("10", "3000"),
    )


@pytest.fixture(scope="module")
def files() -> list[BarFile]:
    return [read_bars(path) for path in FILES]


def drawn_part(files: list[BarFile], draws: Draws) -> BarFile:
    file = draws.one(*files)
    start, bars = draws.between(0, len(file) - 1200), draws.between(250, 900)
    return part_of(file, start, start + bars)


@pytest.mark.parametrize("kind", ["ema_cross", "momentum_breakout", "trend_follow"])
def test_fills_trades_fees_and_equity_are_equal_to_the_last_digit(kind: str, files: list[BarFile]) -> None:
    """Over a hundred drawn settings of each strategy, on slices of recorded minutes, and something happens in them."""
    seen: Counter[str] = Counter()
    for seed in range(SETS_A_KIND):
        draws = Draws(seed)
        same = assert_same(drawn_settings(kind, draws), drawn_part(files, draws))
        seen.update({name: same.report[name] for name in ("orders", "fills", "trades")})
        seen.update(same.report["refused"])
        seen.update(same.report["declined"])
    assert seen["fills"] > 500
    assert seen["trades"] > 200
    for reason in (
        Refusal.TRADING_HALTED, Refusal.BELOW_MIN_NOTIONAL, Refusal.COOL_DOWN, Refusal.MAX_ORDER_NOTIONAL,
        Refusal.MAX_POSITION, Refusal.MAX_GROSS_EXPOSURE, Refusal.MAX_OPEN_POSITIONS, Decline.ORDER_REFUSED,
        Decline.ORDER_IN_FLIGHT, Decline.QUANTITY_BELOW_LOT,
    ):  # fmt: skip
        assert seen[reason] > 0, reason


OTHERS = (
    "equity/lean/1d/AAPL.parquet",
    "equity/yahoo/1d/MSFT_2013_2023.parquet",
    "forex/oanda/1h/EURUSD_2013_2018.parquet",
    "forex/fxcm/1m/USDJPY_2013-02.parquet",
    "crypto/freqtrade_fixtures/5m/XMRBTC_2018-01.parquet",
    "crypto/binance/1h/BTCUSDT_2017-08_2022-12.parquet",
)


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("kind", ["ema_cross", "trend_follow"])
def test_other_markets_and_lengths_of_bars_are_equal_too(path: str, kind: str) -> None:
    """Adjusted prices, midpoints and satoshis have up to seventeen digits; with slippage and fees, far more."""
    if not (DATA / path).is_file():
        pytest.skip(f"no recorded bars at {DATA / path} (set TAPELINE_DATA)")
    file = read_bars(DATA / path)
    parameters = (
        {"fast": 3, "slow": 8} if kind == "ema_cross" else {"trend": 10, "atr": 5, "stop_atr": 1.0, "short": True}
    )
    for lot, tick, share in ((None, None, None), (Decimal("0.01"), Decimal("0.001"), Decimal("0.05"))):
        table = settings_of(
            kind,
            parameters,
            size=Decimal("1.5"),
            venue=VenueTable(Decimal(0), Decimal("0.00075"), Decimal("1.5"), share),
            lot_size=lot,
            tick_size=tick,
            timeframe=file.facts.timeframe,
        )
        same = assert_same(table, part_of(file, 0, min(len(file), 500)))
        assert same.report["fills"] > 0 or share is not None
