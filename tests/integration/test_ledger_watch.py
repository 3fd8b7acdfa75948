"""The ledger looks after its log while it records: changed rows are found without anybody asking, a whole log stays
quiet, and servers that do not answer are told as down."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from structlog.testing import capture_logs

from tapeline_common.events import Event, HaltRequested, StrategyDisableRequested
from tapeline_common.sequencer import Sequencer
from tapeline_common.values import AppendRefusal, Realm, StrategyId
from tapeline_common.verification import VerifyFault
from tapeline_common.wire import Answer, Draft
from tapeline_ledger import chain_watch
from tapeline_ledger.chain_watch import MOST_PAUSE_S, PIECE_FACTS, ChainWatch
from tapeline_ledger.inspection import Inspection, Unreachable
from tapeline_ledger.store import Head, Store
from tapeline_ledger.surroundings import MOST_PAGE_BYTES, Disk, NatsServer, Surroundings

pytestmark = pytest.mark.servers

FACTS = 250
PIECES = -(-FACTS // PIECE_FACTS)
assert PIECES > 3, "a pass is of several pieces"
NOW_NS = 1_700_000_000_000_000_000


async def write(dsn: str, facts: int = FACTS) -> Head:
    """A tape of some facts of two streams; returns its head."""
    store = await Store.open(dsn)
    sequencer = Sequencer(Realm.LIVE)
    events: list[Event] = [HaltRequested("alice", "drill"), StrategyDisableRequested(StrategyId("ema"), "alice", "")]
    await store.append([sequencer.record("operator", events[i % 2], f"d{i}", 0, 0, i) for i in range(facts)])
    head = store.head
    await store.close()
    return head


async def change(database: Any, *statements: str) -> None:
    """A superuser takes the triggers away and changes the past."""
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@dataclass
class Passes:
    """Runs a watch pass by pass: its pauses are noted instead of waited for, and end it after a pass."""

    watch: ChainWatch
    pauses_s: list[float] = field(default_factory=list)

    async def one(self) -> None:
        """Until one more pass is complete."""
        wanted = self.watch.passes + 1
        running = asyncio.ensure_future(self.watch.run())
        while self.watch.passes < wanted and not running.done():  # noqa: ASYNC110  (a pass announces nothing)
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@asynccontextmanager
async def watching(dsn: str, head: Callable[[], Head]) -> AsyncIterator[Passes]:
    inspection = Inspection(dsn)
    pauses_s: list[float] = []

    async def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        await asyncio.sleep(0)

    yield Passes(ChainWatch(inspection, head, structlog.get_logger(), lambda: NOW_NS, pause), pauses_s)
    await inspection.close()


async def test_a_whole_tape_is_passed_and_quiet(database: Any) -> None:
    """Position and time of the pass are told, nothing is logged, and each piece is followed by a pause."""
    head = await write(database.ledger)
    async with watching(database.ledger, lambda: head) as passes:
        with capture_logs() as logged:
            await passes.one()
        watch = passes.watch
        assert (watch.verified_pos, watch.verified_ns, watch.fault, logged) == (FACTS, NOW_NS, None, [])
        assert len(passes.pauses_s) >= PIECES
        assert max(passes.pauses_s[:PIECES]) <= MOST_PAUSE_S


def test_ten_thousand_facts_are_passed_within_twenty_seconds_of_pauses() -> None:
    """However slow the machine, the pauses alone leave a quarter of the time for the work."""
    assert 10_000 / PIECE_FACTS * MOST_PAUSE_S <= 15


TAMPERED = {
    "a byte of a payload": ("UPDATE tape SET payload = set_byte(payload, 20, 65) WHERE pos = 120", 120, "HASH_WRONG"),
    "a row deleted": ("DELETE FROM tape WHERE pos = 120", 120, "POSITION_MISSING"),
    "the end deleted": ("DELETE FROM tape WHERE pos > 230", 231, "POSITION_MISSING"),
    "a column": ("UPDATE tape SET author = 'risk' WHERE pos = 120", 120, "COLUMN_DIFFERS"),
}


@pytest.mark.parametrize(("statement", "pos", "reason"), TAMPERED.values(), ids=list(TAMPERED))
async def test_a_changed_row_is_found_at_rest(database: Any, statement: str, pos: int, reason: str) -> None:
    """Named with its position, logged once as an error however often it is seen, and cleared by a clean pass."""
    head = await write(database.ledger)
    async with watching(database.ledger, lambda: head) as passes:
        await passes.one()
        await change(database, "CREATE TABLE kept AS SELECT * FROM tape", statement)
        with capture_logs() as logged:
            await passes.one()
            await passes.one()
        watch = passes.watch
        assert watch.fault is not None
        assert (watch.fault.pos, watch.fault.reason, watch.verified_pos) == (pos, VerifyFault[reason], pos - 1)
        assert [(line["log_level"], line["pos"]) for line in logged] == [("error", pos)]
        await change(database, "DELETE FROM tape", "INSERT INTO tape SELECT * FROM kept")
        await passes.one()
        assert (watch.fault, watch.verified_pos) == (None, FACTS)


async def test_a_chain_recomputed_as_a_whole_is_found_by_the_head_that_is_remembered(database: Any) -> None:
    """Every hash fits again, and only this process knows that it was another one."""
    head = await write(database.ledger)
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    rows = await connection.fetch("SELECT pos, payload FROM tape ORDER BY pos")
    previous = bytes(32)
    for row in rows:
        payload = row["payload"].replace(b"alice", b"malic")
        following = hashlib.sha256(previous + payload).digest()
        statement = "UPDATE tape SET payload = $2, prev_hash = $3, hash = $4 WHERE pos = $1"
        await connection.execute(statement, row["pos"], payload, previous, following)
        previous = following
    await connection.close()
    async with watching(database.ledger, lambda: head) as passes:
        await passes.one()
        assert passes.watch.fault is not None
        assert (passes.watch.fault.pos, passes.watch.fault.reason) == (FACTS, VerifyFault.HASH_WRONG)
    changed = Head(head.pos, previous)
    async with watching(database.ledger, lambda: changed) as passes:
        await passes.one()
        assert passes.watch.fault is None


async def test_a_pass_goes_on_where_it_was_when_postgres_comes_back(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable server is no fault."""
    head = await write(database.ledger)
    async with watching(database.ledger, lambda: head) as passes:
        fetch, asked = passes.watch._inspection.fetch, [0]

        async def sometimes(query: str, *arguments: Any) -> list[Any]:
            asked[0] += 1
            if asked[0] == 2:
                raise Unreachable("gone")
            return await fetch(query, *arguments)

        monkeypatch.setattr(passes.watch._inspection, "fetch", sometimes)
        await passes.one()
        assert (passes.watch.fault, passes.watch.verified_pos, asked[0]) == (None, FACTS, PIECES + 1)
        assert chain_watch.AWAY_S in passes.pauses_s


async def test_looking_on_changes_nothing(database: Any) -> None:
    """The connection refuses to write, and is opened anew after it was lost."""
    await write(database.ledger, 10)
    inspection = Inspection(database.ledger)
    with pytest.raises(Unreachable, match="read-only"):
        await inspection.fetch("INSERT INTO projection_offset VALUES (1)")
    connection = await asyncpg.connect(database.superuser)
    await inspection.fetch("SELECT 1")
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tapeline-inspection'"
    await connection.execute(query)
    with suppress(Unreachable):  # unless the end of the connection has been noticed before
        await inspection.fetch("SELECT 1")
    assert (await inspection.fetch("SELECT count(*) AS facts FROM tape"))[0]["facts"] == 10
    await connection.close()
    await inspection.close()


# ---- surroundings --------------------------------------------------------------------------------------------------


def told(around: Surroundings) -> dict[str, float]:
    return {f"{name}{labels}": float(str(number)) for name, labels, number in around.samples(0)}


async def looked(around: Surroundings) -> dict[str, float]:
    await asyncio.gather(around._look_at_postgres(), around._look_at_nats(), around._look_at_disks())
    return told(around)


@asynccontextmanager
async def pages(answers: dict[str, bytes]) -> AsyncIterator[str]:
    """A server that answers a path with these bytes, whole."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        writer.write(answers.get(path, b"HTTP/1.0 404 Not Found\r\n\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


async def test_servers_and_disks_as_they_are(database: Any, tmp_path: Path) -> None:
    """Everything that answers is told, with what it said."""
    answers = {
        "/varz": OK + b'{"connections": 8, "slow_consumers": 2, "mem": 1000, "other": []}',
        "/jsz": OK + b'{"memory": 1, "storage": 5000}',
    }
    async with pages(answers) as url:
        around = Surroundings(Inspection(database.ledger), url, {"data": tmp_path})
        found = await looked(around)
    assert around.nats == NatsServer(8, 2, 1000, 5000)
    assert isinstance(around.disks["data"], Disk)
    assert found["tapeline_postgres_up()"] == 1
    assert found["tapeline_postgres_size_bytes()"] > 1_000_000
    assert found["tapeline_postgres_connections()"] >= 1
    assert found["tapeline_nats_server_up()"] == 1
    assert 0 < found["tapeline_disk_free_bytes('data',)"] < found["tapeline_disk_size_bytes('data',)"]
    await around._inspection.close()


@pytest.mark.parametrize(
    "varz",
    [
        b"HTTP/1.0 500 Oh\r\n\r\n",
        OK + b"{",
        OK + b'{"mem": "much"}',
        b"",
        OK + b" " * (MOST_PAGE_BYTES + 1),
    ],
    ids=["500", "truncated", "another page", "nothing", "without end"],
)
async def test_what_does_not_answer_is_down_and_nothing_more(varz: bytes, tmp_path: Path) -> None:
    """No server, nonsense, no such folder: up is 0, the figures are absent, and nothing is raised."""
    nobody = Inspection("postgresql://nobody:x@127.0.0.1:1/none")
    async with pages({"/varz": varz}) as url:
        found = await looked(Surroundings(nobody, url, {"data": tmp_path / "missing"}))
    assert found == {"tapeline_postgres_up()": 0, "tapeline_nats_server_up()": 0}


async def test_a_frozen_server_is_down_before_its_connection_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres that holds the connection and never answers is told as down after ``ANSWER_S``."""
    monkeypatch.setattr("tapeline_ledger.surroundings.ANSWER_S", 0.01)

    class Frozen(Inspection):
        async def fetch(self, query: str, *arguments: Any) -> list[Any]:
            await asyncio.Event().wait()
            raise AssertionError("never answered")

    assert await looked(Surroundings(Frozen("postgresql://frozen"), "", {})) == {"tapeline_postgres_up()": 0}


async def test_a_monitor_that_is_not_configured_is_not_told() -> None:
    found = await looked(Surroundings(Inspection("postgresql://nobody:x@127.0.0.1:1/none"), "", {}))
    assert found == {"tapeline_postgres_up()": 0}


# ---- the recorder --------------------------------------------------------------------------------------------------


async def test_commits_and_refusals_are_counted(run_ledger: Any) -> None:
    """Each group with its facts and times, each refusal under author and reason, an unknown author under one name."""
    async with run_ledger() as ledger:
        for number in range(3):
            answer = Answer(0, (Draft(HaltRequested("alice", "drill"), f"h-{number}"),))
            assert (await ledger.tape.append("operator", answer)).ok
        refused = Answer(0, (Draft(HaltRequested("alice", "drill"), "h-9"),))
        assert not (await ledger.tape.append("risk", refused)).ok
        assert not (await ledger.tape.append("mallory", refused)).ok
        counts = ledger.server.recorder.counts
        assert (sum(counts.commit_facts.counts), counts.commit_facts.sum) == (3, 3)
        assert sum(counts.commit_seconds.counts) == sum(counts.publish_seconds.counts) == 3
        assert dict(counts.refused) == {
            ("risk", AppendRefusal.NOT_YOUR_EVENT): 1,
            ("unknown", AppendRefusal.AUTHOR_UNKNOWN): 1,
        }
        assert ledger.server.announced == ledger.server.recorder.head == 3
        assert ledger.server.recorder.head_time_ns > 0
