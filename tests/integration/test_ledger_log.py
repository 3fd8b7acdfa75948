"""The ledger's log over real servers: what is acknowledged is durable, once, in order, and nobody can change it."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.aio.client import Client

from tapeline_common import logs, preceding, subjects
from tapeline_common.events import (
    AccountFunded,
    EquityMarked,
    Event,
    HaltRequested,
    StrategyDisableRequested,
    TradingHalted,
)
from tapeline_common.metrics import Metrics
from tapeline_common.preceding import nothing_missed
from tapeline_common.sequencer import Sequencer
from tapeline_common.servers import until
from tapeline_common.servers_postgres import PostgresServer
from tapeline_common.service import Runner
from tapeline_common.tape import ReadRequest, Receipt, TapeUnavailable, read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.tape_pages import Chain, ChainBroken, pages
from tapeline_common.values import AppendRefusal, HaltReason, Realm, StrategyId
from tapeline_common.verification import FirstFault, VerifyFault
from tapeline_common.wire import Answer, Draft, decode_fact, position_of
from tapeline_common.wiring import installed_services
from tapeline_ledger.core import CORE
from tapeline_ledger.migrate import Migration, MigrationRefused, load_migrations, migrate, migrations_folder
from tapeline_ledger.server import Progress
from tapeline_ledger.store import CommitRefused, NotDurable, Store
from tapeline_ledger.verify import PAGE, verify

pytestmark = pytest.mark.servers

NOON_NS = 1_700_000_000_000_000_000


def halt(number: int, reason: str = "fire drill") -> Answer:
    return Answer(0, (Draft(HaltRequested(issuer="alice", reason=reason), f"halt-{number}"),))


HALTED = Answer(1, (Draft(TradingHalted(reason=HaltReason.OPERATOR, detail="fire drill")),))


async def recorded(store: Store, count: int) -> None:
    """Fill an empty log through the store, one group."""
    sequencer = Sequencer(Realm.LIVE)
    event = HaltRequested(issuer="alice", reason="fire drill")
    await store.append([sequencer.record("operator", event, f"halt-{i}", 0, 0, NOON_NS + i) for i in range(count)])


def passed(store: Store, more: int) -> Callable[[], bool]:
    """Whether so many more facts are durable than now."""
    goal = store.head.pos + more
    return lambda: store.head.pos >= goal


@pytest.fixture
async def filled(database: Any) -> Any:
    """A database whose tape holds ten facts."""
    store = await Store.open(database.ledger)
    await recorded(store, 10)
    await store.close()
    return database


# ---- the door ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"{}", "cause"),
        (b'{"cause":0,"facts":[{"event":{"type":"NoSuch"},"id":"a"}]}', "NoSuch"),
        (b'{"cause":0,"facts":[],"extra":1}', "extra"),
        (b'{"cause":-1,"facts":[]}', "no position"),
        (b'{"cause":99999999999999999999,"facts":[]}', ""),
        (b"[]", "1 to"),
        (b"[[[", "truncated"),
    ],
)
async def test_bytes_that_are_no_answer_are_refused_with_a_reason(run_ledger: Any, payload: bytes, words: str) -> None:
    """Whatever is sent gets one receipt that says what is wrong, and the ledger goes on."""
    async with run_ledger() as ledger:
        reply = await ledger.client.request(subjects.append("operator"), payload, timeout=5)
        receipt = msgspec.json.decode(reply.data, type=Receipt)
        assert receipt.refusal is AppendRefusal.MALFORMED
        assert words in receipt.detail
        assert (await ledger.tape.append("operator", halt(1))).ok
        assert ledger.server.recorder.counts.refused["operator", AppendRefusal.MALFORMED] == 1


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (AccountFunded("main", "USDT", Decimal("NaN")), "amount"),
        (AccountFunded("main", "USDT", Decimal("Infinity")), "amount"),
        (AccountFunded("main", "USDT", Decimal("1" * 41)), "amount"),
        (AccountFunded("main", "USDT", Decimal("1E-41")), "amount"),
        (HaltRequested("alice", "x" * 5_000), "reason"),
        (HaltRequested("alice", "zero \0 byte"), "reason"),
    ],
    ids=["NaN", "Infinity", "41 digits", "tiny", "long text", "zero byte"],
)
async def test_values_that_no_store_can_hold_stop_at_the_door(run_ledger: Any, event: Event, field: str) -> None:
    """One such value would spoil a whole group commit, so it is refused by field, and its neighbours are recorded."""
    async with run_ledger() as ledger:
        bad = Answer(0, (Draft(event, "bad"),))
        receipts = await asyncio.gather(*(ledger.tape.append("operator", answer) for answer in (halt(1), bad, halt(2))))
        assert [receipt.ok for receipt in receipts] == [True, False, True]
        assert receipts[1].refusal is AppendRefusal.MALFORMED
        assert f"{type(event).__name__}.{field}" in receipts[1].detail


async def test_an_array_of_answers_gets_an_array_of_receipts(run_ledger: Any) -> None:
    """Each answer of an array stands for itself: a bad one is refused in its place."""
    async with run_ledger() as ledger:
        stale = Answer(0, (Draft(HaltRequested("bob", "other"), "halt-1"),))
        receipts = await ledger.tape.append_many("operator", [halt(1), stale, halt(2)])
        assert [receipt.positions for receipt in receipts] == [(1,), (), (2,)]
        assert receipts[1].refusal is AppendRefusal.ID_CONFLICT
        mixed = b'[{"cause":7},' + msgspec.json.encode(halt(3)) + b"]"
        reply = await ledger.client.request(subjects.append("operator"), mixed, timeout=5)
        assert [r.ok for r in msgspec.json.decode(reply.data, type=list[Receipt])] == [False, True]


async def test_a_reader_who_asks_nonsense_is_told_so(run_ledger: Any) -> None:
    """Negative positions and empty pages are refused with the values that are possible."""
    async with run_ledger() as ledger:
        with pytest.raises(ValueError, match="start at 0"):
            await ledger.tape.read(ReadRequest(after=-1))
        with pytest.raises(ValueError, match="limit 0 at 1"):
            await ledger.tape.read(ReadRequest(after=0, limit=0))
        with pytest.raises(ValueError, match="a chained read is of every fact"):
            await ledger.tape.read(ReadRequest(after=0, chained=True, author="risk"))


async def test_a_page_is_cut_before_it_is_too_big_to_send(run_ledger: Any) -> None:
    """Facts of many megabytes arrive in several pages, none missing."""
    async with run_ledger() as ledger:
        text = "x" * 4_000
        drafts = [Draft(HaltRequested("alice", text), f"halt-{number}") for number in range(1_500)]
        for start in range(0, 1_500, 500):
            assert (await ledger.tape.append("operator", Answer(0, tuple(drafts[start : start + 500])))).ok
        page = await ledger.tape.read(ReadRequest(after=0, limit=20_000))
        assert 0 < page.through < page.head == 1_500
        assert sum(map(len, page.facts)) < 4_000_000
        assert [position_of(fact) for fact in await read_all(ledger.tape)] == list(range(1, 1_501))
        chain = Chain()
        async for page in pages(ledger.tape.read, ReadRequest(0, limit=1_400, chained=True)):
            chain.take(page)
            assert sum(map(len, page.facts)) < 4_000_000
        assert (chain.pos, chain.hash) == (1_500, ledger.store.head.hash)


async def test_a_client_without_a_ledger_learns_that_the_outcome_is_unknown(
    connect: Callable[[], Awaitable[Client]],
) -> None:
    """Nobody answers: the tape is unavailable, which is not a refusal."""
    from tapeline_common.tape_nats import NatsTape

    tape = NatsTape(await connect(), append_timeout_s=0.2)
    with pytest.raises(TapeUnavailable):
        await tape.append("operator", halt(1))


# ---- announcing --------------------------------------------------------------------------------------------------


async def test_facts_are_announced_in_order_after_they_are_durable(run_ledger: Any) -> None:
    """Who hears a fact on the bus can read it from the log at once, and its subject says what it is."""
    async with run_ledger() as ledger:
        heard: asyncio.Queue[tuple[str, int, int]] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait((message.subject, position_of(message.data), ledger.store.head.pos))

        await ledger.client.subscribe(subjects.TAPE, cb=hear)
        await ledger.client.flush()
        await ledger.client.flush()
        await asyncio.gather(*(ledger.tape.append("operator", halt(number)) for number in range(50)))
        await ledger.tape.append("risk", HALTED)
        told = [await asyncio.wait_for(heard.get(), 5) for _ in range(51)]
        assert [pos for _, pos, _ in told] == list(range(1, 52))
        assert all(pos <= durable for _, pos, durable in told)
        assert told[0][0] == "tape.operator.HaltRequested.run"
        assert told[-1][0] == "tape.risk.TradingHalted.run"


async def test_waiting_answers_share_a_commit(run_ledger: Any) -> None:
    """What arrives during a commit goes into the next one together."""
    async with run_ledger() as ledger:
        await asyncio.gather(*(ledger.tape.append("operator", halt(number)) for number in range(300)))
        counts = ledger.server.recorder.counts
        assert counts.facts == 300
        assert counts.groups < 150


async def test_progress_names_the_head(run_ledger: Any) -> None:
    """Whoever missed the last fact learns of it from the ledger's progress."""
    async with run_ledger() as ledger:
        told: asyncio.Queue[Progress] = asyncio.Queue()

        async def hear(message: Any) -> None:
            told.put_nowait(msgspec.json.decode(message.data, type=Progress))

        await ledger.client.subscribe(subjects.progress("ledger"), cb=hear)
        await ledger.client.flush()
        await ledger.client.flush()
        await ledger.tape.append("operator", halt(1))
        while (progress := await asyncio.wait_for(told.get(), 5)).head < 1:
            pass
        assert (progress.service, progress.pos, progress.settled) == ("ledger", 1, 1)


@pytest.mark.parametrize("at_once", [0, 20], ids=["told later", "told at once"])
async def test_what_lies_before_is_true_at_every_moment(
    run_ledger: Any, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Progress told between a commit and its announcement speaks of announced facts only: whoever believed it and
    passed over the rest would never hear them. Announcements name what came before them where the type changes."""
    monkeypatch.setattr("tapeline_ledger.recorder.MOST_TOLD_AT_ONCE", at_once)
    async with run_ledger() as ledger:
        heard: list[tuple[str, int, str]] = []
        honest = ledger.server.announce

        def with_progress(new: Any) -> None:
            ledger.server._send_progress()
            honest(new)
            ledger.server._send_progress()

        ledger.server.announce = with_progress

        async def hear(message: Any) -> None:
            if message.subject == subjects.progress("ledger"):
                progress = msgspec.json.decode(message.data, type=Progress)
                heard.append(("progress", progress.pos, progress.before))
            elif message.subject.startswith("tape."):
                heard.append(("fact", position_of(message.data), (message.headers or {}).get(preceding.HEADER, "")))

        everything = await ledger.client.subscribe(">", cb=hear)
        await ledger.client.flush()
        await ledger.client.flush()
        await asyncio.gather(*(ledger.tape.append("operator", halt(number)) for number in range(50)))
        await ledger.tape.append("risk", HALTED)
        await ledger.tape.append("operator", halt(50))
        assert await until(lambda: ("progress", 52) in [one[:2] for one in heard], 10)
        await everything.unsubscribe()
    last = 0
    for kind, pos, before in heard:
        assert pos == last + 1 if kind == "fact" else pos <= last
        runs_on = kind == "fact" and pos not in (1, 51, 52)
        assert before == "" if runs_on else nothing_missed(before, last, {"HaltRequested", "TradingHalted"})
        last = pos if kind == "fact" else last


# ---- one writer, no loss -----------------------------------------------------------------------------------------


async def test_nothing_acknowledged_is_lost_when_postgres_is_killed(
    run_ledger: Any, database: Any, postgres: PostgresServer
) -> None:
    """SIGKILL of Postgres under load, three times: every receipt is honoured, nothing is doubled, the chain holds."""
    reports: list[str] = []
    async with run_ledger(reports=reports, append_timeout_s=60.0) as ledger:
        acknowledged: dict[str, int] = {}
        stop = asyncio.Event()

        async def load(worker: int) -> None:
            number = worker * 1_000_000
            while not stop.is_set():
                answer = halt(number)
                acknowledged[answer.facts[0].id] = (await ledger.tape.append("operator", answer)).positions[0]
                number += 1

        workers = [asyncio.create_task(load(worker)) for worker in range(20)]
        for _ in range(3):
            await until(passed(ledger.store, 200), 60)
            await postgres.kill()
            await postgres.start()
        await until(passed(ledger.store, 200), 60)
        assert [report for report in reports if "lost Postgres" in report]
        stop.set()
        await asyncio.gather(*workers)
        on_tape = {fact.id: fact.pos for fact in map(decode_fact, await read_all(ledger.tape))}
        assert {identity: on_tape.get(identity) for identity in acknowledged} == acknowledged
        assert len(on_tape) == ledger.store.head.pos
    result = await verify(database.superuser)
    assert (result.fault, result.facts) == (None, len(on_tape))


@pytest.mark.parametrize("committed", [True, False], ids=["it was committed", "it was not"])
async def test_a_commit_of_unknown_outcome_is_looked_up_never_doubled(database: Any, committed: bool) -> None:
    """The connection dies during a commit: the store looks whether the rows are there, and goes on either way."""
    reports: list[str] = []
    store = await Store.open(database.ledger, reports.append)
    sequencer = Sequencer(Realm.LIVE)
    event = HaltRequested(issuer="alice", reason="fire drill")
    group = [sequencer.record("operator", event, f"halt-{i}", 0, 0, NOON_NS) for i in range(3)]
    honest = store._commit

    async def lying(records: Any) -> None:
        store._commit = honest  # type: ignore[method-assign]
        if committed:
            await honest(records)
        raise ConnectionResetError("the line went dead")

    store._commit = lying  # type: ignore[method-assign]
    await store.append(group)
    assert [report for report in reports if "the line went dead" in report]
    assert store.head.pos == 3
    await store.append([sequencer.record("operator", event, "halt-4", 0, 0, NOON_NS)])
    await store.close()
    assert (await verify(database.reader)).facts == 4


async def test_a_commit_that_never_comes_back_ends_with_its_connection(database: Any) -> None:
    """The peer dies and the driver waits on: the end of the connection ends the wait, and the commit is done again."""
    reports: list[str] = []
    store = await Store.open(database.ledger, reports.append)
    sequencer = Sequencer(Realm.LIVE)
    event = HaltRequested(issuer="alice", reason="fire drill")
    honest = store._commit

    async def hanging(records: Any) -> None:
        store._commit = honest  # type: ignore[method-assign]
        store._writer.terminate()
        await asyncio.Event().wait()

    store._commit = hanging  # type: ignore[method-assign]
    await store.append([sequencer.record("operator", event, "halt-1", 0, 0, NOON_NS)])
    assert "TimeoutError" in reports[0]
    assert store.head.pos == 1
    await store.close()


async def test_a_second_ledger_waits_for_the_first(database: Any) -> None:
    """The second one says that it waits, and starts from the head that the first one left."""
    first = await Store.open(database.ledger)
    reports: asyncio.Queue[str] = asyncio.Queue()
    second = asyncio.create_task(Store.open(database.ledger, reports.put_nowait))
    assert "another ledger" in await asyncio.wait_for(reports.get(), 10)
    assert not second.done()
    await recorded(first, 5)
    await first.close()
    store = await asyncio.wait_for(second, 10)
    assert store.head.pos == 5
    await store.close()


async def test_a_group_that_postgres_refuses_takes_nobody_with_it(run_ledger: Any, database: Any) -> None:
    """One fact the database will not take: its author is told, the others of the group are recorded, no gap."""
    superuser = await asyncpg.connect(database.superuser)
    await superuser.execute("ALTER TABLE tape ADD CONSTRAINT no_thirteen CHECK (id <> 'halt-13')")
    await superuser.close()
    async with run_ledger() as ledger:
        receipts = await asyncio.gather(*(ledger.tape.append("operator", halt(number)) for number in range(20)))
        assert [number for number, receipt in enumerate(receipts) if not receipt.ok] == [13]
        assert receipts[13].refusal is AppendRefusal.NOT_WRITABLE
        assert ledger.store.head.pos == 19
    assert (await verify(database.reader)).fault is None


async def test_a_restarted_ledger_goes_on_where_the_last_one_ended(run_ledger: Any, database: Any) -> None:
    """Head, versions, clock and answered causes are restored from the log."""
    async with run_ledger() as ledger:
        ledger.clock.now_ns = NOON_NS
        await ledger.tape.append("operator", halt(1))
        await ledger.tape.append("risk", HALTED)
        payloads = await read_all(ledger.tape)
    sequencer = Sequencer(Realm.LIVE)
    sequencer.resume((decode_fact(payload), payload) for payload in payloads)
    store = await Store.open(database.ledger)
    assert await store.load(Realm.LIVE) == sequencer
    await store.close()
    async with run_ledger() as ledger:
        assert await ledger.tape.append("operator", halt(1)) == Receipt((1,))
        assert await ledger.tape.append("risk", HALTED) == Receipt((2,))
        assert await ledger.tape.append("operator", halt(2)) == Receipt((3,))


async def test_settings_that_lose_commits_are_refused(database: Any) -> None:
    """A ledger does not start on a server that acknowledges what a power failure can undo."""
    superuser = await asyncpg.connect(database.superuser)
    name = await superuser.fetchval("SELECT current_database()")
    await superuser.execute("ALTER SYSTEM SET full_page_writes = off")
    overridden = await superuser.fetchval("SELECT current_setting('full_page_writes')") == "on"
    await superuser.execute("ALTER SYSTEM RESET full_page_writes")
    await superuser.close()
    assert name
    assert overridden, "the launcher gives this setting on the command line, where nothing can relax it"
    store = Store(database.ledger, lambda _: None)

    class Relaxed:
        async def fetchval(self, query: str, *arguments: str) -> str:
            return "off" if arguments == ("fsync",) else "on"

    from tapeline_ledger.store import _check_durable

    with pytest.raises(NotDurable, match="fsync = off"):
        await _check_durable(Relaxed())
    await store.close()


# ---- nobody changes the past -------------------------------------------------------------------------------------

FORBIDDEN = [
    "UPDATE tape SET author = 'risk' WHERE pos = 1",
    "DELETE FROM tape WHERE pos = 10",
    "TRUNCATE tape",
    "UPDATE tape_p000000 SET author = 'risk' WHERE pos = 1",
    "DELETE FROM tape_p000000",
    "TRUNCATE tape_p000000",
    "ALTER TABLE tape DISABLE TRIGGER ALL",
    "ALTER TABLE tape_p000000 DISABLE TRIGGER tape_keeps_rows",
    "SET session_replication_role = replica",
    "DROP TABLE tape_p000000",
    "DROP TRIGGER tape_keeps_rows ON tape",
    "ALTER TABLE tape OWNER TO tapeline_ledger",
    "CREATE TABLE mine (x int)",
    "CREATE OR REPLACE FUNCTION tape_is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "SET ROLE tapeline_owner",
    "UPDATE applied_migration SET sha256 = ''",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("role", ["ledger", "reader"])
async def test_the_roles_that_log_in_cannot_touch_the_past(filled: Any, role: str, statement: str) -> None:
    """Neither the runtime role nor the reader may change, hide or unlock anything that is recorded."""
    connection = await asyncpg.connect(getattr(filled, role))
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        await connection.execute(statement)
    await connection.close()
    result = await verify(filled.reader)
    assert (result.facts, result.fault) == (10, None)


@pytest.mark.parametrize("statement", FORBIDDEN[:6])
async def test_the_triggers_stop_even_a_superuser(filled: Any, statement: str) -> None:
    """Whoever wants to change the past must take the triggers away first, on parent and partitions alike."""
    connection = await asyncpg.connect(filled.superuser)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await connection.execute(statement)
    await connection.execute("SET session_replication_role = replica")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await connection.execute(statement)
    await connection.close()


async def test_the_reader_may_read_and_not_add(filled: Any) -> None:
    """Tools get a role that sees everything and writes nothing."""
    connection = await asyncpg.connect(filled.reader)
    assert await connection.fetchval("SELECT count(*) FROM tape") == 10
    await connection.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("INSERT INTO projection_offset VALUES ('mine', 1)")
    await connection.close()


async def test_partitions_made_later_are_guarded_too(filled: Any) -> None:
    """The ledger makes partitions ahead of need without owning them; their triggers are always on."""
    ledger = await asyncpg.connect(filled.ledger)
    assert await ledger.fetchval("SELECT tape_ensure_partition(25000000)") == "tape_p000002"
    assert await ledger.fetchval("SELECT tape_ensure_partition(25000000)") == "tape_p000002"
    await ledger.close()
    superuser = await asyncpg.connect(filled.superuser)
    rows = await superuser.fetch(
        "SELECT tgname, tgenabled, pg_get_userbyid(relowner) AS owner "
        "FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE c.relname = 'tape_p000002' ORDER BY tgname"
    )
    await superuser.close()
    assert [tuple(row) for row in rows] == [
        ("tape_keeps_all", b"A", "tapeline_owner"),
        ("tape_keeps_rows", b"A", "tapeline_owner"),
    ]


TAMPERED = [
    (
        "one byte of a payload",
        "UPDATE tape SET payload = set_byte(payload, octet_length(payload) - 5, 65) WHERE pos = 4",
        4,
        VerifyFault.HASH_WRONG,
    ),
    ("a row deleted", "DELETE FROM tape WHERE pos = 6", 6, VerifyFault.POSITION_MISSING),
    ("the last row deleted", "DELETE FROM tape WHERE pos = 10", 10, VerifyFault.POSITION_MISSING),
    ("the first row deleted", "DELETE FROM tape WHERE pos = 1", 1, VerifyFault.POSITION_MISSING),
    (
        "two payloads swapped",
        "UPDATE tape t SET payload = o.payload FROM tape o WHERE t.pos IN (3, 7) AND o.pos = 10 - t.pos",
        3,
        VerifyFault.HASH_WRONG,
    ),
    (
        "two rows swapped, hashes and all",
        "CREATE TEMP TABLE both_rows AS SELECT * FROM tape WHERE pos IN (3, 7);"
        "DELETE FROM tape WHERE pos IN (3, 7);"
        "UPDATE both_rows SET pos = 10 - pos, correlation = 10 - pos; INSERT INTO tape SELECT * FROM both_rows",
        3,
        VerifyFault.PREVIOUS_HASH_WRONG,
    ),
    ("a column", "UPDATE tape SET author = 'risk' WHERE pos = 5", 5, VerifyFault.COLUMN_DIFFERS),
    ("a stamp", "UPDATE tape SET time_ns = time_ns + 1 WHERE pos = 5", 5, VerifyFault.COLUMN_DIFFERS),
    (
        "payload and hash together",
        "UPDATE tape SET payload = replace(convert_from(payload, 'UTF8'), 'alice', 'malice')::bytea WHERE pos = 8;"
        "UPDATE tape SET hash = sha256(prev_hash || payload) WHERE pos = 8",
        9,
        VerifyFault.PREVIOUS_HASH_WRONG,
    ),
    (
        "bytes that are no fact, well chained",
        "UPDATE tape SET payload = 'nonsense' WHERE pos = 10;"
        "UPDATE tape SET hash = sha256(prev_hash || payload) WHERE pos = 10",
        10,
        VerifyFault.PAYLOAD_UNREADABLE,
    ),
]


@pytest.mark.parametrize(
    ("statement", "pos", "reason"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED]
)
async def test_verify_names_the_first_bad_position(filled: Any, statement: str, pos: int, reason: VerifyFault) -> None:
    """A superuser takes the triggers away and changes the past: verify says where."""
    connection = await asyncpg.connect(filled.superuser)
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    await connection.execute(statement)
    await connection.execute("ALTER TABLE tape ENABLE ALWAYS TRIGGER tape_keeps_rows")
    await connection.close()
    result = await verify(filled.reader)
    assert isinstance(result.fault, FirstFault)
    assert (result.fault.pos, result.fault.reason, result.facts) == (pos, reason, pos - 1)
    assert result.fault.detail
    assert await verify(filled.reader, naive=True) == result


CHANGED_COLUMNS = {
    "time_ns": "time_ns + 1",
    "id": "id || E'\\nx'",
    "author": "'risk'",
    "stream": "'x'",
    "version": "version + 1",
    "cause": "1",
    "correlation": "1",
    "schema": "2",
    "type": "'TradingHalted'",
    "prev_hash": "sha256(prev_hash)",
    "hash": "sha256(hash)",
}


@pytest.mark.parametrize(("column", "value"), CHANGED_COLUMNS.items(), ids=list(CHANGED_COLUMNS))
async def test_verify_looks_at_every_column(filled: Any, column: str, value: str) -> None:
    """Whichever column is changed, pages and rows agree on where."""
    connection = await asyncpg.connect(filled.superuser)
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    await connection.execute(f"UPDATE tape SET {column} = {value} WHERE pos = 6")
    await connection.close()
    result = await verify(filled.reader)
    assert isinstance(result.fault, FirstFault)
    assert (result.fault.pos, result.facts) == (6, 5)
    assert await verify(filled.reader, naive=True) == result


async def test_verify_by_pages_and_by_rows_agree_on_a_longer_tape(database: Any) -> None:
    """Several pages and streams, from anywhere: the same facts and the same head."""
    store = await Store.open(database.ledger)
    sequencer = Sequencer(Realm.LIVE)
    events: list[Event] = [HaltRequested("alice", "drill"), StrategyDisableRequested(StrategyId("ema"), "alice", "")]
    count = 2 * PAGE + 150
    await store.append([sequencer.record("operator", events[i % 2], f"d{i}", 0, 0, i) for i in range(count)])
    await store.close()
    for after in (0, 149, PAGE, count):
        result = await verify(database.reader, after=after)
        assert (result.facts, result.head_hash, result.fault) == (count - after, sequencer.hash, None)
        assert await verify(database.reader, after=after, naive=True) == result


CHANGED_BYTES = [row for row in TAMPERED if row[3] is not VerifyFault.COLUMN_DIFFERS]


@pytest.mark.parametrize("statement", [row[1] for row in CHANGED_BYTES], ids=[row[0] for row in CHANGED_BYTES])
async def test_nobody_restores_from_a_changed_past(run_ledger: Any, filled: Any, statement: str) -> None:
    """A service that starts recomputes the chain of what it is given, and does not go on from other facts."""
    service = installed_services()["bandit"]

    async def announce(_progress: Any) -> None:
        return None

    def runner(tape: NatsTape) -> Runner:
        metrics, logger = Metrics("bandit"), logs.configure("bandit", "error")
        return Runner(service, tape, realm=Realm.LIVE, metrics=metrics, logger=logger, announce=announce)

    async with run_ledger() as ledger:
        whole = runner(ledger.tape)
        await whole.restore()
        assert whole.heard == ledger.store.head.pos == 10
        connection = await asyncpg.connect(filled.superuser)
        await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
        await connection.execute(statement)
        await connection.close()
        with pytest.raises((ChainBroken, msgspec.DecodeError)):
            await runner(ledger.tape).restore()


async def test_a_ledger_does_not_go_on_behind_a_changed_past(run_ledger: Any, filled: Any) -> None:
    """With its books it starts on a whole tape; on a changed one it ends before it listens."""
    async with run_ledger(books=CORE) as ledger:
        assert (await ledger.tape.append("operator", halt(11))).ok
    connection = await asyncpg.connect(filled.superuser)
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    await connection.execute(TAMPERED[0][1])
    await connection.close()
    with pytest.raises(ChainBroken, match="from 1 to 11"):
        async with run_ledger(books=CORE):
            pass


async def test_verify_from_a_checkpoint_gives_the_same_head(filled: Any) -> None:
    """Verifying the rest of a tape ends at the same hash as verifying all of it."""
    whole, rest = await verify(filled.reader), await verify(filled.reader, after=6)
    assert (whole.facts, rest.facts, whole.fault, rest.fault) == (10, 4, None, None)
    assert whole.head_hash == rest.head_hash
    beyond = await verify(filled.reader, after=11)
    assert beyond.fault is not None


# ---- migrations --------------------------------------------------------------------------------------------------


async def test_migrating_twice_does_nothing_the_second_time(database: Any) -> None:
    """Applied files are remembered."""
    assert await migrate(database.superuser) == []


async def test_an_applied_migration_may_never_change(database: Any, tmp_path: Path) -> None:
    """A changed, missing or belated file is refused by name, and nothing is applied."""
    files = {path.name: path.read_text() for path in sorted(migrations_folder().glob("*.sql"))}
    for name, sql in files.items():
        (tmp_path / name).write_text(sql)
    (tmp_path / "0001_tape.sql").write_text(files["0001_tape.sql"] + "\n-- a small improvement\n")
    with pytest.raises(MigrationRefused, match=r"0001_tape\.sql was changed"):
        await migrate(database.superuser, tmp_path)
    (tmp_path / "0001_tape.sql").unlink()
    with pytest.raises(MigrationRefused, match=r"0001_tape\.sql was applied and its file is gone"):
        await migrate(database.superuser, tmp_path)
    (tmp_path / "0001_tape.sql").write_text(files["0001_tape.sql"])
    (tmp_path / "0000_earlier.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationRefused, match=r"0000_earlier\.sql comes before"):
        await migrate(database.superuser, tmp_path)


async def test_a_new_migration_is_applied_once_and_a_broken_one_not_at_all(database: Any, tmp_path: Path) -> None:
    """The next file is applied in a transaction of its own; one that fails leaves nothing behind."""
    for path in migrations_folder().glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "0998_next.sql").write_text("CREATE TABLE wanted (x int);")
    assert await migrate(database.superuser, tmp_path) == ["0998_next.sql"]
    (tmp_path / "0999_broken.sql").write_text("CREATE TABLE unwanted (x int); SELECT 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database.superuser, tmp_path)
    connection = await asyncpg.connect(database.superuser)
    assert await connection.fetchval("SELECT to_regclass('wanted') IS NOT NULL AND to_regclass('unwanted') IS NULL")
    await connection.close()


def test_a_file_that_is_no_migration_is_refused(tmp_path: Path) -> None:
    """Names and numbers are checked, so that a typing error does not become a skipped file."""
    (tmp_path / "0001_first.sql").write_text("SELECT 1;")
    assert [type(found) for found in load_migrations(tmp_path)] == [Migration]
    (tmp_path / "0001_second.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationRefused, match="same number"):
        load_migrations(tmp_path)
    (tmp_path / "fix.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationRefused, match="no migration name"):
        load_migrations(tmp_path)


async def test_a_group_that_does_not_fit_the_tables_is_refused(filled: Any) -> None:
    """A row that cannot be sent to the server is refused, not taken for a lost connection, and the head stays."""
    store = await Store.open(filled.ledger)
    sequencer = await store.load(Realm.LIVE)
    event = EquityMarked(2**70, Decimal(1), Decimal(1), Decimal(0))
    with pytest.raises(CommitRefused, match="int64"):
        await store.append([sequencer.record("ledger", event, "equity", 0, 0, NOON_NS)])
    assert store.head.pos == 10
    await store.close()
    assert (await verify(filled.reader)).facts == 10
