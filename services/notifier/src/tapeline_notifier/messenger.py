"""The one door to ``apprise``: sends a message to one destination, in a thread, within a time.

What apprise says about a failure may quote a URL, and so a password: its words are never passed on. They are reduced to
an ``Outcome`` and, where there is one, an HTTP status. Who gets what, and when to try again, is in ``delivery``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from tapeline_common.destinations import Destination
from tapeline_common.settings import ConfigurationInvalid
from tapeline_notifier.message import Message, Severity

if TYPE_CHECKING:
    from apprise import Apprise

SEND_S = 20.0
"""How long one attempt may take. Apprise's own limits are four seconds to connect and four for each read."""


class Outcome(StrEnum):
    """What came of one attempt."""

    SENT = "sent"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    BUSY = "still busy with an attempt that timed out"
    FAILED = "failed"


HINT: dict[Outcome, str] = {
    Outcome.REFUSED: "it was reached and said no: look at its token or password, and at who is addressed",
    Outcome.UNREACHABLE: "no connection, or no answer on it: look at host, port and the way out of this machine",
    Outcome.TIMED_OUT: f"no answer within {SEND_S:.0f} s",
    Outcome.FAILED: "the messenger did not take it: compare the URL with apprise's page about it",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """``status``: HTTP status of the answer, 0 if none is known."""

    outcome: Outcome
    status: int = 0

    def __str__(self) -> str:
        return f"{self.outcome.value} (HTTP {self.status})" if self.status else self.outcome.value


class Messenger(Protocol):
    """Something that takes messages for one destination."""

    async def send(self, told: Message) -> Attempt: ...


_STATUS = re.compile(r"error=(\d{3})\b")
_NO_LINE = re.compile(r"connection error|socket|timed out|timeout|refused|unreachable|resol", re.IGNORECASE)


class AppriseMessenger:
    """A destination reached through apprise. Raises ``ConfigurationInvalid`` for a URL that apprise does not know."""

    def __init__(self, index: int, destination: Destination, *, send_s: float = SEND_S) -> None:
        self._apprise = _loaded(index, destination)
        self._send_s = send_s
        self._thread: threading.Thread | None = None

    async def send(self, told: Message) -> Attempt:
        """One attempt. It may have arrived although it timed out; a second one is not begun before that is over."""
        if self._thread is not None and self._thread.is_alive():
            return Attempt(Outcome.BUSY)
        done: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._thread = _in_thread(lambda: self._notify(told), done)
        try:
            async with asyncio.timeout(self._send_s):
                return await done
        except TimeoutError:
            return Attempt(Outcome.TIMED_OUT)

    def _notify(self, told: Message) -> Attempt:
        from apprise import NotifyFormat, NotifyType

        kinds = {Severity.PAGE: NotifyType.FAILURE, Severity.TICKET: NotifyType.WARNING, Severity.INFO: NotifyType.INFO}
        result = self._apprise.notify(
            body=told.text or told.title,
            title=told.title,
            notify_type=kinds[told.severity],
            body_format=NotifyFormat.TEXT,
            interpret_escapes=False,
        )
        return Attempt(Outcome.SENT) if result else _reduced([entry.message for entry in result.logs()])


def _loaded(index: int, destination: Destination) -> Apprise:
    """Apprise, loaded when there is somebody to tell, with its own log switched off."""
    from apprise import Apprise, AppriseAsset

    for name in ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "smtplib"):
        quiet = logging.getLogger(name)
        quiet.handlers = [logging.NullHandler()]
        quiet.propagate = False
    known = Apprise(asset=AppriseAsset(app_id="Tapeline", app_desc="Tapeline", app_url=""))
    try:
        accepted = known.add(destination.url)
    except Exception:  # apprise's plugins parse what a user wrote; any of their errors may quote it
        accepted = False
    if not accepted or len(known) != 1:
        raise ConfigurationInvalid(
            f"destinations: key destination[{index}].url of {destination.name!r} is no URL that apprise knows (it is "
            "not shown): compare it with apprise's page about the messenger"
        )
    return known


def _reduced(said: Sequence[str]) -> Attempt:
    """The little of apprise's words that cannot hold a secret."""
    text = "\n".join(said)
    status = _STATUS.search(text)
    if status is not None:
        return Attempt(Outcome.REFUSED, int(status[1]))
    return Attempt(Outcome.UNREACHABLE if _NO_LINE.search(text) else Outcome.FAILED)


def _in_thread(work: Callable[[], Attempt], done: asyncio.Future[Attempt]) -> threading.Thread:
    """A thread of its own that holds up nobody's end: a pool's would be waited for when the process stops."""
    loop = asyncio.get_running_loop()

    def settle(attempt: Attempt) -> None:
        if not done.done():
            done.set_result(attempt)

    def run() -> None:
        try:
            attempt = work()
        except Exception:  # its text may quote the URL
            attempt = Attempt(Outcome.FAILED)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, attempt)

    thread = threading.Thread(target=run, daemon=True, name="messenger")
    thread.start()
    return thread
