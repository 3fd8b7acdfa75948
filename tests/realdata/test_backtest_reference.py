"""A backtest on recorded Bitcoin minutes equals a plain loop to the last digit, and itself when run again."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from tests.backtesting import EMA, backtest, reference_ema_cross

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
MINUTES = DATA / "crypto" / "bitfinex" / "1m"
BITCOIN = MINUTES / "BTCUSD_2018-01_2019-07.parquet"
ETHER = MINUTES / "ETHUSD_2019-01_2019-05.parquet"
SMALL = DATA / "crypto" / "freqtrade_fixtures" / "1m" / "UNITTEST_BTC_2017-11.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BITCOIN.is_file(), reason=f"no recorded minutes at {MINUTES} (set TAPELINE_DATA)"),
]


def test_bitcoin_minutes_equal_the_plain_loop_and_repeat() -> None:
    """Orders, fees and equity of 773,837 minutes are those of a plain loop; the tape hash is the same every time."""
    first = backtest(*EMA, "--fee", "0.001", "--data", str(BITCOIN))
    again = backtest(*EMA, "--fee", "0.001", "--data", str(BITCOIN))
    fills, orders, fees, equity = reference_ema_cross(
        BITCOIN, fast=10, slow=30, size=Decimal(1), cash=Decimal(1_000_000), fee=Decimal("0.001")
    )

    assert first["bars"] == 773_837
    assert (first["orders"], first["fills"]) == (orders, len(fills))
    assert Decimal(first["fees"]) == fees
    assert Decimal(first["final_equity"]) == equity
    assert isinstance(first["final_equity"], str)
    assert first["tape_hash"] == again["tape_hash"]
    assert first["gear"] == "loop"


@pytest.mark.parametrize(
    ("fast", "slow", "size", "fee"), [(5, 20, "0.5", "0"), (21, 55, "3", "0.00075"), (2, 3, "1", "0.001")]
)
@pytest.mark.parametrize("file", [ETHER, SMALL], ids=lambda file: file.stem)
def test_other_files_and_parameters_equal_the_plain_loop(file: Path, fast: int, slow: int, size: str, fee: str) -> None:
    """The same holds for other instruments, parameters, sizes and fees."""
    found = backtest(
        *("--strategy", "ema_cross", "--param", f"fast={fast}", "--param", f"slow={slow}", "--size", size),
        *("--cash", "1000000", "--fee", fee, "--data", str(file)),
    )
    fills, orders, fees, equity = reference_ema_cross(
        file, fast=fast, slow=slow, size=Decimal(size), cash=Decimal(1_000_000), fee=Decimal(fee)
    )

    assert (found["orders"], found["fills"]) == (orders, len(fills))
    assert Decimal(found["fees"]) == fees
    assert Decimal(found["final_equity"]) == equity
