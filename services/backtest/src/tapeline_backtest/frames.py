"""A session as polars frames, for notebooks and Parquet files.

Times are UTC with nanoseconds. Money and quantities are float64 here, for computing with them; the exact decimals are
on the tape, and every row names the position of its fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import polars as pl

from tapeline_backtest.session import Decision, Fill, Order, Session, Trade


class FramesMissing(ImportError):
    """polars is not installed; the message says how to get it."""


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise FramesMissing("frames need polars: install tapeline-backtest[notebook]") from None
    return polars


def trades_frame(session: Session) -> pl.DataFrame:
    """One row a closed trade; ``net`` is profit after fees, ``return`` that over the notional at entry."""
    frame = _frame(Trade, session.trades, times=("opened_ns", "closed_ns"))
    columns = _polars().col
    net = columns("pnl") - columns("fees")
    notional = columns("quantity") * columns("entry_price")
    whole: pl.DataFrame = frame.with_columns(net.alias("net"), (net / notional).alias("return"))
    return whole


def fills_frame(session: Session) -> pl.DataFrame:
    """One row an execution; what ``slippage`` is made of is ``cost_latency``, ``cost_spread``, ... where it is told."""
    names = sorted({name for fill in session.fills for name in fill.costs})
    frame = _frame(Fill, session.fills, times=("time_ns",), without=("costs",))
    lists = {f"cost_{name}": [fill.costs.get(name, 0.0) for fill in session.fills] for name in names}
    return frame.with_columns(*(_polars().Series(name, values) for name, values in lists.items()))


def orders_frame(session: Session) -> pl.DataFrame:
    """One row an order, with how it ended."""
    return _frame(Order, session.orders, times=("time_ns",))


def decisions_frame(session: Session) -> pl.DataFrame:
    """One row for each proposal, refusal, declined signal, choice of a preset and halt."""
    return _frame(Decision, session.decisions, times=("time_ns",))


def equity_frame(session: Session) -> pl.DataFrame:
    """Equity at each bar's close, the fall below its high as a fraction, and whether a position was open."""
    import numpy as np

    polars, curve = _polars(), session.curve
    highs = np.maximum.accumulate(curve.equity)
    drawdown = np.divide(highs - curve.equity, highs, out=np.zeros_like(highs), where=highs > 0)
    frame: pl.DataFrame = polars.DataFrame(
        {"time_ns": curve.time_ns, "equity": curve.equity, "drawdown": drawdown, "invested": curve.invested}
    )
    return _timed(frame, ("time_ns",))


def _frame(
    kind: type[msgspec.Struct], rows: Sequence[Any], times: Sequence[str], without: Sequence[str] = ()
) -> pl.DataFrame:
    """Columns of a struct's fields, typed by the field also where there are no rows."""
    polars = _polars()
    columns = []
    for field in msgspec.structs.fields(kind):
        if field.name in without:
            continue
        numeric = field.type in (Decimal, Decimal | None, float)
        dtype = polars.Float64 if numeric else polars.Int64 if field.type is int else polars.String
        values = [_plain(getattr(row, field.name), numeric=numeric) for row in rows]
        columns.append(polars.Series(field.name, values, dtype=dtype))
    return _timed(polars.DataFrame(columns), times)


def _plain(value: Any, *, numeric: bool) -> Any:
    if numeric:
        return None if value is None else float(value)
    return value if isinstance(value, int) else str(value)


def _timed(frame: pl.DataFrame, times: Sequence[str]) -> pl.DataFrame:
    """Nanoseconds as times, under the name without its unit."""
    polars = _polars()
    stamp = polars.Datetime("ns", "UTC")
    return frame.with_columns(*(polars.col(name).cast(stamp) for name in times)).rename(
        {name: name.removesuffix("_ns") for name in times}
    )
