"""Money, positions, trades, and why there was none: equity, profit and loss, tables of trades and decisions."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import (
    INSTRUMENT,
    STRATEGY,
    WHAT_HAPPENED,
    Board,
    Colour,
    Column,
    Panel,
    Prom,
    Section,
    Show,
    Sql,
    Unit,
    money,
)

CHOSEN = 'strategy=~"$strategy", instrument=~"$instrument"'
SQL_CHOSEN = "strategy ~ '^(${strategy:regex})$' AND instrument ~ '^(${instrument:regex})$'"

TRADES = f"""\
SELECT to_timestamp(time_ns / 1e9) AS "closed", strategy, instrument, side, quantity::float8,
       entry_price::float8 AS "entry", exit_price::float8 AS "exit", pnl::float8 AS "before costs",
       fees::float8, funding::float8, (pnl - fees + funding)::float8 AS "result",
       (closed_ns - opened_ns) / 1e9 AS "held", decision, pos AS "position"
FROM trades
WHERE time_ns BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo() AND {SQL_CHOSEN}
ORDER BY pos DESC
LIMIT 200"""

DECISIONS = """\
SELECT to_timestamp(time_ns / 1e9) AS "when", type AS "what",
       coalesce(event ->> 'strategy', event -> 'terms' ->> 'strategy') AS "strategy",
       coalesce(event ->> 'instrument', event -> 'terms' ->> 'instrument') AS "instrument",
       event ->> 'reason' AS "reason",
       concat_ws(' ', event -> 'terms' ->> 'side', event -> 'terms' ->> 'quantity',
                 'observed ' || (event ->> 'observed'), 'limit ' || (event ->> 'limit'),
                 event ->> 'detail') AS "detail",
       pos AS "position"
FROM (
    SELECT pos, time_ns, type, convert_from(payload, 'UTF8')::jsonb -> 'event' AS event
    FROM tape
    WHERE pos > (SELECT max(pos) FROM projection_offset) - 20000
      AND type IN ('OrderProposed', 'TradeDeclined', 'OrderRefused', 'OrderWithheld', 'TradingHalted', 'TradingResumed')
) AS decided
WHERE coalesce(event ->> 'strategy', event -> 'terms' ->> 'strategy', '') ~ '^(${strategy:regex}|)$'
ORDER BY pos DESC
LIMIT 200"""

MONEY = (
    Panel(
        title="Equity and cash",
        asks="What is the account worth, and how much of it is invested?",
        show=Show.LINES,
        queries=(
            Prom("max by (currency) (tapeline_equity)", legend="equity {{currency}}"),
            Prom("max by (currency) (tapeline_cash)", legend="cash {{currency}}"),
            Prom("max by (currency) (tapeline_equity_peak)", legend="highest equity {{currency}}"),
        ),
        unit=Unit.MONEY,
    ),
    Panel(
        title="Drawdown",
        asks="How far is equity below its highest value?",
        act="At the configured limit trading halts by itself.",
        text="From the highest equity on this tape.",
        show=Show.LINES,
        queries=(Prom("max(tapeline_drawdown_ratio)", legend="drawdown"),),
        unit=Unit.RATIO,
        amber=levels.DRAWDOWN,
        minimum=0,
    ),
    Panel(
        title="Realised profit and loss",
        asks="Which strategy earns on which instrument?",
        text="Of closed quantity, before fees.",
        show=Show.LINES,
        queries=(
            Prom(
                f"sum by (strategy, instrument) (tapeline_realised_pnl{{{CHOSEN}}})",
                legend="{{strategy}} {{instrument}}",
                quiet="the first fill of a strategy makes its position",
            ),
        ),
        unit=Unit.MONEY,
    ),
    Panel(
        title="Costs",
        asks="What does trading cost?",
        text="Since the tape began. Slippage is in the prices already; the others are paid out of cash.",
        show=Show.LINES,
        queries=(
            Prom(f"sum(tapeline_fees{{{CHOSEN}}})", legend="fees", quiet="the first fill of a strategy"),
            Prom(f"sum(tapeline_slippage_cost{{{CHOSEN}}})", legend="slippage", quiet="the first fill of a strategy"),
            Prom(f"-sum(tapeline_funding{{{CHOSEN}}})", legend="funding", quiet="perpetuals that are held"),
            Prom(f"sum(tapeline_borrow_cost{{{CHOSEN}}})", legend="borrowing", quiet="short positions"),
        ),
        unit=Unit.MONEY,
    ),
)

WHERE_IT_IS = (
    Panel(
        title="Positions",
        asks="What is held?",
        show=Show.TABLE,
        queries=(
            Prom(f"sum by (strategy, instrument) (tapeline_position_quantity{{{CHOSEN}}})", table=True),
            Prom(f"sum by (strategy, instrument) (tapeline_position_notional{{{CHOSEN}}})", table=True),
            Prom(f"sum by (strategy, instrument) (tapeline_realised_pnl{{{CHOSEN}}})", table=True),
            Prom(f"sum by (strategy, instrument) (tapeline_unrealised_pnl{{{CHOSEN}}})", table=True),
            Prom(f"sum by (strategy, instrument) (tapeline_fees{{{CHOSEN}}})", table=True),
        ),
        columns=(
            Column("strategy", unit=Unit.TEXT),
            Column("instrument", unit=Unit.TEXT),
            Column("Value #A", "quantity"),
            money("Value #B", "value"),
            money("Value #C", "realised"),
            money("Value #D", "unrealised"),
            money("Value #E", "fees"),
        ),
        unit=Unit.PLAIN,
    ),
    Panel(
        title="Value of positions",
        asks="Where is the risk?",
        text="Signed: below zero is short.",
        show=Show.LINES,
        queries=(
            Prom(
                f"sum by (strategy, instrument) (tapeline_position_notional{{{CHOSEN}}})",
                legend="{{strategy}} {{instrument}}",
            ),
        ),
        unit=Unit.MONEY,
    ),
)

DONE = (
    Panel(
        title="Trades",
        asks="Which trades were closed, and what did they bring?",
        text="From the projection of the tape. `tapeline why POSITION` tells a trade's whole story.",
        show=Show.TABLE,
        queries=(Sql(TRADES),),
        columns=(
            Column("closed", unit=Unit.STAMP),
            money("before costs"),
            money("fees"),
            money("funding"),
            money("result"),
            Column("held", unit=Unit.SECONDS),
        ),
        unit=Unit.PLAIN,
        width=24,
        height=9,
    ),
    Panel(
        title="Trades closed",
        asks="How often does it win?",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (result) (increase(tapeline_trades_closed_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{result}}",
            ),
        ),
        colours={"win": Colour.GREEN, "loss": Colour.PURPLE, "flat": Colour.GREY},
    ),
    Panel(
        title="Result of trades",
        asks="How are results spread?",
        text="After fees and funding, in account currency.",
        show=Show.HEAT,
        queries=(
            Prom(
                'sum by (le) (increase(tapeline_trade_pnl_bucket{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{le}}",
            ),
        ),
        unit=Unit.MONEY,
    ),
)

NOT_DONE = (
    Panel(
        title="Declined by strategies",
        asks="Why did strategies stand aside?",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (reason) (increase(tapeline_declines_total{strategy=~"$strategy"}[$__rate_interval])) > 0',
                legend="{{reason}}",
                quiet=WHAT_HAPPENED,
            ),
        ),
    ),
    Panel(
        title="Refused by risk",
        asks="Why did risk say no?",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (reason) (increase(tapeline_refusals_total{strategy=~"$strategy"}[$__rate_interval])) > 0',
                legend="{{reason}}",
                quiet=WHAT_HAPPENED,
            ),
        ),
    ),
    Panel(
        title="Share of proposals that risk refuses",
        asks="Do strategies and limits fit together?",
        act="Many refusals for one reason: a limit is tight, or a strategy repeats itself.",
        show=Show.LINES,
        queries=(
            Prom(
                'sum by (strategy) (rate(tapeline_refusals_total{strategy=~"$strategy"}[15m]))'
                " / on (strategy) (sum by (strategy) (rate(tapeline_refusals_total[15m]))"
                " + on (strategy) sum by (strategy) (rate(tapeline_approvals_total[15m])) > 0)",
                legend="{{strategy}}",
                quiet="strategies that proposed something within 15 minutes",
            ),
        ),
        unit=Unit.RATIO,
        amber=levels.REFUSALS,
        minimum=0,
        maximum=1,
    ),
    Panel(
        title="Bars judged",
        asks="Are strategies awake?",
        text="Every bar a strategy judged: quiet ones, proposals and declines.",
        show=Show.STACK,
        queries=(
            Prom(
                'sum by (outcome) (rate(tapeline_bars_judged_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{outcome}}",
            ),
        ),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Decisions",
        asks="What was decided, and why?",
        text="Of the last 20,000 facts on the tape. `tapeline why POSITION` tells more.",
        show=Show.TABLE,
        queries=(Sql(DECISIONS),),
        columns=(Column("when", unit=Unit.STAMP),),
        unit=Unit.PLAIN,
        width=24,
        height=10,
    ),
)

BOARD = Board(
    name="trading",
    title="Trading",
    asks="What does it trade, what does it bring, and why does it not trade?",
    variables=(STRATEGY, INSTRUMENT),
    sections=(
        Section("Money", MONEY),
        Section("Positions", WHERE_IT_IS),
        Section("Trades", DONE),
        Section("Decisions", NOT_DONE),
    ),
)
