"""Limits and how much of them is used, exposure, refusals, halts, and orders of unknown outcome."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import (
    INSTRUMENT,
    STRATEGY,
    Board,
    Colour,
    Column,
    Panel,
    Prom,
    Section,
    Show,
    Unit,
    Word,
    money,
)
from deploy.grafana.boards.overview import LOSS_LIMITS, STATE_WORDS, TRADING_STATE

STATE = (
    Panel(
        title="Trading",
        asks="When was trading halted or flattening?",
        act="The reason is in TradingHalted; see the board Trading, Decisions.",
        show=Show.BAND,
        queries=(Prom(TRADING_STATE, legend="state"),),
        unit=Unit.PLAIN,
        words=STATE_WORDS,
        alert="TradingHalted",
        height=5,
    ),
    Panel(
        title="Strategies disabled",
        asks="Who may not open anything?",
        show=Show.BAND,
        queries=(Prom('max by (strategy) (tapeline_strategy_disabled{strategy=~"$strategy"})', legend="{{strategy}}"),),
        unit=Unit.PLAIN,
        words=(Word(0, "may trade", Colour.GREEN), Word(1, "disabled", Colour.BLUE)),
        height=5,
    ),
    Panel(
        title="Halts",
        asks="What halted trading?",
        show=Show.BARS,
        queries=(Prom("sum by (reason) (increase(tapeline_halts_total[$__rate_interval]))", legend="{{reason}}"),),
    ),
    Panel(
        title="Limits breached",
        asks="Which limit stopped it?",
        show=Show.BARS,
        queries=(
            Prom("sum by (limit) (increase(tapeline_limits_breached_total[$__rate_interval]))", legend="{{limit}}"),
        ),
    ),
)

LIMITS = (
    Panel(
        title="Loss limits used",
        asks="How near are the limits that halt trading?",
        act="Reduce, or let the limit do its work: trading halts by itself.",
        show=Show.LINES,
        queries=(Prom(LOSS_LIMITS, legend="{{limit}}"),),
        unit=Unit.RATIO,
        amber=levels.LOSS_NEAR,
        red=levels.LOSS_REACHED,
        minimum=0,
    ),
    Panel(
        title="Limits",
        asks="What is allowed?",
        text="A limit that is not configured has no value.",
        show=Show.TABLE,
        queries=(
            Prom("max by (limit) (tapeline_limit_used)", table=True),
            Prom("max by (limit) (tapeline_limit)", table=True),
        ),
        columns=(
            Column("limit", unit=Unit.TEXT),
            money("Value #A", "used"),
            money("Value #B", "allowed"),
        ),
        unit=Unit.PLAIN,
    ),
    Panel(
        title="Exposure",
        asks="How much is in the market?",
        text="Gross: the values of all positions. Net: long less short. In account currency.",
        show=Show.LINES,
        queries=(
            Prom("sum(tapeline_gross_exposure)", legend="gross"),
            Prom("sum(tapeline_net_exposure)", legend="net"),
            Prom(
                'max(tapeline_limit{limit="gross_exposure"})', legend="allowed gross", quiet="the limit may not be set"
            ),
        ),
        unit=Unit.MONEY,
        colours={"allowed gross": Colour.GREY},
    ),
    Panel(
        title="Value of positions",
        asks="On which instruments?",
        show=Show.LINES,
        queries=(
            Prom(
                'sum by (instrument) (tapeline_position_notional{instrument=~"$instrument", strategy=~"$strategy"})',
                legend="{{instrument}}",
            ),
        ),
        unit=Unit.MONEY,
    ),
)

SAYING_NO = (
    Panel(
        title="Refusals",
        asks="Why did risk say no?",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (reason) (increase(tapeline_refusals_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{reason}}",
            ),
        ),
    ),
    Panel(
        title="Approved and refused",
        asks="How much of what is proposed passes?",
        show=Show.BARS,
        queries=(
            Prom('sum(increase(tapeline_approvals_total{strategy=~"$strategy"}[$__rate_interval]))', legend="approved"),
            Prom('sum(increase(tapeline_refusals_total{strategy=~"$strategy"}[$__rate_interval]))', legend="refused"),
        ),
        colours={"approved": Colour.GREEN, "refused": Colour.PURPLE},
    ),
    Panel(
        title="Orders that hold part of a limit",
        asks="How many orders are reserved for?",
        text="Approved orders that have not ended: what they may still use counts as used.",
        show=Show.LINES,
        queries=(Prom("max(tapeline_reserved_orders)", legend="reserved"),),
    ),
    Panel(
        title="Withheld",
        asks="Which approved orders were not sent after all?",
        show=Show.BARS,
        queries=(
            Prom("sum by (reason) (increase(tapeline_orders_withheld_total[$__rate_interval]))", legend="{{reason}}"),
        ),
    ),
)

TRUST = (
    Panel(
        title="Orders of unknown outcome",
        asks="What may live at the venue without our knowing?",
        act="Look the order up at the venue. It ends as UNKNOWN only when the venue has told.",
        show=Show.LINES,
        queries=(Prom("max(tapeline_unknown_order_age_seconds)", legend="age of the oldest"),),
        unit=Unit.SECONDS,
        red=levels.UNKNOWN_AGE,
        minimum=0,
        width=12,
    ),
    Panel(
        title="Differences between the books and the venue",
        asks="Do the books agree?",
        act="Trading halts by itself; compare the last BooksReconciled with the venue's statement.",
        show=Show.LINES,
        queries=(
            Prom("max by (venue) (tapeline_books_differences)", legend="{{venue}}", quiet="no balance reported yet"),
        ),
        red=levels.BOOKS,
        minimum=0,
        width=12,
    ),
    Panel(
        title="Since the last reconciliation",
        asks="How old is that answer?",
        act="The venue's balances come with its fills: if there were some since, find out why they were not compared.",
        show=Show.LINES,
        queries=(
            Prom(
                "time() - max by (venue) (tapeline_books_reconciled_time_seconds > 0)",
                legend="{{venue}}",
                quiet="no balance reported yet",
            ),
        ),
        unit=Unit.SECONDS,
        alert="ReconciliationStale",
        minimum=0,
        width=12,
    ),
    Panel(
        title="Impossible reports of the venue",
        asks="Did an order do what its state does not allow?",
        act="Trading halts by itself; LifecycleViolated names the order and what was said.",
        show=Show.BARS,
        queries=(Prom("sum(increase(tapeline_lifecycle_violations_total[$__rate_interval]))", legend="violations"),),
        alert="LifecycleViolation",
        width=12,
    ),
)

BOARD = Board(
    name="risk",
    title="Risk",
    asks="What is allowed, how much of it is used, and who was told no?",
    variables=(STRATEGY, INSTRUMENT),
    sections=(
        Section("State", STATE),
        Section("Limits", LIMITS),
        Section("Saying no", SAYING_NO),
        Section("Can it be trusted?", TRUST),
    ),
)
