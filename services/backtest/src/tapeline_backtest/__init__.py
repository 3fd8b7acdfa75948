"""See README.md of this service. For notebooks and scripts there is ``tapeline_backtest.run``, of ``api``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline_backtest.api import Result, RunRefused, run

__all__ = ["Result", "RunRefused", "run"]


def __getattr__(name: str) -> Any:
    """Commands and workers import this package without paying for what notebooks need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tapeline_backtest import api

    return getattr(api, name)
