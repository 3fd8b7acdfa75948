"""Answers requests on ``bench.echo`` with their own bytes, in a process of its own: the bare round trip.

``python -m bench.echo URL SEED_FILE`` runs until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from bench.servers import BENCH
from tapeline_common import nats_client
from tapeline_common.nats_protocol import Message

SUBJECT = "bench.echo"


async def answer(url: str, seed_file: str) -> None:
    client = await nats_client.connect(url, name=BENCH, seed_file=seed_file)

    def reply(message: Message) -> None:
        client.send([(message.reply, message.data, b"")])

    await client.listen(SUBJECT, reply)
    await client.flush()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await client.close()


if __name__ == "__main__":
    uvloop.run(answer(sys.argv[1], sys.argv[2]))
