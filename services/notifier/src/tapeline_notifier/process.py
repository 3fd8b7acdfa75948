"""The notifier as a process: the tape, the receiver and the couriers, none of which waits for another.

Alerts must come through while the ledger, the bus or the tape are what is wrong. So the receiver and the couriers run
from the start to the end, and a tape that cannot be followed is told once and tried again, with growing waits.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tapeline_common.commands_shared import time_text
from tapeline_common.destinations import NO_DESTINATIONS, load_destinations
from tapeline_common.events import Event
from tapeline_common.process import Process, follow, settle_memory
from tapeline_common.settings import ConfigurationInvalid
from tapeline_common.values import Realm
from tapeline_common.wire import Fact, Heard
from tapeline_notifier import fold
from tapeline_notifier.alerts import WATCHDOG, Group, Watch, message_of
from tapeline_notifier.counts import Counts
from tapeline_notifier.delivery import Office
from tapeline_notifier.journal import CursorDamaged, Journal
from tapeline_notifier.message import Kind, Message, Severity, message
from tapeline_notifier.messenger import AppriseMessenger
from tapeline_notifier.receiver import application, receiving

AGAIN_S = (1.0, 5.0, 15.0, 60.0)
"""Waits before the tape is followed again; the last one repeats."""

LOOK_S = 1.0
"""How often the cursor is written down, and the Watchdog looked for: what a crash may make people hear twice."""


class TapeListener:
    """Turns the tape into messages and hands in those that were not handed in before.

    Args:
        office: whose cursor says what was; without one, nothing is told before ``follow_on``.
    """

    def __init__(self, office: Office) -> None:
        self.heard = 0
        self._office = office
        self._state = fold.State()
        self._from = office.journal.cursor.position

    @property
    def hears(self) -> tuple[type[Event], ...]:
        return fold.HEARS

    def hear(self, fact: Fact | Heard) -> None:
        messages = fold.tell(self._state, fact)
        if messages and self._from is not None and fact.pos > self._from:
            for told in messages:
                self._office.tell(told)
            self._office.heard(fact.pos)
        self.heard = fact.pos

    def follow_on(self) -> int:
        """The tape is folded up to its head: from here on everything is told. Returns from which position."""
        if self._from is None or self._from > self.heard:
            self._from = self.heard
            self._office.heard(self.heard)
            self._office.keep()
        return self._from


class Notifier:
    """What one process does, put together."""

    def __init__(self, process: Process, office: Office, counts: Counts) -> None:
        env = process.environment
        self.office = office
        self.counts = counts
        self._process = process
        self._logger = process.logger
        self._watch = Watch(env.watchdog_s, _now_s())
        self._listener: TapeListener | None = None
        self._has_followed = False
        self._is_lost = False

    async def run(self) -> None:
        """Until cancelled, or until the couriers or the receiver fail."""
        env = self._process.environment
        async with AsyncExitStack() as open_doors:
            if env.notifier_port:
                served = application(_token(env.notifier_token_file), self.take_alerts, self._logger)
                try:
                    port = await open_doors.enter_async_context(receiving(env.notifier_host, env.notifier_port, served))
                except OSError as trouble:
                    raise ConfigurationInvalid(
                        f"TAPELINE_NOTIFIER_PORT={env.notifier_port}: alerts cannot be received on "
                        f"{env.notifier_host}: {trouble.strerror}; use a free port, or 0 for no receiver"
                    ) from trouble
                self._logger.info("alerts are received", port=port)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for work in (self.office.run(), self._follow_always(), self._look_on()):
                        tasks.create_task(work)
            finally:
                self._keep()

    # ---- alerts ----------------------------------------------------------------------------------------------

    def take_alerts(self, group: Group) -> None:
        """What the receiver does with a group: count, look for the Watchdog, tell the rest."""
        time_ns = _time_ns()
        for alert in group.alerts:
            self.counts.saw_alert(alert.name, alert.status)
        if any(alert.name == WATCHDOG and alert.status == "firing" for alert in group.alerts):
            self.counts.watchdog_time_s = time_ns / 1e9
            self._tell(self._watch.saw(_now_s(), time_ns))
        self._tell(message_of(group, time_ns))

    def _tell(self, told: Message | None) -> None:
        if told is not None:
            self.office.tell(told)

    async def _look_on(self) -> None:
        """Look for the Watchdog's silence, and write the cursor down."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._tell(self._watch.look(_now_s(), _time_ns()))
            self._keep()

    def _keep(self) -> None:
        """Write down how far everything is, if the tape is followed."""
        listener = self._listener
        if listener is not None and self._has_followed and not self._is_lost:
            self.office.heard(max(listener.heard, self.office.journal.cursor.position or 0))
        self.office.keep()

    # ---- the tape --------------------------------------------------------------------------------------------

    async def _follow_always(self) -> None:
        """Follow the tape; what stops that is told, once, and tried again: alerts must not stop with it."""
        attempts = 0
        while True:
            self._listener = TapeListener(self.office)
            try:
                await follow(self._process, self._listener, self._restored)
            except Exception as trouble:
                self._lost(trouble)
            await asyncio.sleep(AGAIN_S[min(attempts, len(AGAIN_S) - 1)])
            attempts += 1

    def _restored(self) -> None:
        settle_memory()
        self._process.metrics.stopped.set(0)
        assert self._listener is not None
        position = self._listener.follow_on()
        self._logger.info("notifications begin", after=position)
        if self._is_lost:
            self._is_lost = False
            self._own(Severity.PAGE, "RESOLVED the notifier follows the tape again", "")
        elif not self._has_followed:
            names = ", ".join(self.counts.destinations) or "nobody (no destinations)"
            self._own(Severity.INFO, "Notifier started", f"from position {position} on; tells {names}")
        self._has_followed = True

    def _lost(self, trouble: Exception) -> None:
        if not self._is_lost:
            self._is_lost = True
            position = self._listener.heard if self._listener is not None else 0
            text = f"at position {position}: {trouble}. Fills, halts and models are not told until it does; alerts are."
            self._own(Severity.PAGE, "FIRING the notifier does not follow the tape", text)

    def _own(self, severity: Severity, title: str, text: str) -> None:
        kind = Kind.CONTROL if severity is Severity.INFO else Kind.ALERT
        self.office.tell(message(kind, severity, title, text, time_ns=_time_ns()))


async def run(process: Process) -> None:
    """Tell until ``process.stop`` is set; nothing in a replay."""
    env = process.environment
    if env.realm is Realm.REPLAY:
        await process.stop.wait()
        return
    counts = Counts()
    process.metrics.tell(counts)
    try:
        journal = Journal(Path(env.notifier_folder))
    except (OSError, CursorDamaged) as trouble:
        raise ConfigurationInvalid(f"TAPELINE_NOTIFIER_FOLDER={env.notifier_folder}: {trouble}") from trouble
    destinations = load_destinations(Path(env.destinations_file)) if env.destinations_file else ()
    if not destinations:
        process.logger.warning(NO_DESTINATIONS.format(file=env.destinations_file or "TAPELINE_DESTINATIONS_FILE"))
    messengers = [(one, AppriseMessenger(index, one)) for index, one in enumerate(destinations)]
    office = Office(journal, messengers, counts, process.logger, time_text)
    await Notifier(process, office, counts).run()


def _token(file: str) -> str:
    """What callers must show. Raises ``ConfigurationInvalid``: a receiver without a token would believe anybody."""
    try:
        token = Path(file).read_text().strip() if file else ""
    except (OSError, UnicodeDecodeError) as trouble:
        raise ConfigurationInvalid(
            f"TAPELINE_NOTIFIER_TOKEN_FILE={file}: cannot be read; it should hold the token of the alerts' sender"
        ) from trouble
    if not token:
        raise ConfigurationInvalid(
            f"TAPELINE_NOTIFIER_TOKEN_FILE={file!r}: no token there; name a file that holds one, or set "
            "TAPELINE_NOTIFIER_PORT=0"
        )
    return token


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _time_ns() -> int:
    return time.time_ns()  # noqa: TID251  (dates alerts, which no decision depends on)
