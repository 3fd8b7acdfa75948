"""A NATS server of a few lines that misbehaves as told: what the real one does too rarely to be tested with."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

HERE = Path(__file__).parent


@dataclass
class NatsDouble:
    """Greets, answers pings, keeps what it was told; never delivers a message.

    Attributes:
        options: what each CONNECT said.
        said: every other line, in order.
        is_mute: answers no ping any more.
    """

    tls: bool = False
    greeting: bytes = b""
    port: int = 0
    options: list[dict[str, object]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    is_mute: bool = False
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'tls' if self.tls else 'nats'}://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        info = {"max_payload": 1_000, "nonce": "n", "tls_required": self.tls}
        writer.write(self.greeting or b"INFO %b\r\n" % msgspec.json.encode(info))
        await writer.drain()
        if self.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(HERE / "localhost.pem")
            await writer.start_tls(context)
        while line := await reader.readline():
            if line.startswith(b"CONNECT "):
                self.options.append(msgspec.json.decode(line[8:]))
            elif line == b"PING\r\n":
                if not self.is_mute:
                    writer.write(b"PONG\r\n")
            else:
                self.said.append(line.rstrip())


@asynccontextmanager
async def nats_double(*, tls: bool = False, greeting: bytes = b"") -> AsyncIterator[NatsDouble]:
    double = NatsDouble(tls, greeting)
    server = await asyncio.start_server(double.serve, "localhost", 0)
    double.port = server.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        server.close()
        for writer in double.writers:
            writer.close()
