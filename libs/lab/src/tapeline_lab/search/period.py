"""A period of time in a call: which bars are meant. Nothing is cut here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

NS_PER_S = 1_000_000_000
FOREVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Period:
    """From the first bar that opens at ``from_ns`` or later to the last that opens before ``to_ns``."""

    from_ns: int
    to_ns: int


class PeriodType(click.ParamType):  # type: ignore[type-arg]
    """``FROM..TO`` in UTC: dates or ISO times, FROM included, TO not; one of them may be left out."""

    name = "from..to"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Period:
        low, separator, high = str(value).partition("..")
        try:
            if not separator or not (low or high):
                raise ValueError
            period = Period(_ns(low) if low else 0, _ns(high) if high else FOREVER_NS)
        except ValueError:
            self.fail(f"{value!r} is no period such as 2019-01-01..2019-02-01", param, ctx)
        if period.from_ns >= period.to_ns:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        return period


def _ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000
