"""The mirror: a JetStream stream of all facts, for outside tools; nothing of ours reads it.

The stream's sequence equals the fact's position. It is kept so by one rule, whatever happened before: look at the
stream's last sequence, publish what follows it from the log, and let JetStream refuse each message that does not come
at its sequence (``Nats-Expected-Last-Sequence``). Starting, catching up and healing after a wiped store are the same.
Between two looks what is new is only published: a stream that changed meanwhile refuses it, and is looked at again.

The stream does not listen on ``tape.>`` itself: a fact announced twice or never would shift every sequence after it. It
listens on ``mirror.tape.>`` and stores under the name ``tape.>``, so healing is never seen by those who follow the
tape. Trouble here is counted and reported, and never stops trading.

It is bounded: beyond its limits the oldest facts go, which leaves the sequences of the others alone. A stream that is
made anew begins where a full one would, so that years of facts are not sent to be thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    SubjectTransform,
)
from nats.js.errors import APIError, NotFoundError

from tapeline_common import subjects
from tapeline_common.measures import NS_PER_S
from tapeline_common.nats_client import BusError, NatsClient
from tapeline_common.nats_protocol import header_block
from tapeline_common.settings import RetentionTable
from tapeline_common.wire import Fact, decode_fact
from tapeline_ledger.store import Store

PREFIX = "mirror."
WINDOW = 2_000
"""Facts published between two acknowledgements: the last one's tells about all of them."""

ACKNOWLEDGEMENT_TIMEOUT_S = 2.0
CHECK_S = 1.0
"""How often the stream is looked at, so that a wiped store is noticed."""

GATHER_S = 0.02
"""How long the mirror waits for more before it publishes: nobody trades by it, and every message costs a wake-up."""

LEAST_BYTES_PER_FACT = 256
"""A stored message is larger than this, so no more of them than this fit into a stream of a given size."""

DAY_S = 86_400.0

_EXPECTED_LAST = "Nats-Expected-Last-Sequence"
_LOOK = f"$JS.API.STREAM.INFO.{subjects.MIRROR_STREAM}"
_GET = f"$JS.API.DIRECT.GET.{subjects.MIRROR_STREAM}"
_HEADER = header_block(_EXPECTED_LAST, "%d")


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """How much the stream holds. ``most_age_s`` 0 means any age."""

    most_bytes: int = 2**30
    most_age_s: float = 0.0

    @classmethod
    def of(cls, retention: RetentionTable) -> MirrorLimits:
        return cls(retention.mirror_size_mib * 2**20, retention.mirror_age_days * DAY_S)


def stream_config(limits: MirrorLimits, first: int = 1) -> StreamConfig:
    """Append-only by configuration: no client may delete or purge messages, only the limits make it forget.

    Args:
        first: sequence of the first message.
    """
    return StreamConfig(
        name=subjects.MIRROR_STREAM,
        description="Mirror of the tape: sequence = position. Written by the ledger; the log in Postgres is the truth.",
        subjects=[PREFIX + subjects.TAPE],
        subject_transform=SubjectTransform(src=PREFIX + subjects.TAPE, dest=subjects.TAPE),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_bytes=limits.most_bytes,
        max_age=limits.most_age_s,
        first_seq=first if first > 1 else None,
        storage=StorageType.FILE,
        num_replicas=1,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
    )


@dataclass(slots=True)
class MirrorState:
    """For status and metrics: how far the mirror is, how often it had to be made anew, what ails it."""

    pos: int = 0
    healed: int = 0
    troubles: int = 0
    trouble: str = ""


class Mirror:
    """Follows the log and keeps the stream equal to it. ``wake`` it when there are new facts.

    Args:
        client: publishes the facts.
        streams: looks at the stream and makes it, over a connection of its own.
    """

    def __init__(
        self,
        client: NatsClient,
        streams: JetStreamContext,
        store: Store,
        report: Callable[[str], None],
        limits: MirrorLimits,
    ) -> None:
        self.state = MirrorState()
        self._client = client
        self._store = store
        self._report = report
        self._streams = streams
        self._limits = limits
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            try:
                await self.catch_up()
                self.state.trouble = ""
                await self._follow()
            except (NatsError, APIError, BusError, TimeoutError, OSError) as error:
                trouble = f"{type(error).__name__}: {error}"
                if trouble != self.state.trouble:
                    self._report(f"the mirror is behind at {self.state.pos}: {trouble}")
                self.state.trouble = trouble
                self.state.troubles += 1
                await asyncio.sleep(CHECK_S)

    async def catch_up(self) -> None:
        """Look at the stream and bring it to the head of the log, from wherever it is."""
        pos = await self._last_sequence()
        if pos < self.state.pos:
            self.state.healed += 1
            self._report(f"the mirror fell back from {self.state.pos} to {pos}; filling it from the log")
        self.state.pos = pos
        await self._publish_new()

    async def _follow(self) -> None:
        """Publish what is new, until it is time to look at the stream again or it refuses something."""
        loop = asyncio.get_running_loop()
        look_again_s = loop.time() + CHECK_S
        while (left_s := look_again_s - loop.time()) > 0:
            self._woken.clear()
            if self.state.pos >= self._store.head.pos:
                try:
                    async with asyncio.timeout(left_s):  # wait_for of Python 3.11 can swallow a cancellation
                        await self._woken.wait()
                except TimeoutError:
                    return
            await asyncio.sleep(GATHER_S)
            try:
                await self._publish_new()
            except APIError:
                return  # it is not as we left it; the look tells how it is

    async def _publish_new(self) -> None:
        while self.state.pos < self._store.head.pos:
            kept = self._store.kept_after(self.state.pos, WINDOW)
            if kept is None:
                payloads = await self._store.payloads_after(self.state.pos, WINDOW)
                facts = [(decode_fact(payload), payload) for payload in payloads]
            else:
                facts = [(recorded.fact, recorded.payload) for recorded in kept]
            await self._publish(facts)
            self.state.pos += len(facts)

    async def _last_sequence(self) -> int:
        """Where the stream ends; it is made if missing, and made anew if it is not a copy of this log."""
        try:
            stream = await self._look()
        except NotFoundError:
            stream = await self._make()
        last = stream.state.last_seq
        if last and not await self._is_copy(stream.state):
            self._report(f"the mirror's last message is not fact {last} of the log; making the stream anew")
            await self._streams.delete_stream(subjects.MIRROR_STREAM)
            stream = await self._make()
            self.state.healed += 1
            self.state.pos = last = stream.state.last_seq
        await self._keep_limits(stream.config)
        return last

    async def _look(self) -> _Stream:
        """Raises ``NotFoundError`` where there is no such stream.

        Asked once a second, and its last message with it, so for no more than is needed and over our own connection:
        nats-py makes objects of all that is told, and tuples on the way of which Python keeps 2,000 of each length,
        which looks like a leak for half an hour.
        """
        reply = await self._client.request(_LOOK, b"", timeout=ACKNOWLEDGEMENT_TIMEOUT_S)
        stream = _stream.decode(reply.data)
        if stream.error is not None:
            raise APIError.from_error(stream.error)
        return stream

    async def _make(self) -> _Stream:
        """A new stream, from the first fact on that a full one could still hold."""
        fits = self._limits.most_bytes // LEAST_BYTES_PER_FACT
        await self._streams.add_stream(stream_config(self._limits, max(1, self._store.head.pos - fits + 1)))
        return await self._look()

    async def _keep_limits(self, config: _Config) -> None:
        """Change a stream that was made under other limits; it forgets at once what is beyond the new ones."""
        limits = self._limits
        most_age_s = config.max_age / NS_PER_S
        if (config.max_bytes, most_age_s, config.discard) == (limits.most_bytes, limits.most_age_s, DiscardPolicy.OLD):
            return
        as_it_is = (await self._streams.stream_info(subjects.MIRROR_STREAM)).config
        await self._streams.update_stream(
            as_it_is.evolve(max_bytes=limits.most_bytes, max_age=limits.most_age_s, discard=DiscardPolicy.OLD)
        )

    async def _is_copy(self, state: _State) -> bool:
        last = state.last_seq
        if last > self._store.head.pos:
            return False
        if not state.messages:
            return True  # all of it was older than the limit
        ours = await self._store.payloads_after(last - 1, 1)
        reply = await self._client.request(_GET, b'{"seq":%d}' % last, timeout=ACKNOWLEDGEMENT_TIMEOUT_S)
        if not reply.data:
            raise NotFoundError(description=f"message {last} of {subjects.MIRROR_STREAM} went away meanwhile")
        return reply.data == ours[0]

    async def _publish(self, facts: Sequence[tuple[Fact, bytes]]) -> None:
        """Send facts in order.

        If one is not stored, none after it is, and the acknowledgement of the last tells; that of the first tells
        whether the stream still ends where we left it.
        """
        await self._publish_acknowledged(*facts[0])
        between = [(_subject(fact), payload, _HEADER % (fact.pos - 1)) for fact, payload in facts[1:-1]]
        if between:
            self._client.send(between)
        if len(facts) > 1:
            await self._publish_acknowledged(*facts[-1])

    async def _publish_acknowledged(self, fact: Fact, payload: bytes) -> None:
        """Raises ``APIError`` if the stream refuses the message."""
        reply = await self._client.request(
            _subject(fact), payload, timeout=ACKNOWLEDGEMENT_TIMEOUT_S, header=_HEADER % (fact.pos - 1)
        )
        refused = _acknowledgement.decode(reply.data).error
        if refused is not None:
            raise APIError.from_error(refused)


def _subject(fact: Fact) -> str:
    return PREFIX + subjects.tape(fact.author, type(fact.event).__name__, fact.stream)


class _Acknowledgement(msgspec.Struct):
    """What JetStream replies to a publication, as far as it matters here."""

    error: dict[str, Any] | None = None


class _Config(msgspec.Struct):
    """Of a stream's configuration what can be changed later; ``max_age`` in ns."""

    max_bytes: int = -1
    max_age: int = 0
    discard: str = ""


class _State(msgspec.Struct):
    messages: int = 0
    last_seq: int = 0


class _Stream(msgspec.Struct):
    """What JetStream tells about a stream, as far as it matters here; or why it does not."""

    config: _Config = msgspec.field(default_factory=_Config)
    state: _State = msgspec.field(default_factory=_State)
    error: dict[str, Any] | None = None


_acknowledgement = msgspec.json.Decoder(_Acknowledgement)
_stream = msgspec.json.Decoder(_Stream)
