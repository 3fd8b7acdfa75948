"""The tape in memory: the second implementation of ``Tape``, for tests, simulation and forks.

Same sequencer, same refusals, same bytes as the ledger; nothing survives the process, and nothing is sent anywhere.
"""

from __future__ import annotations

from tapeline_common.sequencer import Recorded, Refused, Sequencer
from tapeline_common.tape import Page, ReadRequest, Receipt, matches
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, Answer, Fact


class MemoryTape:
    """A list of facts behind the sequencer.

    Attributes:
        now_ns: the wall clock of the live realm; whoever owns the tape moves it.
    """

    def __init__(self, realm: Realm = Realm.LIVE, now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.records: list[Recorded] = []
        self._sequencer = Sequencer(realm)
        self._by_id: dict[str, Fact] = {}

    @property
    def head(self) -> int:
        return self._sequencer.pos

    @property
    def head_hash(self) -> bytes:
        return self._sequencer.hash

    @property
    def facts(self) -> list[Fact]:
        return [recorded.fact for recorded in self.records]

    def record(self, author: str, answer: Answer) -> Receipt:
        """``append`` without the await."""
        needs = self._sequencer.needs(author, answer)
        known = {identity: self._by_id[identity] for identity in needs.ids if identity in self._by_id}
        cause = None
        if needs.cause is not None and needs.cause <= self.head:
            cause = self.records[needs.cause - 1].fact
        outcome = self._sequencer.admit(author, answer, now_ns=self.now_ns, known=known, cause=cause)
        if isinstance(outcome, Refused):
            return Receipt(refusal=outcome.reason, detail=outcome.detail)
        for recorded in outcome.new:
            self.records.append(recorded)
            self._by_id[recorded.fact.id] = recorded.fact
        return Receipt(positions=outcome.positions)

    async def append(self, author: str, answer: Answer) -> Receipt:
        return self.record(author, answer)

    def page(self, request: ReadRequest) -> Page:
        """``read`` without the await."""
        until = min(request.until or self.head, self.head)
        found: list[bytes] = []
        through = until
        for recorded in self.records[request.after : until]:
            if matches(recorded.fact, request):
                found.append(recorded.payload)
                if len(found) == request.limit:
                    through = recorded.fact.pos
                    break
        through = max(through, request.after)
        return Page(tuple(found), through, self.head, self._hash_at(through) if request.chained else b"")

    def _hash_at(self, pos: int) -> bytes:
        if pos > self.head:
            return b""
        return self.records[pos - 1].hash if pos else GENESIS

    async def read(self, request: ReadRequest) -> Page:
        return self.page(request)
