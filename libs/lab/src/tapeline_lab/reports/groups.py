"""Trades in groups, as Freqtrade's users know them: by instrument, by what opened them, by what closed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tapeline_backtest.session import Session, Trade
from tapeline_common.values import Regime
from tapeline_lab.reports.trades import TradeFigures, trade_figures


class Group(msgspec.Struct, frozen=True):
    """Trades that have something in common. ``share`` is their profit as a fraction of the start cash."""

    name: str
    figures: TradeFigures
    share: float


class Groups(msgspec.Struct, frozen=True):
    instruments: tuple[Group, ...]
    entries: tuple[Group, ...]
    exits: tuple[Group, ...]
    strategies: tuple[Group, ...]


def groups(session: Session) -> Groups:
    """Every way of grouping; instruments and strategies without a trade are there too."""
    cash = float(session.report.start_cash)

    def by(name: Callable[[Trade], str], known: Sequence[str] = ()) -> tuple[Group, ...]:
        found: dict[str, list[Trade]] = {each: [] for each in known}
        for trade in session.trades:
            found.setdefault(name(trade), []).append(trade)
        rows = [_group(each, some, cash) for each, some in found.items()]
        return tuple(sorted(rows, key=lambda row: (-row.figures.net_profit, row.name)))

    return Groups(
        by(lambda trade: session.name(trade.instrument), [session.name(each) for each in session.bars]),
        by(entry_reason),
        by(lambda trade: trade.exit),
        by(lambda trade: trade.strategy, list(session.strategies)),
    )


def total(session: Session) -> Group:
    return _group("TOTAL", session.trades, float(session.report.start_cash))


def entry_reason(trade: Trade) -> str:
    """``strategy/preset/regime`` when the opening order was proposed; what did not play a part is left out."""
    regime = "" if trade.regime is Regime.UNKNOWN else trade.regime
    return "/".join(part for part in (trade.strategy, trade.preset, regime) if part)


def _group(name: str, trades: Sequence[Trade], cash: float) -> Group:
    figures = trade_figures(trades)
    return Group(name, figures, figures.net_profit / cash if cash else 0.0)
