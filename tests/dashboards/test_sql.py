"""Every query to Postgres runs on the real tables, as the role that may only read, and returns what its panel draws."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from tests.backtesting import EMA, backtest, synthetic_file
from tests.conftest import PASSWORD, TEMPLATE, in_own_loop
from tests.dashboards.reading import committed, panels_of, queries_of, sql

from tapeline_common.money import ZERO
from tapeline_common.servers_postgres import PostgresServer

pytestmark = pytest.mark.servers

BARS = 600
DATABASE = "recorded_for_dashboards"


@pytest.fixture(scope="module")
def recorded(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """How the reader reaches the tables that a recorded backtest has left."""
    bars = synthetic_file(tmp_path_factory.mktemp("bars") / "bars.parquet", BARS)
    in_own_loop(make_database(postgres.dsn("postgres", PASSWORD, "postgres")))
    place = postgres.dsn("postgres", PASSWORD, DATABASE)
    backtest(*EMA, "--fee", "0.001", "--data", str(bars), "--record", place)
    return postgres.dsn("tapeline_reader", PASSWORD, DATABASE)


async def make_database(superuser: str) -> None:
    connection = await asyncpg.connect(superuser)
    await connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE}")
    await connection.close()


@pytest.fixture
async def reader(recorded: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(recorded)
    yield connection
    await connection.close()


async def asked(reader: asyncpg.Connection, text: str) -> list[asyncpg.Record]:
    """A panel's query over the whole run."""
    marked = await reader.fetchrow("SELECT min(marked_ns) AS first, max(marked_ns) AS last FROM equity")
    rows: list[asyncpg.Record] = await reader.fetch(sql(text, from_ns=marked["first"], to_ns=marked["last"]))
    return rows


def query_of(dashboard: str, title: str) -> str:
    panels = panels_of(committed()[dashboard])
    [text] = [panel["targets"][0]["rawSql"] for panel in panels if panel["title"] == title]
    return str(text)


async def test_every_query_returns_rows_to_a_role_that_may_only_read(reader: asyncpg.Connection) -> None:
    """All of them, on a run that traded; and the role has no right but SELECT."""
    other_rights = await reader.fetchval(
        "SELECT count(*) FROM information_schema.role_table_grants "
        "WHERE grantee = current_user AND privilege_type <> 'SELECT'"
    )
    assert other_rights == 0
    queries = list(queries_of(committed(), "rawSql"))
    assert len(queries) >= 10
    assert [where for where, text in queries if not await asked(reader, text)] == []


async def test_a_query_for_what_is_not_there_is_caught(reader: asyncpg.Connection) -> None:
    """The check can fail: on a column that does not exist."""
    with pytest.raises(asyncpg.UndefinedColumnError):
        await asked(reader, query_of("trading.json", "Trades").replace("entry_price", "entry_prize"))


async def test_curves_are_the_tables(reader: asyncpg.Connection) -> None:
    """Equity ends with the last mark and drawdown is the deepest fall, at no more points than a screen can show."""
    marks = await reader.fetch("SELECT marked_ns, equity FROM equity ORDER BY pos")
    curve = await asked(reader, query_of("backtests.json", "Equity"))
    assert curve[-1]["equity"] == pytest.approx(float(marks[-1]["equity"]), rel=1e-12)
    assert [row["time"] for row in curve] == sorted({row["time"] for row in curve})
    assert len(curve) <= 1_001
    peak, deepest = ZERO, ZERO
    for mark in marks:
        peak = max(peak, mark["equity"])
        deepest = max(deepest, 1 - mark["equity"] / peak)
    drawdown = await asked(reader, query_of("backtests.json", "Drawdown"))
    assert max(row["drawdown"] for row in drawdown) == pytest.approx(float(deepest), rel=1e-12)
    assert drawdown[-1]["time"] - curve[-1]["time"] < timedelta(minutes=2)


async def test_trades_add_up_to_their_results(reader: asyncpg.Connection) -> None:
    """The table of trades, the table of results and the projection say the same."""
    total = await reader.fetchrow("SELECT count(*) AS number, sum(pnl - fees + funding)::float8 AS result FROM trades")
    trades = await asked(reader, query_of("backtests.json", "Trades"))
    live = await asked(reader, query_of("trading.json", "Trades"))
    [result] = await asked(reader, query_of("backtests.json", "Results"))
    assert len(trades) == len(live) == result["trades"] == total["number"] > 3
    for rows in (trades, live, [result]):
        assert sum(row["result"] for row in rows) == pytest.approx(total["result"], rel=1e-9)


async def test_decisions_tell_who_what_and_why(reader: asyncpg.Connection) -> None:
    """A proposal with its side and quantity, newest first."""
    decisions = await asked(reader, query_of("trading.json", "Decisions"))
    assert [row["position"] for row in decisions] == sorted((row["position"] for row in decisions), reverse=True)
    proposed = [row for row in decisions if row["what"] == "OrderProposed"]
    assert {(row["strategy"], row["instrument"]) for row in proposed} == {("ema_cross", "BARS-USD_sim")}
    assert {row["detail"] for row in proposed} <= {"BUY 1", "SELL 1"}
