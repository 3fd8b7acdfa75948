"""Reading much of the tape: every page up to the head, several of them on their way while one is worked on.

Reads only, in position order, through any ``Tape``, and verifies the chain of what must be verified. What is announced
meanwhile is the follower's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from tapeline_common.tape import Page, ReadRequest
from tapeline_common.wire import GENESIS, chain_all

READ_FACTS = 2_500
"""Facts asked for at once by whoever wants many: what usually fits one message."""

PAGES_AHEAD = 3
MOST_POSITIONS = 100_000
"""Positions looked at for one page where few facts match."""


Read = Callable[[ReadRequest], Awaitable[Page]]


class ChainBroken(Exception):
    """What was read is not what was recorded. The message names the positions between which it is wrong."""


@dataclass(slots=True)
class Chain:
    """How far a tape is known to be as it was recorded."""

    pos: int = 0
    hash: bytes = GENESIS

    def take(self, page: Page) -> None:
        """Go on with the next page of a chained read.

        Raises ``ChainBroken`` if a fact is missing, added or changed, or if the log's hash is not that of its facts.
        """
        if len(page.facts) != page.through - self.pos:
            count = len(page.facts)
            raise ChainBroken(f"{count} facts were read from {self.pos + 1} to {page.through}; {_VERIFY}")
        head = chain_all(self.hash, page.facts)
        if head != page.hash:
            raise ChainBroken(
                f"the facts from {self.pos + 1} to {page.through} give the hash {head.hex()}, "
                f"the log has {page.hash.hex() or 'none'} after them; {_VERIFY}"
            )
        self.pos, self.hash = page.through, head


_VERIFY = "`tapeline verify` finds the first one that is wrong"


async def pages(read: Read, request: ReadRequest) -> AsyncIterator[Page]:
    """Every page from ``request.after`` to the head, in order.

    The positions of the pages to come are known, so some are asked for while one is worked on. A range of positions is
    as wide as about ``request.limit`` facts need, by the facts found so far.
    """
    assert not request.until, "pages go to the head"
    coming: deque[asyncio.Future[list[Page]]] = deque()
    page = await read(request)
    looked_at = page.through - request.after
    found = len(page.facts)
    asked = page.through
    yield page
    try:
        while page.through < page.head:
            span = min(-(-request.limit * looked_at // max(found, 1)), MOST_POSITIONS)
            while asked < page.head and len(coming) < PAGES_AHEAD:
                until = min(asked + span, page.head)
                coming.append(asyncio.ensure_future(_range(read, replace(request, after=asked, until=until))))
                asked = until
            for page in await coming.popleft():
                found += len(page.facts)
                yield page
            looked_at = page.through - request.after
    finally:
        for future in coming:
            future.cancel()


async def _range(read: Read, request: ReadRequest) -> list[Page]:
    """All pages up to ``request.until``: one, unless the ledger had to cut it."""
    found = [await read(request)]
    while found[-1].through < request.until:
        found.append(await read(replace(request, after=found[-1].through)))
    return found
