"""The notifier in the embedded stack: a fill, a halt and an alert reach a webhook and the file, also after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from tests.cores.test_notifier_alerts import alert, post
from tests.e2e.test_stack import CONFIG, eventually
from tests.messengers import Webhook, webhook

from tapeline_common.control_request import Action, ControlRequest
from tapeline_common.embedded import Stack
from tapeline_common.operator_client import operator
from tapeline_notifier.journal import read_entries

pytestmark = [pytest.mark.servers, pytest.mark.timeout(170)]

CANARY = "c4n4ry-s3cr3t"


def prepared(folder: Path, port: int) -> Stack:
    folder.mkdir()
    folder.parent.chmod(0o755)
    config = folder.parent / "tapeline.toml"
    config.write_text(CONFIG)
    (folder / "destinations.toml").write_text(
        f'[[destination]]\nname = "hook"\nurl = "json://127.0.0.1:{port}/{CANARY}"\n'
        'sends = ["page", "ticket", "trade", "control", "model"]\nper_minute = 600\n'
    )
    return Stack(folder, config)


def told(hook: Webhook, words: str) -> bool:
    return any(words in f"{one['title']}\n{one['message']}" for one in hook.got)


async def test_a_fill_a_halt_and_an_alert_reach_people(tmp_path: Path) -> None:
    """With the position each has on the tape; the halt is acknowledged by the notifier, too."""
    async with webhook() as hook:
        stack = prepared(tmp_path / "data", hook.port)
        try:
            await stack.start()
            await eventually(lambda: _is(told(hook, "Bought")), "a fill is told")
            async with operator(stack.folder) as client:
                reply = await client.control(Action.HALT, ControlRequest(reason="drill one"))
                await eventually(lambda: _is(told(hook, "drill one")), "the halt is told")
                assert told(hook, f"position {reply.position}") or told(hook, f"[{reply.position}]")
                while "notifier" not in reply.acknowledged:  # the machine may be too busy for the first answer
                    reply = await client.control(Action.HALT, ControlRequest(reason="drill one, once more"))

            await _alert(stack, "LedgerDown")
            await eventually(lambda: _is(told(hook, "FIRING LedgerDown")), "the alert is told")

            os.kill(stack.children["notifier"].pid or 0, signal.SIGKILL)
            async with operator(stack.folder) as client:
                again = await client.control(Action.HALT, ControlRequest(reason="drill two"))
            assert again.position > reply.position
            await eventually(lambda: _is(told(hook, "drill two")), "what happened while it was dead is told")
        finally:
            await stack.stop()
    titles = [entry.title for entry in read_entries(stack.folder / "notifier") if entry.title]
    assert any(title.startswith("Bought") for title in titles)
    assert "Halt: asked by operator" in titles
    assert "FIRING LedgerDown" in titles
    logs = "".join(path.read_text(errors="replace") for path in (stack.folder / "logs").iterdir())
    written = "".join(path.read_text() for path in (stack.folder / "notifier").iterdir())
    token = (stack.folder / "secrets" / "notifier-token").read_text().strip()
    assert CANARY not in logs + written
    assert token not in logs + written


async def _is(so: bool) -> bool:
    return so


async def _alert(stack: Stack, name: str) -> None:
    """Post as Alertmanager would; without the token nothing is taken."""
    port = int((stack.folder / "ports" / "notifier-alerts").read_text())
    token = (stack.folder / "secrets" / "notifier-token").read_text().strip()
    async with aiohttp.ClientSession() as client:
        url, body = f"http://127.0.0.1:{port}/alerts", post(alert(name))
        async with client.post(url, data=body) as refused:
            assert refused.status == 401
        async with client.post(url, data=body, headers={"Authorization": f"Bearer {token}"}) as taken:
            assert (taken.status, json.loads(await taken.read())) == (200, {"accepted": 1})
