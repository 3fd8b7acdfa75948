"""Files of funding rates: what is read from them, what is refused, and when a backtest says them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from tests.backtesting import write_bars
from tests.trading import BTC

from tapeline_backtest.feed import script, source
from tapeline_common.events import BarClosed, FeedOpened, FundingPublished
from tapeline_marketdata.files import BadFile, read_bars
from tapeline_marketdata.funding import read_funding

HOUR_MS = 3_600_000
FIRST_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def written(folder: Path, *lines: str, header: str = "ts,funding_rate") -> Path:
    path = folder / "rates.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_rates_are_read_exactly(tmp_path: Path) -> None:
    """As printed, with their mark prices where there are any, under the names that exchanges use."""
    file = read_funding(written(tmp_path, f"{FIRST_MS},0.00012345", f"{FIRST_MS + HOUR_MS},-6.12e-06"))
    assert file.time_ns.tolist() == [FIRST_MS * 10**6, (FIRST_MS + HOUR_MS) * 10**6]
    assert (file.rates, file.marks) == ((Decimal("0.00012345"), Decimal("-0.00000612")), None)
    header = "calc_time,funding_interval_hours,last_funding_rate,mark_price"
    marked = read_funding(written(tmp_path, f"{FIRST_MS},8,0.0001,101.5", header=header))
    assert (marked.rates, marked.marks) == ((Decimal("0.0001"),), (Decimal("101.5"),))


@pytest.mark.parametrize(
    ("lines", "header", "said"),
    [
        ((), "ts,rate", "rates.csv: the file has a header but no rates: give one with data"),
        (("1,2",), "ts,price", "rates.csv: missing column rate (or funding_rate, last_funding_rate); it has ts, price"),
        (("1,2",), "when,rate", "rates.csv: missing column ts (or "),
        (
            ("1700000000000,0.1", "1700000000000,0.1"),
            "ts,rate",
            "rates.csv: row 2, column ts: not after the row before",
        ),
        (("1700000000000,1.5",), "ts,rate", "rates.csv: row 1, column rate: 1.5: a rate is a fraction, such as 0.0001"),
        (("1700000000000,much",), "ts,rate", "rates.csv: row 1, column rate: 'much': write a plain number"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, lines: tuple[str, ...], header: str, said: str) -> None:
    """With file, row, value and fix."""
    with pytest.raises(BadFile) as refused:
        read_funding(written(tmp_path, *lines, header=header))
    assert said in str(refused.value)


def test_rates_are_said_at_their_times(tmp_path: Path) -> None:
    """After the bar that closes then, at its close; a moment late between bars; outside the bars not at all."""
    rows = [(FIRST_MS + index * HOUR_MS, 100.0, 120.0, 90.0, 101.0 + index, 1.0) for index in range(3)]
    path = str(write_bars(tmp_path / "bars.parquet", rows))
    times = (FIRST_MS, FIRST_MS + HOUR_MS, FIRST_MS + 2 * HOUR_MS + 1, FIRST_MS + 4 * HOUR_MS)
    rates = read_funding(written(tmp_path, *(f"{ms},0.000{index}" for index, ms in enumerate(times, start=1))))
    one = replace(source(BTC, path, read_bars(path)), funding=rates)

    said = list(script([], [one]))

    opened = [outside.event for outside in said if isinstance(outside.event, FeedOpened)]
    assert [(fact.source, fact.timeframe) for fact in opened] == [("bars.parquet", "1h"), ("rates.csv", "funding")]
    told = [outside for outside in said if isinstance(outside.event, BarClosed | FundingPublished)]
    assert [type(outside.event).__name__[0] for outside in told] == ["B", "F", "B", "F", "B"]
    assert [outside.event for outside in told if isinstance(outside.event, FundingPublished)] == [
        FundingPublished(BTC, Decimal("0.0002"), Decimal("101.0")),
        FundingPublished(BTC, Decimal("0.0003"), Decimal("102.0")),
    ]
    assert [outside.time_ns for outside in told] == sorted(outside.time_ns for outside in told)
    assert len({outside.id for outside in said}) == len(said)


def test_a_mark_price_of_its_own_is_taken(tmp_path: Path) -> None:
    """Whatever the bars closed at."""
    path = str(write_bars(tmp_path / "bars.parquet", [(FIRST_MS, 100.0, 120.0, 90.0, 101.0, 1.0)]))
    header = "ts,rate,mark_price"
    rates = read_funding(written(tmp_path, f"{FIRST_MS + HOUR_MS},0.0001,99.5", header=header))
    one = replace(source(BTC, path, read_bars(path, timeframe="1h")), funding=rates)
    (fact,) = (said.event for said in script([], [one]) if isinstance(said.event, FundingPublished))
    assert fact.mark_price == Decimal("99.5")
