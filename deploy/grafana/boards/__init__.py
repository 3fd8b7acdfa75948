"""The boards, in the order in which people look at them."""

from __future__ import annotations

from deploy.grafana.board import Board
from deploy.grafana.boards import backtests, bandit, execution, ledger, market_data, overview, regimes, risk, trading

BOARDS: tuple[Board, ...] = (
    overview.BOARD,
    trading.BOARD,
    risk.BOARD,
    execution.BOARD,
    regimes.BOARD,
    bandit.BOARD,
    market_data.BOARD,
    ledger.BOARD,
    backtests.BOARD,
)
