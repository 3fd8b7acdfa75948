"""The control door counts what was asked of it, without a server."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import structlog

from tapeline_common.nats_protocol import Message
from tapeline_common.tape import Receipt
from tapeline_common.values import AppendRefusal, ControlRefusal
from tapeline_common.wire import Answer
from tapeline_ledger.door import Door


class Recorder:
    """Records everything at the next position, until it is full."""

    def __init__(self) -> None:
        self.head = 0
        self.is_full = False

    async def append_local(self, author: str, answer: Answer) -> Receipt:
        if self.is_full:
            return Receipt(refusal=AppendRefusal.NOT_WRITABLE)
        self.head += 1
        return Receipt(positions=(self.head,))


async def test_requests_are_counted_by_verb_and_outcome() -> None:
    """Recorded, refused with a reason, an action there is not, and a ledger that could not record."""
    recorder = Recorder()
    nobody: Any = SimpleNamespace()
    logger = cast(structlog.typing.FilteringBoundLogger, SimpleNamespace(info=lambda *_, **__: None))
    door = Door(nobody, cast(Any, recorder), public_key="", now_ns=lambda: 1, logger=logger)
    for action, body in (("halt", b'{"reason": "drill"}'), ("halt", b"{"), ("resume", b"{}"), ("explode", b"{}")):
        await door._answer(Message(f"control.{action}", body))
    recorder.is_full = True
    await door._answer(Message("control.flatten", b'{"reason": "drill"}'))
    assert door.requests == Counter(
        {
            ("halt", "recorded"): 1,
            ("halt", "refused"): 1,
            ("resume", "refused"): 1,
            ("unknown", "refused"): 1,
            ("flatten", "refused"): 1,
        }
    )
    assert door.refusals == Counter(
        {
            ControlRefusal.MALFORMED: 1,
            ControlRefusal.SIGNATURE_MISSING: 1,
            ControlRefusal.ACTION_UNKNOWN: 1,
            ControlRefusal.NOT_RECORDED: 1,
        }
    )
