"""The embedded stack as measurements need it: a temporary folder, only the services asked for, one more NATS user.

The extra user may ask and answer on ``bench.>`` only; facts are appended as the feed, with the feed's key.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from nats.aio.client import Client

from tapeline_common import bus
from tapeline_common.embedded import Stack
from tapeline_common.permissions import LEDGER, allowances
from tapeline_common.servers_nats import NatsServer, NatsUser, load_or_create_nkey

BENCH = "bench"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Readable from outside, because Postgres runs as an unprivileged user when we are root."""
    with tempfile.TemporaryDirectory(prefix="tapeline-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def make_stack(folder: Path, config_text: str, *, only_ledger: bool) -> Stack:
    """A stack on ``folder / "data"`` that is not started."""
    config = folder / "tapeline.toml"
    config.write_text(config_text)
    stack = Stack(folder / "data", config, log_level="warning")
    users = []
    for allowance in allowances(stack.services, replay=False):
        _, public = load_or_create_nkey(stack.seed_file(allowance.name))
        users.append(NatsUser(allowance.name, public, allowance.publish, allowance.subscribe))
    _, public = load_or_create_nkey(stack.seed_file(BENCH))
    users.append(NatsUser(BENCH, public, ("bench.>", f"_INBOX.{BENCH}.>"), ("bench.>",)))
    stack.nats = NatsServer(stack.folder / "nats", users=users)
    if only_ledger:
        stack.services = {LEDGER: stack.services[LEDGER]}
    return stack


@asynccontextmanager
async def running(stack: Stack) -> AsyncIterator[Stack]:
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


@asynccontextmanager
async def connected(stack: Stack, user: str) -> AsyncIterator[Client]:
    client = await bus.connect(stack.nats.url, name=user, seed_file=str(stack.seed_file(user)))
    try:
        yield client
    finally:
        await client.close()


def ledger_dsn(stack: Stack) -> str:
    return (stack.folder / "secrets" / "ledger-dsn").read_text().strip()


def superuser_dsn(stack: Stack) -> str:
    """The superuser's connection to the tape's database, for tables of a measurement's own."""
    return (stack.folder / "secrets" / "owner-dsn").read_text().strip().rpartition("/")[0] + "/tapeline"


async def served(client: Client) -> None:
    """Return when all that was sent has reached the server."""
    await asyncio.wait_for(client.flush(), 10)
