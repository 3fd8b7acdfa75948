"""What the account did in times that everybody remembers. UTC days, both included."""

from __future__ import annotations

from datetime import date

import msgspec
import numpy as np

from tapeline_lab.reports import series
from tapeline_lab.reports.breakdown import EPOCH
from tapeline_lab.reports.metrics import Daily

FEWEST_DAYS = 3

CRISES: tuple[tuple[str, date, date], ...] = (
    ("Global financial crisis", date(2008, 9, 15), date(2009, 3, 9)),
    ("Flash crash 2010", date(2010, 5, 3), date(2010, 5, 14)),
    ("US downgrade 2011", date(2011, 7, 22), date(2011, 8, 26)),
    ("China devaluation 2015", date(2015, 8, 10), date(2015, 9, 4)),
    ("Bitcoin peak and fall 2018", date(2017, 12, 17), date(2018, 2, 6)),
    ("COVID crash", date(2020, 2, 20), date(2020, 4, 30)),
    ("Crypto sell-off May 2021", date(2021, 5, 8), date(2021, 7, 20)),
    ("Terra and 3AC", date(2022, 5, 5), date(2022, 6, 30)),
    ("FTX", date(2022, 11, 6), date(2022, 11, 30)),
    ("US regional banks 2023", date(2023, 3, 8), date(2023, 3, 24)),
    ("Yen carry unwind 2024", date(2024, 7, 31), date(2024, 8, 9)),
    ("US tariffs 2025", date(2025, 4, 2), date(2025, 4, 30)),
    ("Crypto liquidations October 2025", date(2025, 10, 9), date(2025, 10, 17)),
)


class Crisis(msgspec.Struct, frozen=True):
    """Returns and drawdown over the run's days in the period."""

    name: str
    first: str
    last: str
    days: int
    change: float
    market: float
    drawdown: float


def crises(by_day: Daily) -> list[Crisis]:
    """Those that the run saw at least three days of."""
    found = []
    for name, first, last in CRISES:
        inside = (by_day.day >= (first - EPOCH).days) & (by_day.day <= (last - EPOCH).days)
        if int(np.count_nonzero(inside)) < FEWEST_DAYS:
            continue
        returns = by_day.returns[inside]
        found.append(
            Crisis(
                name,
                first.isoformat(),
                last.isoformat(),
                len(returns),
                series.cumulative_return(returns),
                series.cumulative_return(by_day.market[inside]),
                series.max_drawdown(returns),
            )
        )
    return found
