"""The embedded stack as a user runs it: it trades, survives kills, obeys the operator, and cannot be tampered with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import psutil
import pytest

from tapeline_common import bus, subjects
from tapeline_common.control_request import Action, ControlReply, ControlRequest, sign
from tapeline_common.embedded import Stack, running_stack, signer_seed
from tapeline_common.operator_client import OperatorClient, operator
from tapeline_common.recheck import recheck
from tapeline_common.servers_nats import new_nkey
from tapeline_common.tape import ReadRequest, TapeUnavailable, read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import AppendRefusal, ControlRefusal
from tapeline_common.wire import Answer, Fact, decode_fact, encode
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.verify import verify

pytestmark = [pytest.mark.servers, pytest.mark.timeout(170)]

CONFIG = """
[run]
name = "e2e"
seed = 5
[feed]
interval_ms = 20
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
lot_size = "0.00001"
[[instrument]]
name = "ETH/USDT"
tick_size = "0.01"
lot_size = "0.0001"
[regime]
train_bars = 300
refit_bars = 100000
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT", "ETH/USDT"]
size = "0.1"
parameters = { fast = 3, slow = 8 }
[[strategy]]
name = "breakout"
kind = "momentum_breakout"
instruments = ["ETH/USDT"]
size = "1"
[[strategy.preset]]
name = "quick"
parameters = { lookback = 10, exit_lookback = 5 }
[[strategy.preset]]
name = "slow"
parameters = { lookback = 20, exit_lookback = 10 }
"""

PATIENCE_S = 60.0


@asynccontextmanager
async def stack_on(folder: Path) -> AsyncIterator[Stack]:
    config = folder.parent / "tapeline.toml"
    config.write_text(CONFIG)
    folder.parent.chmod(0o755)
    stack = Stack(folder, config)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def eventually(check: Callable[[], Awaitable[bool]], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait for progress: look again until it is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not await check():
        assert loop.time() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def facts_of(client: OperatorClient, *types: str) -> list[Fact]:
    return [decode_fact(payload) for payload in await read_all(client.tape, types=types)]


async def head_of(client: OperatorClient) -> int:
    try:
        return (await client.tape.read(ReadRequest(after=0, limit=1))).head
    except TapeUnavailable:
        return 0


async def passes(client: OperatorClient, pos: int, what: str) -> None:
    async def further() -> bool:
        return await head_of(client) > pos

    await eventually(further, what)


def ledger_dsn(stack: Stack) -> str:
    return (stack.folder / "secrets" / "ledger-dsn").read_text().strip()


def superuser_dsn(stack: Stack) -> str:
    return (stack.folder / "secrets" / "owner-dsn").read_text().strip().rpartition("/")[0] + "/tapeline"


async def test_it_trades_and_goes_on_after_every_kill(tmp_path: Path) -> None:
    """kill -9 of each service, nats-server and Postgres in turn: all return, nothing is lost, nothing is doubled."""
    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:

        async def filled() -> bool:
            return bool(await facts_of(client, "OrderFilled"))

        await eventually(filled, "a first fill")
        before = await read_all(client.tape)

        for name in stack.children:
            pid = stack.children[name].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

            async def returned(name: str = name, pid: int = pid) -> bool:
                return stack.children[name].pid not in (None, pid)

            await eventually(returned, f"{name} to be started again")
            await _bars_are_answered(client, f"after kill -9 of {name}")
        await stack.nats.kill()
        await _bars_are_answered(client, "after kill -9 of nats-server")
        await stack.postgres.kill()
        await _bars_are_answered(client, "after kill -9 of Postgres")

        after = await read_all(client.tape)
        assert after[: len(before)] == before
        facts = [decode_fact(payload) for payload in after]
        assert [fact.pos for fact in facts] == list(range(1, len(facts) + 1))
        assert max(Counter(fact.id for fact in facts).values()) == 1
        _orders_are_sound(facts)
        verified = await verify(ledger_dsn(stack))
        assert verified.fault is None
        assert verified.facts >= len(facts)
        rebuilt = await rebuild(ledger_dsn(stack))
        assert rebuilt.differences == ()
        _every_decision_is_decided_again(stack, facts)
    assert running_stack(stack.folder) is None


async def _bars_are_answered(client: OperatorClient, what: str) -> None:
    """Wait until bars recorded from now on have gone the whole way to the books: every service answers again."""
    start = await head_of_patiently(client)

    async def answered() -> bool:
        try:
            page = await client.tape.read(ReadRequest(start, limit=5000))
        except TapeUnavailable:
            return False
        authors = {decode_fact(payload).author for payload in page.facts}
        return {"marketdata", "strategy", "risk", "execution", "venue", "ledger"} <= authors

    await eventually(answered, f"all services to speak {what}")


async def head_of_patiently(client: OperatorClient) -> int:
    found = 0

    async def known() -> bool:
        nonlocal found
        found = await head_of(client)
        return found > 0

    await eventually(known, "the ledger to answer")
    return found


def _every_decision_is_decided_again(stack: Stack, facts: list[Fact]) -> None:
    """Today's cores, given the tape anew, decide what was recorded through all the kills, byte for byte."""
    for service in stack.services.values():
        for core in service.cores:
            for result in recheck(core, service.workers, facts):
                assert result.difference is None
                assert result.agreed > 0 or core.name == "marketdata" or result.author == "trainer"


def _orders_are_sound(facts: list[Fact]) -> None:
    """At most one submission an approval, every fill counted once, no fill without a submission."""
    submitted = Counter(fact.event.order for fact in facts if type(fact.event).__name__ == "OrderSubmitted")
    fills = Counter(
        (fact.event.order, fact.event.trade_id) for fact in facts if type(fact.event).__name__ == "OrderFilled"
    )
    assert max(submitted.values()) == 1
    assert max(fills.values()) == 1
    assert {order for order, _ in fills} <= set(submitted)


async def test_a_second_start_goes_on_with_the_same_tape(tmp_path: Path) -> None:
    """Stop and start again: the same facts, then new ones; no bar twice; nothing left running in between."""
    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:
        await passes(client, 200, "200 facts")
        first = await read_all(client.tape)
        pids = [child.pid for child in stack.children.values()] + [stack.nats.pid, stack.postgres.pid]
    assert not [pid for pid in pids if pid is not None and psutil.pid_exists(pid) and _lives(pid)]

    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:
        await passes(client, len(first) + 200, "200 more facts")
        second = await read_all(client.tape)
    assert second[: len(first)] == first
    bars = Counter(fact.id for fact in map(decode_fact, second) if type(fact.event).__name__ == "BarClosed")
    assert max(bars.values()) == 1


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_second_stack_is_refused_and_the_first_left_alone(tmp_path: Path) -> None:
    """`tapeline up` on a folder in use ends with one message; the running stack can still be halted."""
    async with stack_on(tmp_path / "data") as stack:
        command = ("up", "--data", str(stack.folder), "--config", str(tmp_path / "tapeline.toml"), "--for", "5")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tapeline_common.cli", *command, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()

        assert process.returncode == 1
        assert b"a stack runs on data already" in said
        assert running_stack(stack.folder) is not None
        async with operator(stack.folder) as client:
            assert (await client.control(Action.HALT, ControlRequest(reason="drill"))).position > 0


def unfinished(facts: Sequence[Fact]) -> set[str]:
    """Orders that were approved and have neither been filled whole nor ended otherwise."""
    remaining: dict[str, Decimal] = {}
    for event in (fact.event for fact in facts):
        match type(event).__name__:
            case "OrderApproved":
                remaining[event.order] = event.terms.quantity
            case "OrderFilled":
                remaining[event.order] -= event.quantity
            case "OrderCanceled" | "OrderExpired" | "OrderRejected" | "OrderWithheld":
                remaining[event.order] = Decimal(0)
    return {order for order, quantity in remaining.items() if quantity > 0}


async def test_the_operator_halts_and_only_the_operator_resumes(tmp_path: Path) -> None:
    """A plain halt stops all sending and names who heard it; unsigned, forged and replayed resumes change nothing."""
    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:

        async def filled() -> bool:
            return bool(await facts_of(client, "OrderFilled"))

        await eventually(filled, "a first fill")
        answer = await client.client.request(subjects.control("halt"), b'{"reason": "drill"}', timeout=10)
        reply = msgspec.json.decode(answer.data, type=ControlReply)
        assert reply.position > 0
        assert set(reply.acknowledged) == set(stack.services)

        async def ask(action: str, body: bytes) -> ControlReply:
            message = await client.client.request(subjects.control(action), body, timeout=10)
            return msgspec.json.decode(message.data, type=ControlReply)

        assert (await ask("resume", b'{"reason": "please"}')).refusal is ControlRefusal.SIGNATURE_MISSING
        assert (await ask("resume", b"not json")).refusal is ControlRefusal.MALFORMED
        forged = sign(Action.RESUME, ControlRequest(reason="mine now"), new_nkey()[0], now_ns=time.time_ns())
        assert (await ask("resume", encode(forged))).refusal is ControlRefusal.SIGNATURE_INVALID
        halted_at = reply.position

        async def settled() -> bool:
            return not unfinished(await facts_of(client))

        await eventually(settled, "every order to be filled, cancelled or withheld after the halt")
        settled_at = (await facts_of(client))[-1].pos
        await passes(client, settled_at + 200, "200 facts after the last order ended")
        facts = await facts_of(client)
        # An order recorded before the halt was already on its way: the venue may answer and even fill it until its
        # cancel gets there. One recorded behind the halt is withheld, and once the first have ended nothing happens.
        sent = {f.event.order for f in facts if type(f.event).__name__ == "OrderSubmitted" and f.pos < halted_at}
        late = {f.event.order for f in facts if type(f.event).__name__ == "OrderSubmitted" and f.pos > halted_at}
        after = [fact for fact in facts if fact.pos > halted_at]
        assert {f.event.order for f in after if type(f.event).__name__ in ("OrderAccepted", "OrderFilled")} <= sent
        assert late <= {f.event.order for f in after if type(f.event).__name__ == "OrderWithheld"}
        names = Counter(type(fact.event).__name__ for fact in facts if fact.pos > settled_at)
        assert names["BarClosed"] > 0
        assert not names.keys() & {"OrderSubmitted", "OrderAccepted", "OrderFilled"}

        signed = sign(
            Action.RESUME, ControlRequest(reason="drill over"), signer_seed(stack.folder), now_ns=time.time_ns()
        )
        resumed = await ask("resume", encode(signed))
        assert resumed.position > halted_at
        assert (await ask("resume", encode(signed))).refusal is ControlRefusal.SEQUENCE_USED

        async def fills_again() -> bool:
            return any(fact.pos > resumed.position for fact in await facts_of(client, "OrderFilled"))

        await eventually(fills_again, "a fill after the resume")

        flattened = await client.control(Action.FLATTEN, ControlRequest(reason="going home"))

        async def flat() -> bool:
            held: dict[tuple[str, str], object] = {}
            for fact in await facts_of(client, "PositionChanged"):
                held[(fact.event.strategy, fact.event.instrument)] = fact.event.quantity
            return not any(held.values())

        await eventually(flat, f"all positions to be closed after position {flattened.position}")


async def test_a_service_can_do_no_more_than_its_role(tmp_path: Path) -> None:
    """As the strategy's user: publishing facts, others' appends or control requests is refused by NATS."""
    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:
        await passes(client, 20, "20 facts")
        violations: list[str] = []

        async def on_error(error: Exception) -> None:
            violations.append(str(error).lower())

        strategy = await bus.connect(
            stack.nats.url, name="strategy", seed_file=str(stack.seed_file("strategy")), on_error=on_error
        )
        forbidden = ["tape.risk.TradingResumed.run", subjects.append("risk"), subjects.control("resume")]
        for subject in forbidden:
            await strategy.publish(subject, b"{}")
            await strategy.flush()

        async def refused() -> bool:
            return all(any(subject.lower() in violation for violation in violations) for subject in forbidden)

        await eventually(refused, f"permission violations for {forbidden}, seen {violations}")
        receipt = await NatsTape(strategy).append("strategy", Answer(0, ()))
        assert receipt.ok or receipt.refusal in set(AppendRefusal)
        await strategy.close()


async def test_tampering_is_found_and_named(tmp_path: Path) -> None:
    """A superuser's changed byte is found at its position, by the command too; the runtime role can change nothing."""
    async with stack_on(tmp_path / "data") as stack, operator(stack.folder) as client:
        await passes(client, 60, "60 facts")
        runtime = await asyncpg.connect(ledger_dsn(stack))
        for statement in (
            "UPDATE tape SET payload = 'x' WHERE pos = 30",
            "DELETE FROM tape WHERE pos = 30",
            "TRUNCATE tape",
            "ALTER TABLE tape DISABLE TRIGGER ALL",
            "SET session_replication_role = replica",
            "DROP TABLE tape",
        ):
            with pytest.raises(asyncpg.PostgresError):
                await runtime.execute(statement)
        await runtime.close()
        assert (await verify(ledger_dsn(stack))).fault is None

        owner = await asyncpg.connect(superuser_dsn(stack))
        await owner.execute("SET session_replication_role = replica")
        partition = await owner.fetchval("SELECT tableoid::regclass::text FROM tape WHERE pos = 30")
        await owner.execute(f"ALTER TABLE {partition} DISABLE TRIGGER ALL")
        await owner.execute(
            "UPDATE tape SET payload = overlay(payload placing '\\x58'::bytea from 40 for 1) WHERE pos = 30"
        )
        found = (await verify(ledger_dsn(stack))).fault
        assert found is not None
        assert found.pos == 30
        assert json.loads((await _verify_command(stack)).decode())["fault"]["pos"] == 30
        await owner.close()


async def _verify_command(stack: Stack) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tapeline_common.cli",
        "verify",
        "--data",
        str(stack.folder),
        "--json",
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 1
    return said
