"""Answers requests on ``bench.echo`` with their own bytes, in a process of its own: the bare round trip.

``python -m bench.echo URL SEED_FILE`` runs until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from nats.aio.msg import Msg

from bench.servers import BENCH, served
from tapeline_common import bus

SUBJECT = "bench.echo"


async def answer(url: str, seed_file: str) -> None:
    client = await bus.connect(url, name=BENCH, seed_file=seed_file)

    async def reply(message: Msg) -> None:
        await client.publish(message.reply, message.data)

    await client.subscribe(SUBJECT, cb=reply)
    await served(client)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await client.close()


if __name__ == "__main__":
    uvloop.run(answer(sys.argv[1], sys.argv[2]))
