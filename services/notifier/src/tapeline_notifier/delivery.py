"""Takes messages to their destinations: each destination has its own queue, its own pace and its own troubles.

A message is written to the journal first; then it is on its way, whatever happens to this process. What cannot be
delivered is tried again with growing waits for as long as it takes. Messengers ban who floods them: what is more than a
destination's pace allows is told as one summary. This module knows neither the tape nor apprise.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tapeline_common import logs
from tapeline_common.destinations import Destination
from tapeline_notifier.counts import Counts
from tapeline_notifier.journal import Entry, Journal
from tapeline_notifier.measures import DROPPED, FAILED, SENT
from tapeline_notifier.message import Message, collapsed, located, wanted
from tapeline_notifier.messenger import Attempt, Messenger, Outcome

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Waits between attempts; the last one repeats."""

MOST_WAITING = 1_000
"""Messages that may wait for one destination; the oldest gives way, and the next summary says so."""

SETTLE_S = 2.0
"""How long a stop waits for what is on its way."""

BURST = 5
"""Messages that may go out at once before the pace counts."""


@dataclass(slots=True)
class Pace:
    """A token bucket: ``BURST`` messages at once, then ``per_minute``."""

    per_minute: int
    now_s: Callable[[], float]
    permits: float = float(BURST)
    seen_s: float = 0.0

    def __post_init__(self) -> None:
        self.seen_s = self.now_s()

    def free(self) -> int:
        """Messages that may go out now."""
        now_s = self.now_s()
        self.permits = min(float(BURST), self.permits + (now_s - self.seen_s) * self.per_minute / 60)
        self.seen_s = now_s
        return int(self.permits)

    def wait_s(self) -> float:
        """Until the next one may go out."""
        return max(0.0, (1.0 - self.permits) * 60 / self.per_minute)


@dataclass(slots=True, eq=False)
class Waiting:
    """A message that is not delivered; ``has_failed``: an attempt for it has."""

    number: int
    message: Message
    since_s: float
    has_failed: bool = False


@dataclass(slots=True, eq=False)
class Courier:
    """One destination's deliveries.

    Args:
        settled: told what became of messages, and up to which number everything is done with.
        retry_s: waits between attempts, for tests.

    Attributes:
        queue: what waits, oldest first; ``under_way``: what is being sent, and is not in the queue.
        last: number of the latest message that was put here or passed by.
    """

    destination: Destination
    messenger: Messenger
    counts: Counts
    logger: logs.Logger
    settled: Callable[[str, Sequence[int], str, int], None]
    retry_s: Sequence[float] = RETRY_S
    queue: deque[Waiting] = field(default_factory=deque)
    under_way: list[Waiting] = field(default_factory=list)
    last: int = 0
    _dropped: int = 0
    _failures: int = 0
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.destination.per_minute, _now_s)
        self.counts.waiting[self.name] = self.waiting

    @property
    def name(self) -> str:
        return self.destination.name

    def put(self, number: int, told: Message) -> None:
        """Take a message on. Never waits."""
        self.last = number
        self.queue.append(Waiting(number, told, _now_s()))
        self._make_room()
        self._woken.set()

    def waiting(self) -> tuple[int, float]:
        """How many messages wait, and for how long the oldest one has. Asked from other threads as well."""
        waiting = [*self.under_way, *self.queue.copy()]
        return len(waiting), _now_s() - waiting[0].since_s if waiting else 0.0

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way, or would be next."""
        return bool(self.under_way) or (bool(self.queue) and not self._failures)

    @property
    def done_through(self) -> int:
        """Every message up to this number is delivered, dropped, or not for this destination."""
        first = min((one.number for one in (*self.under_way, *self.queue)), default=None)
        return self.last if first is None else first - 1

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            if not self.queue:
                self._woken.clear()
                await self._woken.wait()
            elif not self._pace.free():
                await asyncio.sleep(self._pace.wait_s())
            else:
                await self._deliver()

    async def _deliver(self) -> None:
        """One attempt, at the oldest message, or at all of them where the pace does not allow one by one."""
        in_pace = not self._failures and len(self.queue) <= self._pace.free()
        alone = (in_pace or len(self.queue) == 1) and not self._dropped
        batch = self.under_way = [self.queue.popleft()] if alone else list(self.queue)
        if not alone:
            self.queue.clear()
        dropped = self._dropped
        self._pace.permits -= 1
        told = located(batch[0].message) if alone else collapsed([one.message for one in batch], dropped)
        try:
            attempt = await self.messenger.send(told)
        except BaseException:
            self._put_back()
            raise
        if attempt.outcome is Outcome.SENT:
            self._sent(batch, dropped)
        else:
            self._put_back()
            await self._failed(batch, attempt)

    def _put_back(self) -> None:
        self.queue.extendleft(reversed(self.under_way))
        self.under_way = []
        self._make_room()

    def _make_room(self) -> None:
        """The oldest messages give way."""
        while len(self.queue) > MOST_WAITING:
            oldest = self.queue.popleft()
            self._dropped += 1
            self._count([oldest], DROPPED)
            self.settled(self.name, [oldest.number], DROPPED, self.done_through)

    def _sent(self, batch: list[Waiting], dropped: int) -> None:
        self.under_way = []
        self._dropped -= dropped
        if self._failures:
            self.logger.info("destination is back", destination=self.name, attempts=self._failures)
        self._failures = 0
        self._count(batch, SENT)
        self.settled(self.name, [one.number for one in batch], SENT, self.done_through)

    async def _failed(self, batch: list[Waiting], attempt: Attempt) -> None:
        fresh = [one for one in batch if not one.has_failed]
        self._count(fresh, FAILED)
        for one in fresh:
            one.has_failed = True
        wait_s = self.retry_s[min(self._failures, len(self.retry_s) - 1)]
        self._failures += 1
        self.logger.warning(
            "not delivered", destination=self.name, reason=str(attempt), waiting=len(self.queue), again_in_s=wait_s
        )
        await asyncio.sleep(wait_s)

    def _count(self, messages: Sequence[Waiting], outcome: str) -> None:
        for one in messages:
            self.counts.notifications[self.name, one.message.kind.value, outcome] += 1


class Office:
    """Where messages are handed in: writes them down, then gives them to the couriers.

    Args:
        utc: the text of a stamp.
    """

    def __init__(
        self,
        journal: Journal,
        messengers: Sequence[tuple[Destination, Messenger]],
        counts: Counts,
        logger: logs.Logger,
        utc: Callable[[int], str],
        retry_s: Sequence[float] = RETRY_S,
    ) -> None:
        self.journal = journal
        self.couriers = [
            Courier(destination, messenger, counts, logger, self._settled, retry_s)
            for destination, messenger in messengers
        ]
        self._logger = logger
        self._utc = utc
        counts.destinations = tuple(courier.name for courier in self.couriers)
        self._take_up()

    def tell(self, told: Message) -> None:
        """Write a message down and have it delivered. A full disk does not keep it from being delivered."""
        wanting = [courier for courier in self.couriers if wanted(told, courier.destination.sends)]
        try:
            self.journal.append(told, self._utc(told.time_ns), tuple(courier.name for courier in wanting))
        except OSError as trouble:
            self._logger.error("not written down", reason=trouble.strerror, title=told.title)
        number = self.journal.number
        for courier in wanting:
            courier.put(number, told)

    def heard(self, position: int) -> None:
        """Every message about facts up to this position was handed in; ``keep`` or the next delivery writes it down."""
        self.journal.cursor.position = position

    def keep(self) -> None:
        """Write down how far everybody is, if that has changed."""
        for courier in self.couriers:
            if not courier.queue and not courier.under_way:
                courier.last = self.journal.number
            self.journal.cursor.delivered[courier.name] = courier.done_through
        try:
            self.journal.keep()
        except OSError as trouble:
            self._logger.error("cursor not written", reason=trouble.strerror)

    async def run(self) -> None:
        """Deliver until cancelled; what is on its way then gets a moment to arrive."""
        running = [asyncio.create_task(courier.run()) for courier in self.couriers]
        try:
            idle = asyncio.get_running_loop().create_future()
            ended, _ = await asyncio.wait([idle, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                await task  # a courier ends by an error only
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    while any(courier.is_busy for courier in self.couriers):  # noqa: ASYNC110  (once, at the end)
                        await asyncio.sleep(0.02)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _settled(self, destination: str, numbers: Sequence[int], outcome: str, through: int) -> None:
        try:
            self.journal.settled(list(numbers), destination, outcome)
            self.journal.cursor.delivered[destination] = through
            if outcome == SENT:  # what is dropped comes in hundreds, and is looked for again if need be
                self.journal.keep()
        except OSError as trouble:
            self._logger.error("delivery not written down", reason=trouble.strerror)

    def _take_up(self) -> None:
        """Give each destination what it does not have yet; one that is new begins with what comes from now on."""
        known = self.journal.cursor.delivered
        self.journal.cursor.delivered = {
            courier.name: known.get(courier.name, self.journal.number) for courier in self.couriers
        }
        behind = min(self.journal.cursor.delivered.values(), default=self.journal.number)
        entries: list[Entry] = self.journal.after(behind) if behind < self.journal.number else []
        for courier in self.couriers:
            courier.last = self.journal.cursor.delivered[courier.name]
            for entry in entries:
                if entry.number > courier.last and wanted(entry.message, courier.destination.sends):
                    courier.put(entry.number, entry.message)
            courier.last = self.journal.number


_now_s = time.monotonic
