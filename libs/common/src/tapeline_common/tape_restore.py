"""Reading a tape back for somebody who restores from it: every fact is verified, and decoded as far as it is heard.

Two passes. What an author said itself is read first, because an answer may lie far behind what it answers. Then the
whole tape is read, its chain is verified page by page, and what was read first is compared with it: no fact is believed
that is not under the chain. This module folds nothing and decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence

from tapeline_common.events import Event
from tapeline_common.follower import answers_of
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_pages import READ_FACTS, Chain, ChainBroken, Read, pages
from tapeline_common.wire import Heard, decode_facts, heard_decoder


class Said:
    """What one author has said, not yet verified.

    Attributes:
        answers: its answers by the position they answer; ``last_answered`` is the last of these positions.
        through: how far the tape was looked at; what the author said behind that is not known here.
    """

    def __init__(self, author: str) -> None:
        self.author = author
        self.answers: dict[int, list[Event]] = {}
        self.last_answered = 0
        self.through = 0
        self._unverified: deque[tuple[int, bytes]] = deque()

    def take(self, page: Page) -> None:
        facts = decode_facts(page.facts)
        for cause, events in answers_of(self.author, facts).items():
            self.answers.setdefault(cause, []).extend(events)
            self.last_answered = max(self.last_answered, cause)
        self._unverified.extend(zip([fact.pos for fact in facts], page.facts, strict=True))
        self.through = page.through

    def verify(self, page: Page, facts: Sequence[Heard]) -> None:
        """Compare with a page of verified facts. Raises ``ChainBroken`` if this is not what the author said in it."""
        first, found = page.through - len(page.facts) + 1, 0
        while self._unverified and self._unverified[0][0] <= page.through:
            pos, payload = self._unverified.popleft()
            if page.facts[pos - first] != payload:
                raise ChainBroken(f"fact {pos} of {self.author} was read twice and came differently")
            found += 1
        known = [fact.author for fact in facts[: max(0, self.through - first + 1)]].count(self.author)
        if known != found:
            detail = (
                f"{self.author} said {known} facts from {first} to {page.through}, but {found} were found by author"
            )
            raise ChainBroken(detail)


async def read_said(read: Read, author: str) -> Said:
    """Everything an author has said, by a read that names it."""
    said = Said(author)
    async for page in pages(read, ReadRequest(0, limit=READ_FACTS, author=author)):
        said.take(page)
    return said


async def verified(
    read: Read, names: Collection[str], said: Collection[Said] = ()
) -> AsyncIterator[tuple[int, list[Heard]]]:
    """The whole tape in order: each page's last position and its facts, verified before they are handed out.

    Args:
        names: event names to be decoded; see ``wire.heard_decoder``.
        said: what was read before, verified on the way.

    Raises:
        ChainBroken: the tape read is not the tape that was recorded.
    """
    chain = Chain()
    decode = heard_decoder(names)
    async for page in pages(read, ReadRequest(0, limit=READ_FACTS, chained=True)):
        chain.take(page)
        facts = decode(page.facts)
        for own in said:
            own.verify(page, facts)
        yield page.through, facts
