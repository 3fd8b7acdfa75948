"""What a running stack exposes is what the catalogue says, and it tells the truth about the log and the database."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.test_stack import eventually, stack_on, superuser_dsn
from tests.measuring import parsed

from tapeline_common.catalogue import EVERY_SERVICE, Measured, catalogue
from tapeline_common.embedded import Stack

pytestmark = [pytest.mark.servers, pytest.mark.timeout(170)]


async def scraped(stack: Stack, service: str) -> str:
    """The page; empty while there is none."""
    port = json.loads((stack.folder / "running.json").read_bytes())["metrics"][service]

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            text: str = reply.read().decode()
            return text

    try:
        return await asyncio.to_thread(ask)
    except OSError:
        return ""


async def ledger_tells(stack: Stack, wanted: Mapping[str, float]) -> bool:
    found = parsed(await scraped(stack, "ledger"))
    return all(found.get(f"{name}{{}}") == value for name, value in wanted.items())


def differences(service: str, page: str, listed: tuple[Measured, ...]) -> list[str]:
    """Where a page and the catalogue do not agree on names, kinds or labels."""
    wanted = {measured.name: measured for measured in listed if measured.service in (EVERY_SERVICE, service)}
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(page)
    }
    wrong = [f"{name} is not in the catalogue" for name in found.keys() - wanted.keys()]
    wrong += [f"{name} is not exposed" for name in wanted.keys() - found.keys()]
    for name in wanted.keys() & found.keys():
        measured, family = wanted[name], found[name]
        if family.type != measured.kind:
            wrong.append(f"{name} is a {family.type}, not a {measured.kind}")
        if not family.samples and not measured.appears and "strategy" not in measured.labels:
            wrong.append(f"{name} has no samples and does not say when it has")
        for sample in family.samples:
            labels = sample.labels.keys() - {"le"}
            if labels != {"service", *measured.labels} or sample.labels["service"] != service:
                wrong.append(f"{sample.name} has the labels {sample.labels}")
            for label, values in measured.values.items():
                if sample.labels[label] not in values:
                    wrong.append(f"{sample.name}: {label} is {sample.labels[label]}, none of {values}")
    return wrong


async def test_the_catalogue_is_what_a_running_stack_exposes(tmp_path: Path) -> None:
    """Every name of every service, with its kind and labels, and no other; then changed rows and lost servers show."""
    async with stack_on(tmp_path / "data") as stack:

        async def traded() -> bool:
            trades = parsed(await scraped(stack, "ledger"))
            return any(value for sample, value in trades.items() if sample.startswith("tapeline_trades_closed_total"))

        await eventually(traded, "a trade to be closed")
        listed = catalogue()
        for service in stack.children:
            page = await scraped(stack, service)
            assert differences(service, page, listed) == []
        assert differences("risk", await scraped(stack, "risk"), listed[1:]) == [
            f"{listed[0].name} is not in the catalogue"
        ], "the check can fail"

        await eventually(
            lambda: ledger_tells(stack, {"tapeline_postgres_up": 1, "tapeline_nats_server_up": 1}), "servers to be seen"
        )
        await _a_changed_row_shows(stack)
        assert differences("ledger", await scraped(stack, "ledger"), listed) == []


async def _a_changed_row_shows(stack: Stack) -> None:
    """Nobody runs verify: the ledger finds it, tells it, and takes it back once the row is as it was."""

    async def passed() -> bool:
        return parsed(await scraped(stack, "ledger")).get("tapeline_verified_time_seconds{}", 0) > 0

    await eventually(passed, "a first pass over the log")
    assert await ledger_tells(stack, {"tapeline_chain_faults": 0})
    connection = await asyncpg.connect(superuser_dsn(stack))
    await connection.execute("ALTER TABLE tape DISABLE TRIGGER ALL")
    stored = await connection.fetchval("SELECT payload FROM tape WHERE pos = 3")
    await connection.execute("UPDATE tape SET payload = $1 WHERE pos = 3", stored.replace(b"USDT", b"EURT"))
    await eventually(lambda: ledger_tells(stack, {"tapeline_chain_faults": 1}), "the changed row to be found")
    assert await ledger_tells(stack, {"tapeline_verified_position": 2})
    await connection.execute("UPDATE tape SET payload = $1 WHERE pos = 3", stored)
    await connection.close()
    await eventually(lambda: ledger_tells(stack, {"tapeline_chain_faults": 0}), "a clean pass")
