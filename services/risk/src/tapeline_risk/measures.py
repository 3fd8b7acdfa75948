"""What risk measures: its decisions by reason, whether trading runs, and how much of each limit is used."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tapeline_common.events import LimitBreached, OrderApproved, OrderRefused, TradingHalted
from tapeline_common.measures import Kind, Labels, Measure, Measures, Reading, one_hot
from tapeline_common.values import HaltReason, Refusal, TradingState
from tapeline_risk.core import State, daily_loss, drawdown, gross_exposure, open_positions

GROSS_EXPOSURE, OPEN_POSITIONS, DAILY_LOSS, DRAWDOWN = "gross_exposure", "open_positions", "daily_loss", "drawdown"
BREACHED = {HaltReason.DAILY_LOSS: DAILY_LOSS, HaltReason.DRAWDOWN: DRAWDOWN}
"""The limits whose breach is a fact; the others refuse orders."""

RISK = "risk"
OF_LIMIT = "account currency, or positions"


def _limits(state: State, _now_ns: int) -> Reading:
    limits = state.limits
    if limits is None:
        return []
    settings: dict[str, Decimal | int | None] = {
        GROSS_EXPOSURE: limits.max_gross_exposure,
        OPEN_POSITIONS: limits.max_open_positions,
        DAILY_LOSS: limits.max_daily_loss,
        DRAWDOWN: limits.max_drawdown,
    }
    return [((name,), float(limit)) for name, limit in settings.items() if limit is not None]


def _used(state: State, now_ns: int) -> Iterator[tuple[Labels, float]]:
    yield (GROSS_EXPOSURE,), float(gross_exposure(state))
    yield (OPEN_POSITIONS,), float(open_positions(state))
    yield (DAILY_LOSS,), max(0.0, float(daily_loss(state, now_ns)))
    fall = drawdown(state)
    if fall is not None:
        yield (DRAWDOWN,), max(0.0, float(fall))


MEASURES = Measures(
    (
        Measure(
            name="tapeline_approvals_total",
            kind=Kind.COUNTER,
            text="Orders approved",
            labels=("strategy",),
            unit="orders",
            count={OrderApproved: lambda seen: (seen.event.terms.strategy,)},
        ),
        Measure(
            name="tapeline_refusals_total",
            kind=Kind.COUNTER,
            text="Orders refused, by the limit that refused them",
            labels=("strategy", "reason"),
            values={"reason": tuple(Refusal)},
            unit="orders",
            count={OrderRefused: lambda seen: (seen.event.strategy, seen.event.reason)},
        ),
        Measure(
            name="tapeline_trading_state",
            kind=Kind.GAUGE,
            text="1 for what may be sent now (anything approved, nothing, only what flattens), 0 for the others",
            labels=("state",),
            values={"state": tuple(TradingState)},
            of=RISK,
            read=lambda state, _now_ns: one_hot((), state.trading, TradingState),
            appears="once restored",
        ),
        Measure(
            name="tapeline_halts_total",
            kind=Kind.COUNTER,
            text="Times that trading was halted",
            labels=("reason",),
            values={"reason": tuple(HaltReason)},
            unit="halts",
            count={TradingHalted: lambda seen: (seen.event.reason,)},
        ),
        Measure(
            name="tapeline_strategy_disabled",
            kind=Kind.GAUGE,
            text="1 while a strategy is disabled, else 0",
            labels=("strategy",),
            of=RISK,
            read=lambda state, _now_ns: [((strategy,), 1.0) for strategy in state.disabled],
            is_zero_without=True,
        ),
        Measure(
            name="tapeline_limit",
            kind=Kind.GAUGE,
            text="The limit; there is none for what is not limited",
            labels=("limit",),
            unit=OF_LIMIT,
            of=RISK,
            read=_limits,
            appears="while the limit is set",
        ),
        Measure(
            name="tapeline_limit_used",
            kind=Kind.GAUGE,
            text="What the limit is held against, the worst case of open orders included; a drawdown is measured while "
            "it is limited",
            labels=("limit",),
            unit=OF_LIMIT,
            of=RISK,
            read=lambda state, now_ns: list(_used(state, now_ns)),
            appears="once restored",
        ),
        Measure(
            name="tapeline_limits_breached_total",
            kind=Kind.COUNTER,
            text="Times that a loss reached its limit",
            labels=("limit",),
            values={"limit": tuple(BREACHED.values())},
            unit="breaches",
            count={LimitBreached: lambda seen: (BREACHED[seen.event.reason],)},
        ),
        Measure(
            name="tapeline_reserved_orders",
            kind=Kind.GAUGE,
            text="Approved orders of which something is still open",
            unit="orders",
            of=RISK,
            read=lambda state, _now_ns: [((), float(len(state.reserved)))],
            appears="once restored",
        ),
    )
)
