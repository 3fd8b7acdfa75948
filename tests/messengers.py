"""Shared by tests of the notifier: a webhook and a mail server on this machine, and messengers that do as told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import Any

from aiohttp import web

from tapeline_notifier.message import Message
from tapeline_notifier.messenger import Attempt, Outcome

PATIENCE_S = 30.0


async def until(check: Callable[[], bool], what: str) -> None:
    """Wait for progress."""
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while not check():
        assert asyncio.get_running_loop().time() < deadline_s, f"not within {PATIENCE_S:.0f} s: {what}"
        await asyncio.sleep(0.005)


@dataclass
class Webhook:
    """What came in; ``answers`` are given in turn, then 200. ``gate`` closed: nobody gets an answer."""

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.got]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self.gate.wait()
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.got.append(body)
        return web.Response(status=status, text=f"you asked for {request.url}")


@asynccontextmanager
async def webhook(port: int = 0) -> AsyncIterator[Webhook]:
    hook = Webhook()
    hook.gate.set()
    served = web.Application()
    served.router.add_post("/{anything:.*}", hook.take)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    hook.port = runner.addresses[0][1]
    try:
        yield hook
    finally:
        hook.gate.set()
        await runner.cleanup()


@dataclass
class MailServer:
    """A little of SMTP: enough for a client that logs in and hands over mail.

    Attributes:
        refuses: answers every login with 535.
        mails: (subject, text) of what was taken.
    """

    port: int = 0
    refuses: bool = False
    mails: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 oak")
        while line := (await reader.readline()).decode().strip():
            verb = line.split(" ", 1)[0].upper()
            if verb == "EHLO":
                await say("250-oak\r\n250 AUTH PLAIN")
            elif verb == "AUTH":
                self.logins.append(base64.b64decode(line.rsplit(" ", 1)[1]).decode())
                await say("535 no" if self.refuses else "235 yes")
            elif verb == "DATA":
                await say("354 go on")
                raw = await reader.readuntil(b"\r\n.\r\n")
                mail = message_from_bytes(raw[:-5], policy=policy.default)
                part = mail.get_body(("plain", "html"))
                self.mails.append((str(mail["Subject"]), "" if part is None else str(part.get_content())))
                await say("250 taken")
            elif verb == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 fine")
        writer.close()


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    mail = MailServer()
    server = await asyncio.start_server(mail.serve, "127.0.0.1", 0)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()


@dataclass
class Scripted:
    """A messenger that does as told: attempts in turn, then sends. ``gate`` closed: it does not come back."""

    attempts: list[Outcome] = field(default_factory=list)
    got: list[Message] = field(default_factory=list)
    tried: int = 0
    gate: Callable[[], Awaitable[object]] | None = None

    async def send(self, told: Message) -> Attempt:
        self.tried += 1
        if self.gate is not None:
            await self.gate()
        outcome = self.attempts.pop(0) if self.attempts else Outcome.SENT
        if outcome is Outcome.SENT:
            self.got.append(told)
        return Attempt(outcome)
