"""A recorded backtest, from its Postgres: what it was, its equity, its trades, and why it did not trade."""

from __future__ import annotations

from deploy.grafana.board import Board, Colour, Column, Panel, Section, Show, Sql, Unit, money

NEEDS = """\
These panels show **one tape in one Postgres**: the tables a backtest leaves with `--record`.

1. Record a run: `tapeline backtest ... --record postgresql://USER:PASSWORD@HOST/DATABASE` (a fresh database that
   Grafana can reach). Without `--record postgres...` a backtest leaves nothing in Postgres; sweeps never do.
2. Add a Postgres data source for that database, user `tapeline_reader`, and choose it above as *Database*. The one
   called *Postgres* is the live tape: the same panels then show the live run.
3. A backtest's stamps are those of its bars: the link in the first column of *The run* sets the time range to them.
"""

RUN = """\
SELECT event ->> 'run' AS "run", event ->> 'realm' AS "realm", event ->> 'currency' AS "currency",
       event ->> 'seed' AS "seed", left(event ->> 'code_version', 12) AS "code",
       (SELECT max(pos) FROM projection_offset) AS "facts",
       (SELECT encode(hash, 'hex') FROM tape WHERE pos = (SELECT max(pos) FROM tape)) AS "hash of the tape",
       (SELECT min(marked_ns) / 1000000 FROM equity) AS "from",
       (SELECT max(marked_ns) / 1000000 FROM equity) AS "to"
FROM (SELECT convert_from(payload, 'UTF8')::jsonb -> 'event' AS event FROM tape WHERE pos = 1) AS first"""

CONFIGURED = """\
SELECT pos AS "position", type AS "what", (event - 'type')::text AS "settings"
FROM (
    SELECT pos, type, convert_from(payload, 'UTF8')::jsonb -> 'event' AS event
    FROM tape
    WHERE pos <= 200 AND author = 'operator' AND type <> 'RunStarted'
) AS configured
ORDER BY pos"""

RESULT = """\
SELECT count(*) AS "trades",
       avg((pnl - fees + funding > 0)::int)::float8 AS "win rate",
       sum(pnl)::float8 AS "before costs", sum(fees)::float8 AS "fees", sum(funding)::float8 AS "funding",
       sum(pnl - fees + funding)::float8 AS "result",
       (sum(pnl - fees + funding) FILTER (WHERE pnl - fees + funding > 0)
        / nullif(-sum(pnl - fees + funding) FILTER (WHERE pnl - fees + funding < 0), 0))::float8 AS "profit factor",
       avg((closed_ns - opened_ns) / 1e9)::float8 AS "held on average",
       strategy, instrument
FROM trades
GROUP BY strategy, instrument
ORDER BY strategy, instrument"""

MARKED = """\
SELECT marked_ns, last.equity, last.cash, last.exposure
FROM (
    SELECT DISTINCT ON (slot) slot, marked_ns, equity, cash, exposure
    FROM (
        SELECT marked_ns / greatest(($__unixEpochNanoTo() - $__unixEpochNanoFrom()) / 1000, 1) AS slot,
               pos, marked_ns, equity, cash, exposure
        FROM equity
        WHERE marked_ns BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo()
    ) AS slots
    ORDER BY slot, pos DESC
) AS last"""

CURVE = f"""\
SELECT to_timestamp(marked_ns / 1e9) AS "time", equity::float8 AS "equity", cash::float8 AS "cash"
FROM ({MARKED}) AS marks
ORDER BY marked_ns"""

EXPOSURE = f"""\
SELECT to_timestamp(marked_ns / 1e9) AS "time", exposure::float8 AS "exposure"
FROM ({MARKED}) AS marks
ORDER BY marked_ns"""

DRAWDOWN = """\
SELECT to_timestamp(slot * width / 1e9) AS "time", max(1 - equity / nullif(peak, 0))::float8 AS "drawdown"
FROM (
    SELECT marked_ns / greatest(($__unixEpochNanoTo() - $__unixEpochNanoFrom()) / 1000, 1) AS slot,
           greatest(($__unixEpochNanoTo() - $__unixEpochNanoFrom()) / 1000, 1) AS width,
           equity, max(equity) OVER (ORDER BY pos) AS peak
    FROM equity
    WHERE marked_ns BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo()
) AS marks
GROUP BY slot, width
ORDER BY slot"""

TRADES = """\
SELECT to_timestamp(closed_ns / 1e9) AS "closed", strategy, instrument, side, quantity::float8,
       entry_price::float8 AS "entry", exit_price::float8 AS "exit", (pnl - fees + funding)::float8 AS "result",
       fees::float8, (closed_ns - opened_ns) / 1e9 AS "held", decision, pos AS "position"
FROM trades
WHERE closed_ns BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo()
ORDER BY pos DESC
LIMIT 500"""

ORDERS = """\
SELECT status, reason, count(*) AS "orders", sum(fees)::float8 AS "fees", sum(notional)::float8 AS "turnover"
FROM orders
GROUP BY status, reason
ORDER BY count(*) DESC"""

FILLS = """\
SELECT strategy, instrument, liquidity, count(*) AS "fills", sum(quantity * price)::float8 AS "turnover",
       sum(fee)::float8 AS "fees", sum(slippage * quantity)::float8 AS "slippage",
       (10000 * sum(slippage * quantity) / nullif(sum(quantity * price), 0))::float8 AS "slippage in bp"
FROM fills
GROUP BY strategy, instrument, liquidity
ORDER BY strategy, instrument, liquidity"""

WHAT = (
    Panel(title="What this board needs", asks="What do I have to do first?", text=NEEDS, show=Show.WORDS, height=8),
    Panel(
        title="The run",
        asks="Which run is this?",
        text="Same hash, same tape: bit for bit. The link in the first column shows the time of its bars.",
        show=Show.TABLE,
        queries=(Sql(RUN),),
        columns=(
            Column("run", "run", Unit.TEXT),
            Column("from", unit=Unit.STAMP),
            Column("to", unit=Unit.STAMP),
        ),
        link=(
            "show the time of its bars",
            "/d/tapeline-backtests?from=${__data.fields.from}&to=${__data.fields.to}&var-tape=${tape}",
        ),
        unit=Unit.PLAIN,
        height=8,
    ),
    Panel(
        title="Settings",
        asks="With which settings did it run?",
        text="The configuration is the first facts of the tape.",
        show=Show.TABLE,
        queries=(Sql(CONFIGURED),),
        columns=(Column("position"),),
        unit=Unit.PLAIN,
        width=24,
        height=6,
    ),
)

RESULTS = (
    Panel(
        title="Results",
        asks="What did it bring?",
        text="Of closed trades. `tapeline backtest` prints the full report of a run.",
        show=Show.TABLE,
        queries=(Sql(RESULT),),
        columns=(
            Column("win rate", unit=Unit.RATIO, decimals=1),
            money("before costs"),
            money("fees"),
            money("funding"),
            money("result"),
            Column("profit factor", decimals=2),
            Column("held on average", unit=Unit.SECONDS),
        ),
        unit=Unit.PLAIN,
        width=24,
        height=6,
    ),
    Panel(
        title="Equity",
        asks="How did the account grow?",
        text="The last mark of each thousandth of the time shown.",
        show=Show.LINES,
        queries=(Sql(CURVE, series=True),),
        unit=Unit.MONEY,
        colours={"equity": Colour.BLUE, "cash": Colour.GREY},
    ),
    Panel(
        title="Drawdown",
        asks="How far did it fall?",
        text="From the highest equity within the time shown; the deepest of each thousandth of it.",
        show=Show.LINES,
        queries=(Sql(DRAWDOWN, series=True),),
        unit=Unit.RATIO,
        minimum=0,
    ),
    Panel(
        title="Exposure",
        asks="How much was in the market?",
        show=Show.LINES,
        queries=(Sql(EXPOSURE, series=True),),
        unit=Unit.MONEY,
    ),
    Panel(
        title="Fills and their costs",
        asks="What did trading cost?",
        show=Show.TABLE,
        queries=(Sql(FILLS),),
        columns=(
            money("turnover"),
            money("fees"),
            money("slippage"),
            Column("slippage in bp", unit=Unit.BASIS_POINTS, decimals=2),
        ),
        unit=Unit.PLAIN,
    ),
)

TRADED = (
    Panel(
        title="Orders",
        asks="How did orders end, and why?",
        show=Show.TABLE,
        queries=(Sql(ORDERS),),
        columns=(money("fees"), money("turnover")),
        unit=Unit.PLAIN,
        width=8,
        height=10,
    ),
    Panel(
        title="Trades",
        asks="Which trades did it make?",
        text="The last 500 in the time shown.",
        show=Show.TABLE,
        queries=(Sql(TRADES),),
        columns=(
            Column("closed", unit=Unit.STAMP),
            money("result"),
            money("fees"),
            Column("held", unit=Unit.SECONDS),
        ),
        unit=Unit.PLAIN,
        width=16,
        height=10,
    ),
)

BOARD = Board(
    name="backtests",
    title="Backtests",
    asks="What did a recorded backtest do?",
    sections=(Section("Which run", WHAT), Section("Result", RESULTS), Section("Trades", TRADED)),
    tape="tape",
    hours=24,
    refresh="",
)
