"""The tape over NATS: a client of the ledger service, and the messages both of them exchange.

``ledger.append.<author>``: one answer, or a JSON array of answers, each atomic on its own; the reply is a receipt, or
an array of receipts in the same order. ``ledger.read``: a ``ReadRequest``; the reply is one JSON object with the facts
in it as they are stored, or, to a chained request, that object without facts and then one line for each fact. So both
subjects can be used by hand with any NATS client.

This module opens no connection; it is given a connected client. Following the tape is the shell's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec
from nats.errors import Error as NatsError

from tapeline_common import subjects
from tapeline_common.nats_client import BusError
from tapeline_common.tape import Page, ReadRequest, Receipt, TapeUnavailable
from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, decode_answer

MOST_ANSWERS = 5_000
"""Answers of one request."""

APPEND_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0


class PageReply(msgspec.Struct, frozen=True):
    """Reply to ``ledger.read``. ``error`` is set, and the rest empty, for a request that cannot be answered."""

    through: int = 0
    head: int = 0
    facts: tuple[msgspec.Raw, ...] = ()
    error: str = ""
    hash: str = ""


_json = msgspec.json.Encoder()
_receipt = msgspec.json.Decoder(Receipt)
_receipts = msgspec.json.Decoder(tuple[Receipt, ...])
_page = msgspec.json.Decoder(PageReply)
_request = msgspec.json.Decoder(ReadRequest)
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


def encode_receipts(receipts: Sequence[Receipt], *, single: bool) -> bytes:
    """A receipt for a single answer, an array of receipts for an array."""
    return _json.encode(receipts[0] if single else receipts)


def decode_answers(payload: bytes) -> tuple[list[Answer | Receipt], bool]:
    """The answers of an append request, and whether it was a single one. Whatever cannot be read becomes a receipt
    that says so, in its place."""
    if payload[:1] != b"[":
        return [_decode_one(payload)], True
    try:
        parts = _raw_array.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [_malformed(error)], True
    if not 0 < len(parts) <= MOST_ANSWERS:
        detail = f"{len(parts)} answers in one request; 1 to {MOST_ANSWERS}"
        return [Receipt(refusal=AppendRefusal.MALFORMED, detail=detail)], True
    return [_decode_one(bytes(part)) for part in parts], False


def _decode_one(payload: bytes) -> Answer | Receipt:
    try:
        return decode_answer(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _malformed(error)


def _malformed(error: Exception) -> Receipt:
    return Receipt(refusal=AppendRefusal.MALFORMED, detail=str(error)[:500])


def decode_read_request(payload: bytes) -> ReadRequest:
    """Raises ``ValueError`` naming what is wrong with the request."""
    try:
        request = _request.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no read request: {error}") from None
    if request.after < 0 or request.until < 0 or request.limit < 1:
        raise ValueError(f"after {request.after} and until {request.until} start at 0, limit {request.limit} at 1")
    if max(request.after, request.until, request.limit) >= 2**63:
        raise ValueError("after, until and limit fit 64 bits")
    if request.chained and (request.types or request.author or request.stream):
        raise ValueError("a chained read is of every fact: leave types, author and stream out")
    if any("\0" in name for name in (*request.types, request.author)):
        raise ValueError("types and author are names, without a zero byte")
    return request


def encode_page(page: Page) -> bytes:
    return _json.encode(PageReply(page.through, page.head, tuple([msgspec.Raw(fact) for fact in page.facts])))


def encode_stretch(lines: bytes, through: int, head: int, hash_after: bytes) -> bytes:
    """Reply to a chained request: ``lines`` holds the facts up to ``through``, one in each line."""
    header = _json.encode(PageReply(through, head, hash=hash_after.hex()))
    return b"%b\n%b" % (header, lines)


def encode_read_error(detail: str) -> bytes:
    return _json.encode(PageReply(error=detail))


class Asker(Protocol):
    """What both of our NATS clients can do; ``nats_client`` sends the request when this is called."""

    @property
    def is_connected(self) -> bool: ...

    def request(self, subject: str, payload: bytes, /, *, timeout: float) -> Awaitable[Any]:
        """The reply; its payload is ``data``."""


class NatsTape:
    """``Tape`` over a connected NATS client.

    Args:
        append_timeout_s: how long an append may take. In the replay realm an outside fact waits for everything that
            follows from the facts before it, so give it minutes there.
    """

    def __init__(
        self,
        client: Asker,
        *,
        append_timeout_s: float = APPEND_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._client = client
        self._append_timeout_s = append_timeout_s
        self._read_timeout_s = read_timeout_s

    def append(self, author: str, answer: Answer) -> Coroutine[Any, Any, Receipt]:
        """The request goes out when this is called, if the client can, and not only when it is awaited."""
        return self._receipt(self._ask(subjects.append(author), _json.encode(answer), self._append_timeout_s))

    async def _receipt(self, reply: Awaitable[bytes]) -> Receipt:
        return _receipt.decode(await reply)

    async def append_many(self, author: str, answers: Sequence[Answer]) -> tuple[Receipt, ...]:
        """Several answers in one message, each recorded whole or not at all, in order. At most ``MOST_ANSWERS``."""
        if not answers:
            return ()
        reply = await self._ask(subjects.append(author), _json.encode(answers), self._append_timeout_s)
        if reply[:1] != b"[":
            return (_receipt.decode(reply),) * len(answers)  # the message as a whole was refused
        return _receipts.decode(reply)

    async def read(self, request: ReadRequest) -> Page:
        """Raises ``ValueError`` for a request that makes no sense."""
        data = await self._ask(subjects.READ, _json.encode(request), self._read_timeout_s)
        header, _, lines = data.partition(b"\n") if request.chained else (data, b"", b"")
        reply = _page.decode(header)
        if reply.error:
            raise ValueError(reply.error)
        if request.chained:
            facts = tuple(lines.split(b"\n")) if lines else ()
            return Page(facts, reply.through, reply.head, bytes.fromhex(reply.hash))
        return Page(tuple(bytes(fact) for fact in reply.facts), reply.through, reply.head)

    def _ask(self, subject: str, payload: bytes, timeout_s: float) -> Coroutine[Any, Any, bytes]:
        if not self._client.is_connected:
            # A request buffered until the connection is back could be carried out long after we gave it up.
            return _unavailable(f"not connected to NATS; {subject} was not asked")
        try:
            reply = self._client.request(subject, payload, timeout=timeout_s)
        except (BusError, OSError) as error:
            return _unavailable(f"{subject} was not asked: {type(error).__name__}: {error}")
        return _replied(reply, subject, timeout_s)


async def _replied(reply: Awaitable[Any], subject: str, timeout_s: float) -> bytes:
    try:
        data: bytes = (await reply).data
    except (NatsError, BusError, TimeoutError, OSError) as error:
        raise TapeUnavailable(f"no reply to {subject} within {timeout_s} s: {type(error).__name__}") from error
    return data


async def _unavailable(why: str) -> bytes:
    raise TapeUnavailable(why)
