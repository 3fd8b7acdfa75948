"""One screen for the first look: is it safe, is it making money, is it healthy; in this order."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import Board, Colour, Level, Panel, Prom, Section, Show, Unit, Word

GOOD, WARNING, BAD = Colour.GREEN, Colour.AMBER, Colour.RED

TRADING_STATE = (
    'sum(max by (state) (tapeline_trading_state{state="HALTED"}))'
    ' + 2 * sum(max by (state) (tapeline_trading_state{state="FLATTENING"}))'
)
STATE_WORDS = (Word(0, "RUNNING", GOOD), Word(1, "HALTED", WARNING), Word(2, "FLATTENING", WARNING))

LOSS_LIMITS = 'max by (limit) (tapeline_limit_used{limit=~"daily_loss|drawdown"}) / max by (limit) (tapeline_limit > 0)'
"""Used of each limit at which trading halts."""

PAGING = (
    'count(ALERTS{alertstate="firing", severity="page"})'
    ' or 0 * count(ALERTS{alertstate="firing", alertname="Watchdog"})'
)
"""How many alerts page; nothing, rather than zero, if no rules are evaluated."""

SAFE = (
    Panel(
        title="Trading",
        asks="May it trade?",
        text="Risk's own state. While halted nothing is approved or sent; positions stay.",
        act="`tapeline why` on the last TradingHalted tells the reason; `tapeline resume` once it is understood.",
        show=Show.NUMBER,
        queries=(Prom(TRADING_STATE),),
        unit=Unit.PLAIN,
        words=STATE_WORDS,
        alert="TradingHalted",
        width=4,
        height=4,
    ),
    Panel(
        title="Alerts that page",
        asks="Is somebody being called?",
        text="Firing alerts of severity page. Not known unless the alert that always fires does.",
        act="Open Alertmanager; each alert names its runbook.",
        show=Show.NUMBER,
        queries=(Prom(PAGING),),
        unit=Unit.PLAIN,
        red=Level("", 1),
        width=4,
        height=4,
    ),
    Panel(
        title="Oldest order of unknown outcome",
        asks="Is there an order of which nobody knows whether it lives?",
        act="Look the order up at the venue; nothing else opens risk that cannot be seen.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_unknown_order_age_seconds)"),),
        unit=Unit.SECONDS,
        red=levels.UNKNOWN_AGE,
        decimals=0,
        width=4,
        height=4,
    ),
    Panel(
        title="Chain",
        asks="Is the log what was recorded?",
        text="What the ledger's background pass over the log found.",
        act="Halt, keep a copy of the data as it is, then `tapeline verify`.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_chain_faults)"),),
        unit=Unit.PLAIN,
        words=(Word(0, "intact", GOOD), Word(1, "BROKEN", BAD)),
        alert="ChainFault",
        width=4,
        height=4,
    ),
    Panel(
        title="Currencies that differ from the venue",
        asks="Do the books agree with the venue?",
        act="Trading halts by itself. Compare BooksReconciled with the venue's own statement.",
        show=Show.NUMBER,
        queries=(Prom("sum(tapeline_books_differences)", quiet="no venue has reported a balance yet"),),
        unit=Unit.PLAIN,
        red=levels.BOOKS,
        nothing="none reported",
        width=4,
        height=4,
    ),
    Panel(
        title="Loss limits used",
        asks="How near are the limits that halt trading?",
        text="Of those that are configured.",
        act="Trading halts by itself at the limit; below it, decide whether to reduce.",
        show=Show.GAUGES,
        queries=(Prom(LOSS_LIMITS, legend="{{limit}}"),),
        unit=Unit.RATIO,
        amber=levels.LOSS_NEAR,
        red=levels.LOSS_REACHED,
        nothing="no limit set",
        minimum=0,
        maximum=1,
        decimals=0,
        width=4,
        height=4,
    ),
)

MONEY = (
    Panel(
        title="Equity",
        asks="What is the account worth?",
        text="Cash and positions at their last prices, in account currency.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_equity)"),),
        unit=Unit.MONEY,
        decimals=2,
        width=4,
        height=6,
    ),
    Panel(
        title="Change in the time shown",
        asks="What did it earn?",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_equity)"),),
        calc="diff",
        unit=Unit.MONEY,
        decimals=2,
        width=4,
        height=6,
    ),
    Panel(
        title="Equity and its highest value",
        asks="Where does it go?",
        show=Show.LINES,
        queries=(Prom("max(tapeline_equity)", legend="equity"), Prom("max(tapeline_equity_peak)", legend="highest")),
        unit=Unit.MONEY,
        colours={"equity": Colour.BLUE, "highest": Colour.GREY},
        width=8,
        height=6,
    ),
    Panel(
        title="Profit and loss by strategy",
        asks="Who earns it?",
        text="Realised and unrealised, before fees, funding and borrowing; equity is after them.",
        show=Show.LINES,
        queries=(
            Prom(
                "sum by (strategy) (tapeline_realised_pnl) + sum by (strategy) (tapeline_unrealised_pnl)",
                legend="{{strategy}}",
            ),
        ),
        unit=Unit.MONEY,
        width=8,
        height=6,
    ),
)

HEALTH = (
    Panel(
        title="Services down",
        asks="Is everybody there?",
        text="Scrapes that fail.",
        act="`tapeline status`, then the end of the service's log. It is started again by itself.",
        show=Show.NUMBER,
        queries=(Prom('count(up{job="tapeline"} == 0) or 0 * count(up{job="tapeline"})'),),
        unit=Unit.PLAIN,
        red=Level("ServiceDown", 1),
        width=4,
        height=4,
    ),
    Panel(
        title="Services stopped at a fact",
        asks="Did anybody's code fail?",
        act="The last line of its log names the position; nothing after it is decided by that service.",
        show=Show.NUMBER,
        queries=(Prom("sum(max by (service) (tapeline_stopped))"),),
        unit=Unit.PLAIN,
        red=Level("ServiceStopped", 1),
        width=4,
        height=4,
    ),
    Panel(
        title="Longest behind the tape",
        asks="Does everybody keep up?",
        act="Look at the board Ledger and machines: who is behind, and is its processor busy?",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_lag_seconds)"),),
        unit=Unit.SECONDS,
        amber=levels.LAG,
        decimals=1,
        width=4,
        height=4,
    ),
    Panel(
        title="Longest silence of a feed",
        asks="Do prices come?",
        text="As a fraction of the silence that is allowed: until the next bar is due, and half of that more "
        "(an hour where bars have no fixed length).",
        act="Orders are refused while the price is stale. Look at the board Market data.",
        show=Show.NUMBER,
        queries=(Prom(f"max({levels.silence()})"),),
        unit=Unit.RATIO,
        red=levels.FEED_STALE,
        decimals=0,
        width=4,
        height=4,
    ),
    Panel(
        title="Servers down",
        asks="Do Postgres and NATS answer?",
        text="Of these two.",
        act="Without either nothing new is decided; services wait and go on by themselves.",
        show=Show.NUMBER,
        queries=(Prom("2 - max(tapeline_postgres_up) - max(tapeline_nats_server_up)"),),
        unit=Unit.PLAIN,
        red=Level("PostgresDown", 1),
        width=4,
        height=4,
    ),
    Panel(
        title="Least free disk",
        asks="Is there room?",
        act="Make room before the log cannot be written: then nothing is decided any more.",
        show=Show.NUMBER,
        queries=(Prom("min(tapeline_disk_free_bytes / tapeline_disk_size_bytes)"),),
        unit=Unit.RATIO,
        red=levels.DISK_FREE,
        falling=True,
        decimals=0,
        width=4,
        height=4,
    ),
)

BOARD = Board(
    name="overview",
    title="Overview",
    asks="Is it safe, is it making money, is it healthy?",
    sections=(
        Section("Is it safe?", SAFE),
        Section("Is it making money?", MONEY),
        Section("Is it healthy?", HEALTH),
    ),
)
