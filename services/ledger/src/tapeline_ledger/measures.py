"""What the ledger measures: the tape and its chain, the account as the books have it, and the servers around it.

Money is in account currency, except where a position is told: there it is in the instrument's quote currency, which
configuration makes the same. What is read from ``recorder``, ``server``, ``door`` and ``chain`` are parts of the
process, exposed by it under these names; what has no reading here is told by ``surroundings``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import (
    SAYS,
    AccountFunded,
    BooksReconciled,
    BorrowPosted,
    EquityMarked,
    FundingPosted,
    LifecycleViolated,
    OrderFilled,
    TradeClosed,
)
from tapeline_common.measures import (
    COUNTS,
    LATENCIES,
    NS_PER_S,
    Kind,
    Labels,
    Measure,
    Measures,
    Number,
    Reading,
    Seen,
    Watched,
)
from tapeline_common.money import ZERO
from tapeline_common.values import AppendRefusal, ControlRefusal
from tapeline_ledger.books import Position
from tapeline_ledger.core import State, cash, equity, exposure, is_counted_at, net_exposure

UNKNOWN = "unknown"
VERBS = ("halt", "flatten", "disable_strategy", "resume", "enable_strategy", "promote", "rollback")
"""``control_request.Action``, which a pure module cannot import: it checks signatures."""

OUTCOMES = ("recorded", "refused")

PNL_EDGES = (-10_000.0, -1_000.0, -100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)

ACCOUNT = "account currency"
QUOTE = "quote currency"
HELD = ("strategy", "instrument")

Read = Callable[[Any, int], Reading]


def _plain(read: Callable[[Any], float | None]) -> Read:
    """A reading without labels; ``None``: there is nothing to tell yet."""

    def reading(part: Any, _now_ns: int) -> Reading:
        value = read(part)
        return [] if value is None else [((), value)]

    return reading


def _in_currency(read: Callable[[State], Decimal]) -> Read:
    def reading(state: State, _now_ns: int) -> Reading:
        return [((state.currency,), float(read(state)))] if state.currency else []

    return reading


def _of_positions(read: Callable[[Position, Decimal], Decimal]) -> Read:
    """A reading of each position and the last price of its instrument."""

    def reading(state: State, _now_ns: int) -> Reading:
        found = []
        for instrument, holders in state.books.positions.items():
            price = Decimal(state.prices[instrument])
            found += [((strategy, instrument), float(read(position, price))) for strategy, position in holders.items()]
        return found

    return reading


# ---- the tape ------------------------------------------------------------------------------------------------------


def _progress_lag(door: Any, _now_ns: int) -> Reading:
    head = door.recorder.head
    return [((name,), float(max(0, head - pos))) for name, (pos, _) in door.heard.items() if name != "ledger"]


def _progress_time(door: Any, now_ns: int) -> Reading:
    ages = door.ages_s()
    return [((name,), now_ns / NS_PER_S - age_s) for name, age_s in ages.items() if name != "ledger"]


TAPE: tuple[Measure, ...] = (
    Measure(
        name="tapeline_head_position",
        kind=Kind.GAUGE,
        text="Position of the last durable fact",
        unit="position",
        of="recorder",
        read=_plain(lambda recorder: recorder.head),
        appears="in the live realm, once the log is restored",
    ),
    Measure(
        name="tapeline_head_time_seconds",
        kind=Kind.GAUGE,
        text="Stamp of the last fact",
        of="recorder",
        read=_plain(lambda recorder: recorder.head_time_ns / NS_PER_S),
        appears="in the live realm, once the log is restored",
    ),
    Measure(
        name="tapeline_announced_position",
        kind=Kind.GAUGE,
        text="Position of the last fact announced on the bus",
        unit="position",
        of="server",
        read=_plain(lambda server: server.announced),
        appears="in the live realm, once the log is restored",
    ),
    Measure(
        name="tapeline_mirror_lag_facts",
        kind=Kind.GAUGE,
        text="Facts that the mirror in JetStream is behind the head",
        of="server",
        read=_plain(
            lambda server: max(0, server.recorder.head - server.mirror_state.pos) if server.mirror_state else None
        ),
        appears="in the live realm, once the log is restored",
    ),
    Measure(
        name="tapeline_commit_seconds",
        kind=Kind.HISTOGRAM,
        text="Time to commit a group of facts",
        edges=LATENCIES,
        of="recorder",
        read=_plain(lambda recorder: recorder.counts.commit_seconds),
    ),
    Measure(
        name="tapeline_commit_facts",
        kind=Kind.HISTOGRAM,
        text="Facts of one commit",
        edges=COUNTS,
        of="recorder",
        read=_plain(lambda recorder: recorder.counts.commit_facts),
    ),
    Measure(
        name="tapeline_publish_seconds",
        kind=Kind.HISTOGRAM,
        text="Time from the end of a commit to the announcement of its facts",
        edges=LATENCIES,
        of="recorder",
        read=_plain(lambda recorder: recorder.counts.publish_seconds),
    ),
    Measure(
        name="tapeline_answers_refused_total",
        kind=Kind.COUNTER,
        text="Answers that were not recorded; under author `unknown` those of nobody the tables know",
        labels=("author", "reason"),
        values={"author": (*SAYS, UNKNOWN), "reason": tuple(AppendRefusal)},
        unit="answers",
        of="recorder",
        read=lambda recorder, _now_ns: list(recorder.counts.refused.items()),
    ),
    Measure(
        name="tapeline_verified_position",
        kind=Kind.GAUGE,
        text="Every fact up to here was read from disk, hashed again and found right, by the last complete pass or the "
        "one under way",
        unit="position",
        of="chain",
        read=_plain(lambda chain: chain.verified_pos),
        appears="in the live realm",
    ),
    Measure(
        name="tapeline_verified_time_seconds",
        kind=Kind.GAUGE,
        text="End of the last complete pass over the log that found nothing wrong; 0 before the first",
        of="chain",
        read=_plain(lambda chain: chain.verified_ns / NS_PER_S),
        appears="in the live realm",
    ),
    Measure(
        name="tapeline_chain_faults",
        kind=Kind.GAUGE,
        text="1 once a fact at rest does not fit the chain, until a complete pass finds nothing; else 0",
        unit="faults",
        of="chain",
        read=_plain(lambda chain: float(chain.fault is not None)),
        appears="in the live realm",
    ),
    Measure(
        name="tapeline_progress_lag_facts",
        kind=Kind.GAUGE,
        text="Facts between the head and what a service says it has heard",
        labels=("follower",),
        of="door",
        read=_progress_lag,
        appears="once a service has said how far it has heard",
    ),
    Measure(
        name="tapeline_progress_time_seconds",
        kind=Kind.GAUGE,
        text="When a service last said how far it has heard",
        labels=("follower",),
        of="door",
        read=_progress_time,
        appears="once a service has said how far it has heard",
    ),
    Measure(
        name="tapeline_control_requests_total",
        kind=Kind.COUNTER,
        text="Control requests, by what was asked and whether it was recorded",
        labels=("verb", "outcome"),
        values={"verb": (*VERBS, UNKNOWN), "outcome": OUTCOMES},
        unit="requests",
        of="door",
        read=lambda door, _now_ns: list(door.requests.items()),
    ),
    Measure(
        name="tapeline_control_refusals_total",
        kind=Kind.COUNTER,
        text="Control requests that changed nothing, by reason",
        labels=("reason",),
        values={"reason": tuple(ControlRefusal)},
        unit="requests",
        of="door",
        read=lambda door, _now_ns: [((reason,), count) for reason, count in door.refusals.items()],
    ),
    Measure(
        name="tapeline_lifecycle_violations_total",
        kind=Kind.COUNTER,
        text="Things a venue said that the order could not do",
        unit="facts",
        count={LifecycleViolated: lambda _seen: ()},
    ),
)

# ---- servers and disks ---------------------------------------------------------------------------------------------

_ANSWERS = "while Postgres answers"
_ASKED = "while the NATS server's monitoring answers"


def _told(
    name: str, text: str, *, kind: Kind = Kind.GAUGE, appears: str = "", unit: str = "", labels: Labels = ()
) -> Measure:
    return Measure(name=name, kind=kind, text=text, labels=labels, unit=unit, appears=appears)


SERVERS: tuple[Measure, ...] = (
    _told("tapeline_postgres_up", "1 while Postgres answers, else 0", appears="in the live realm"),
    _told("tapeline_postgres_size_bytes", "Size of the tape's database", appears=_ANSWERS),
    _told("tapeline_postgres_connections", "Connections to the tape's database", appears=_ANSWERS, unit="connections"),
    _told(
        "tapeline_postgres_oldest_transaction_seconds",
        "Age of the oldest transaction that is open, of those the ledger's role may see (its own, unless it is given "
        "more); 0 if there is none",
        appears=_ANSWERS,
    ),
    _told("tapeline_postgres_round_trip_seconds", "Time of a query for nothing", appears=_ANSWERS),
    _told(
        "tapeline_nats_server_up",
        "1 while the NATS server's monitoring answers, else 0",
        appears="in the live realm, where TAPELINE_NATS_MONITOR_URL is set",
    ),
    _told("tapeline_nats_server_connections", "Clients of the NATS server", appears=_ASKED, unit="connections"),
    _told(
        "tapeline_nats_server_slow_consumers_total",
        "Clients that the NATS server dropped for reading too slowly, since it started",
        kind=Kind.COUNTER,
        appears=_ASKED,
        unit="clients",
    ),
    _told("tapeline_nats_server_memory_bytes", "Resident memory of the NATS server", appears=_ASKED),
    _told("tapeline_nats_stored_bytes", "What JetStream holds on disk", appears=_ASKED),
    _told(
        "tapeline_disk_free_bytes",
        "Free space that is not reserved",
        labels=("volume",),
        appears="in the live realm, for the volumes of TAPELINE_DISKS",
    ),
    _told(
        "tapeline_disk_size_bytes",
        "Size of the volume",
        labels=("volume",),
        appears="in the live realm, for the volumes of TAPELINE_DISKS",
    ),
)

# ---- the account ---------------------------------------------------------------------------------------------------


def _account(name: str, text: str, read: Callable[[State], Decimal]) -> Measure:
    return Measure(
        name=name,
        kind=Kind.GAUGE,
        text=text,
        labels=("currency",),
        unit=ACCOUNT,
        of="ledger",
        read=_in_currency(read),
        appears="once a run has started",
    )


def _position(name: str, text: str, unit: str, read: Callable[[Position, Decimal], Decimal]) -> Measure:
    return Measure(
        name=name,
        kind=Kind.GAUGE,
        text=text,
        labels=HELD,
        unit=unit,
        of="ledger",
        read=_of_positions(read),
        is_zero_without=True,
    )


def _closed(seen: Seen) -> Labels:
    result = net_result(seen.event)
    return seen.event.strategy, "flat" if not result else "win" if result > 0 else "loss"


def net_result(trade: TradeClosed) -> Decimal:
    """What a trade left after fees and funding, in quote currency."""
    return trade.pnl - trade.fees + trade.funding


def _traded(seen: Seen) -> Labels | None:
    fill = seen.event
    return (fill.strategy, fill.instrument) if is_counted_at(seen.states["ledger"], fill, seen.stamp.pos) else None


ACCOUNTS: tuple[Measure, ...] = (
    _account("tapeline_equity", "Cash plus positions at last prices", equity),
    _account("tapeline_cash", "Cash in account currency", cash),
    _account("tapeline_gross_exposure", "Positions at last prices, long and short added up", exposure),
    _account("tapeline_net_exposure", "Positions at last prices, short ones subtracted", net_exposure),
    _position(
        "tapeline_position_quantity", "What is held, negative if short", "base units", lambda held, _: held.quantity
    ),
    _position(
        "tapeline_position_notional",
        "What is held at the last price, negative if short",
        QUOTE,
        lambda held, price: held.quantity * price,
    ),
    _position(
        "tapeline_realised_pnl",
        "Result so far, before fees and funding, without what is still open",
        QUOTE,
        lambda held, _: held.realised_pnl,
    ),
    _position(
        "tapeline_unrealised_pnl",
        "Result at the last price of what is still open",
        QUOTE,
        lambda held, price: held.quantity * price - held.cost,
    ),
    _position(
        "tapeline_fees", "Fees of all fills so far; rebates are negative", QUOTE, lambda held, _: held.total_fees
    ),
    Measure(
        name="tapeline_trades_closed_total",
        kind=Kind.COUNTER,
        text="Positions that returned to flat, by their result after fees and funding",
        labels=("strategy", "result"),
        values={"result": ("win", "loss", "flat")},
        unit="trades",
        count={TradeClosed: _closed},
    ),
    Measure(
        name="tapeline_trade_pnl",
        kind=Kind.HISTOGRAM,
        text="Result of a closed trade after fees and funding; its sum may fall",
        labels=("strategy",),
        unit=QUOTE,
        edges=PNL_EDGES,
        observe={TradeClosed: lambda seen: ((seen.event.strategy,), float(net_result(seen.event)))},
    ),
    Measure(
        name="tapeline_traded_notional_total",
        kind=Kind.COUNTER,
        text="Quantity times price of every fill that was counted",
        labels=HELD,
        unit=QUOTE,
        count={OrderFilled: _traded},
        amount=lambda seen: float(seen.event.quantity * seen.event.price),
    ),
    Measure(
        name="tapeline_books_mismatches_total",
        kind=Kind.COUNTER,
        text="Reconciliations that found the books and the venue to differ",
        labels=("venue",),
        unit="reconciliations",
        count={BooksReconciled: lambda seen: (seen.event.venue,) if seen.event.differences else None},
    ),
)

# ---- what the books do not keep ------------------------------------------------------------------------------------

SUMMED: tuple[Measure, ...] = (
    Measure(
        name="tapeline_equity_peak",
        kind=Kind.GAUGE,
        text="Highest equity on this tape, of its marks and now; deposits and withdrawals move it along",
        labels=("currency",),
        unit=ACCOUNT,
        appears="once a run has started",
    ),
    Measure(
        name="tapeline_drawdown_ratio",
        kind=Kind.GAUGE,
        text="How far equity lies below its peak, as a fraction of the peak",
        labels=("currency",),
        appears="once a run has started",
    ),
    Measure(
        name="tapeline_slippage_cost",
        kind=Kind.GAUGE,
        text="What slippage cost on this tape, as the fills tell it; positive against us",
        labels=HELD,
        unit=QUOTE,
        is_zero_without=True,
    ),
    Measure(
        name="tapeline_funding",
        kind=Kind.GAUGE,
        text="Funding received on this tape; negative where it was paid",
        labels=HELD,
        unit=QUOTE,
        is_zero_without=True,
    ),
    Measure(
        name="tapeline_borrow_cost",
        kind=Kind.GAUGE,
        text="What borrowing for short positions cost on this tape",
        labels=HELD,
        unit=QUOTE,
        is_zero_without=True,
    ),
    Measure(
        name="tapeline_books_reconciled_time_seconds",
        kind=Kind.GAUGE,
        text="When the books were last compared with the venue",
        labels=("venue",),
        appears="once a venue has reported balances",
    ),
    Measure(
        name="tapeline_books_differences",
        kind=Kind.GAUGE,
        text="Currencies that differed in the last reconciliation",
        labels=("venue",),
        unit="currencies",
        appears="once a venue has reported balances",
    ),
)


class Sums:
    """What follows from the whole tape and the books need not keep: the peak, costs by kind, reconciliations."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._peak = ZERO
        self._slippage: dict[Labels, Decimal] = {}
        self._funding: dict[Labels, Decimal] = {}
        self._borrowing: dict[Labels, Decimal] = {}
        self._reconciled: dict[str, tuple[int, int]] = {}

    def heard(self, event: Any, stamp: Stamp) -> None:
        match event:
            case OrderFilled():
                if event.slippage and is_counted_at(self._state, event, stamp.pos):
                    _add(self._slippage, (event.strategy, event.instrument), event.slippage * event.quantity)
            case EquityMarked():
                self._peak = max(self._peak, event.equity)
            case FundingPosted():
                _add(self._funding, (event.strategy, event.instrument), event.amount)
            case BorrowPosted():
                _add(self._borrowing, (event.strategy, event.instrument), -event.amount)
            case BooksReconciled():
                self._reconciled[event.venue] = stamp.time_ns, len(event.differences)
            case AccountFunded():
                if event.currency == self._state.currency:
                    self._peak += event.amount

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        state = self._state
        if state.currency:
            now = equity(state)
            peak = max(self._peak, now)
            yield "tapeline_equity_peak", (state.currency,), float(peak)
            yield "tapeline_drawdown_ratio", (state.currency,), float((peak - now) / peak) if peak > 0 else 0.0
        for name, sums in (
            ("tapeline_slippage_cost", self._slippage),
            ("tapeline_funding", self._funding),
            ("tapeline_borrow_cost", self._borrowing),
        ):
            for labels, amount in sums.items():
                yield name, labels, float(amount)
        for venue, (time_ns, differences) in self._reconciled.items():
            yield "tapeline_books_reconciled_time_seconds", (venue,), time_ns / NS_PER_S
            yield "tapeline_books_differences", (venue,), differences


def _add(sums: dict[Labels, Decimal], labels: Labels, amount: Decimal) -> None:
    sums[labels] = sums.get(labels, ZERO) + amount


def _make_sums(states: Mapping[str, Any], _clock: Callable[[], int]) -> Sums:
    return Sums(states["ledger"])


MEASURES = Measures(
    tables=(*TAPE, *SERVERS, *ACCOUNTS),
    watches=(
        Watched(
            measures=SUMMED,
            hears=(AccountFunded, EquityMarked, OrderFilled, FundingPosted, BorrowPosted, BooksReconciled),
            make=_make_sums,
        ),
    ),
)
