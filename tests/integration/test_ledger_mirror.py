"""The JetStream mirror: sequence = position, whatever happened to the bus; followers of the tape never notice."""

import shutil
from typing import Any

import pytest
from nats.js.api import DiscardPolicy
from nats.js.errors import APIError

from tapeline_common import subjects
from tapeline_common.events import HaltRequested
from tapeline_common.servers import until
from tapeline_common.servers_nats import NatsServer
from tapeline_common.tape import read_all
from tapeline_common.wire import Answer, Draft, position_of
from tapeline_ledger.mirror import LEAST_BYTES_PER_FACT, PREFIX, MirrorLimits

pytestmark = pytest.mark.servers


def halts(first: int, count: int) -> list[Answer]:
    event = HaltRequested(issuer="alice", reason="fire drill")
    return [Answer(0, (Draft(event, f"halt-{number}"),)) for number in range(first, first + count)]


async def mirrored(ledger: Any, pos: int) -> None:
    """Wait until the ledger says so, and the stream itself ends at that position."""
    state = ledger.server.mirror_state
    assert await until(lambda: state.pos == pos and not state.trouble, 30), state
    info = await ledger.client.jetstream().stream_info(subjects.MIRROR_STREAM)
    assert info.state.last_seq == pos


async def assert_copy(ledger: Any) -> None:
    """Every message of the stream is the fact at its sequence, under its subject on the tape."""
    payloads = await read_all(ledger.tape)
    stream = ledger.client.jetstream()
    for sequence in {1, 2, len(payloads) // 2, len(payloads)}:
        message = await stream.get_msg(subjects.MIRROR_STREAM, sequence, direct=True)
        assert (message.data, message.subject) == (payloads[sequence - 1], "tape.operator.HaltRequested.run")
    info = await stream.stream_info(subjects.MIRROR_STREAM)
    assert (info.state.first_seq, info.state.messages, info.state.last_seq) == (1, len(payloads), len(payloads))


async def test_sequence_equals_position(run_ledger: Any) -> None:
    """The stream ends where the log ends, and holds the same bytes; a new tape on an old bus replaces the stream."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 1_200))
        await mirrored(ledger, 1_200)
        await assert_copy(ledger)


async def test_a_ledger_that_comes_back_fills_what_the_mirror_missed(run_ledger: Any) -> None:
    """Facts recorded while nobody mirrored are mirrored later, in their places."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 10))
        await mirrored(ledger, 10)
    async with run_ledger(mirrored=False) as ledger:
        await ledger.tape.append_many("operator", halts(10, 30))
    async with run_ledger(mirrored=True) as ledger:
        await mirrored(ledger, 40)
        await assert_copy(ledger)
        assert ledger.server.mirror_state.healed == 0


async def test_a_wiped_bus_is_filled_again_from_the_log_unheard_by_followers(run_ledger: Any, bus: NatsServer) -> None:
    """The bus loses its store; the mirror is made anew from the log, trading goes on, nobody hears a fact twice."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 700))
        await mirrored(ledger, 700)
        healed = ledger.server.mirror_state.healed
        await bus.kill()
        shutil.rmtree(bus.folder / "jetstream")
        await bus.start()
        heard: list[int] = []

        async def hear(message: Any) -> None:
            heard.append(position_of(message.data))

        assert await until(lambda: ledger.client.is_connected and ledger.server.mirror_state.healed > healed, 30)
        await ledger.client.subscribe(subjects.TAPE, cb=hear)
        await ledger.client.flush()
        await ledger.client.flush()
        await ledger.tape.append_many("operator", halts(700, 50))
        await mirrored(ledger, 750)
        await assert_copy(ledger)
        assert heard == list(range(701, 751))


async def test_a_stream_with_foreign_messages_is_made_anew(run_ledger: Any) -> None:
    """Somebody wrote into the mirror: it is no copy of the log any more, and is replaced by one."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 5))
        await mirrored(ledger, 5)
        healed = ledger.server.mirror_state.healed
        await ledger.client.publish(PREFIX + "tape.operator.HaltRequested.run", b"forged")
        await ledger.client.flush()
        await ledger.tape.append_many("operator", halts(5, 5))
        await mirrored(ledger, 10)
        await assert_copy(ledger)
        assert ledger.server.mirror_state.healed == healed + 1


async def test_nobody_may_purge_or_delete_messages_of_the_mirror(run_ledger: Any) -> None:
    """The stream refuses to forget by its configuration."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 5))
        await mirrored(ledger, 5)
        stream = ledger.client.jetstream()
        with pytest.raises(APIError):
            await stream.purge_stream(subjects.MIRROR_STREAM)
        with pytest.raises(APIError):
            await stream.delete_msg(subjects.MIRROR_STREAM, 3)


async def test_the_mirror_forgets_its_oldest_facts_and_keeps_the_sequences(run_ledger: Any) -> None:
    """Beyond its size the first messages go; the last ones stand where they stood, and it goes on at the head."""
    limits = MirrorLimits(most_bytes=100_000)
    async with run_ledger(mirrored=True, mirror_limits=limits) as ledger:
        await ledger.tape.append_many("operator", halts(0, 1_000))
        await mirrored(ledger, 1_000)
        stream = ledger.client.jetstream()
        info = await stream.stream_info(subjects.MIRROR_STREAM)
        assert 1 < info.state.first_seq < 1_000
        assert info.state.bytes <= limits.most_bytes
        healed = ledger.server.mirror_state.healed
        await ledger.tape.append_many("operator", halts(1_000, 10))
        await mirrored(ledger, 1_010)
        payloads = await read_all(ledger.tape)
        for sequence in (info.state.first_seq + 50, 1_010):
            message = await stream.get_msg(subjects.MIRROR_STREAM, sequence, direct=True)
            assert message.data == payloads[sequence - 1]
        assert ledger.server.mirror_state.healed == healed


async def test_a_stream_made_anew_begins_where_a_full_one_would(run_ledger: Any) -> None:
    """Facts that could not stay are not sent: the first sequence is the oldest position that may fit."""
    limits = MirrorLimits(most_bytes=LEAST_BYTES_PER_FACT * 100)
    async with run_ledger(mirrored=False) as ledger:
        await ledger.tape.append_many("operator", halts(0, 1_000))
    async with run_ledger(mirrored=True, mirror_limits=limits) as ledger:
        await mirrored(ledger, 1_000)
        info = await ledger.client.jetstream().stream_info(subjects.MIRROR_STREAM)
        assert info.config.first_seq == 901
        assert info.state.first_seq >= 901


async def test_other_limits_take_effect_on_a_stream_that_is_there(run_ledger: Any) -> None:
    """A stream of an earlier release or of other settings is changed, not made anew."""
    async with run_ledger(mirrored=True) as ledger:
        await ledger.tape.append_many("operator", halts(0, 500))
        await mirrored(ledger, 500)
    async with run_ledger(mirrored=True, mirror_limits=MirrorLimits(50_000, 3600.0)) as ledger:
        await mirrored(ledger, 500)
        info = await ledger.client.jetstream().stream_info(subjects.MIRROR_STREAM)
        assert (info.config.max_bytes, info.config.max_age, info.config.discard) == (50_000, 3600.0, DiscardPolicy.OLD)
        assert info.state.first_seq > 1
        assert ledger.server.mirror_state.healed == 0
