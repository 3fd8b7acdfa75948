"""Backup, loss of everything, restore elsewhere: the same tape, equal projections, and trading goes on."""

from __future__ import annotations

import asyncio
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.e2e.test_stack import _bars_are_answered, eventually, facts_of, ledger_dsn, passes, stack_on

from tapeline_common import bus
from tapeline_common.control_request import Action, ControlRequest, sign
from tapeline_common.operator_client import operator
from tapeline_common.permissions import OPERATOR
from tapeline_common.servers_nats import load_or_create_nkey
from tapeline_common.tape import read_all
from tapeline_common.tape_file import TapeFile
from tapeline_common.values import ControlRefusal
from tapeline_ledger.at_rest import postgres_of
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.verify import verify

pytestmark = [pytest.mark.servers, pytest.mark.timeout(170)]


async def command(*words: str, code: int = 0) -> dict[str, Any]:
    """Run the command line as a user does; what it says in JSON, or its message below ``error``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tapeline_common.cli", *words, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, trouble = await process.communicate()
    assert process.returncode == code, (words, said, trouble)
    return msgspec.json.decode(said) if code == 0 else {"error": trouble.decode()}


async def test_a_lost_stack_is_restored_elsewhere_and_trades_on(tmp_path: Path) -> None:
    """Backed up while it trades, wiped, restored in another folder: same head, equal tables, new facts behind it."""
    lost, found, file = (tmp_path / name for name in ("data", "found", "a.tape"))
    async with stack_on(lost) as stack, operator(stack.folder) as client:

        async def filled() -> bool:
            return len(await facts_of(client, "OrderFilled")) > 2

        await eventually(filled, "some fills")
        said = await command("backup", str(file), "--data", str(lost))
        over_nats = await command("backup", str(tmp_path / "b.tape"), "--data", str(lost), "--nats")
        refused = await command("restore", str(file), "--data", str(lost), code=4)
        assert "has a tape" in refused["error"]
        await passes(client, said["facts"], "facts after the backup")
        recorded = await read_all(client.tape)
    assert over_nats["facts"] >= said["facts"] > 0
    assert (said["tape"], said["keys"], said["config"]) == ((lost / "secrets" / "tape").read_text().strip(), 0, True)
    old_key = (lost / "keys" / "operator.nk").read_text()
    old_signer = load_or_create_nkey(lost / "keys" / "signer.nk")[0]
    shutil.rmtree(lost)

    restored = await command("restore", str(file), "--data", str(found))
    assert (restored["facts"], restored["hash"]) == (said["facts"], said["hash"])
    assert restored["rows"]["fills"] > 2
    assert sorted(path.name for path in found.iterdir()) == ["postgres", "secrets", "tapeline.toml"]
    (tmp_path / "tapeline.toml").write_text((found / "tapeline.toml").read_text())
    async with stack_on(found) as stack, operator(stack.folder) as client:
        await _bars_are_answered(client, "after the restore")
        payloads = await read_all(client.tape)
        assert payloads[: said["facts"]] == recorded[: said["facts"]]
        with TapeFile(file) as tape:
            assert tape.head == said["facts"]
        assert (await verify(ledger_dsn(stack))).fault is None
        assert (await rebuild(ledger_dsn(stack))).differences == ()
        # The old operator is nobody here: neither his connection nor his signature counts.
        seed = tmp_path / "old.nk"
        seed.write_text(old_key)
        with pytest.raises(TimeoutError):  # refused, and asking again
            await asyncio.wait_for(bus.connect(stack.nats.url, name=OPERATOR, seed_file=str(seed)), 3)
        request = sign(Action.RESUME, ControlRequest(reason="me"), old_signer, now_ns=time.time_ns())
        reply = await client.client.request("control.resume", msgspec.json.encode(request), timeout=10)
        assert msgspec.json.decode(reply.data)["refusal"] == ControlRefusal.SIGNATURE_INVALID


async def test_damaged_backups_make_no_folder_and_keys_come_back_only_if_kept(tmp_path: Path) -> None:
    """By the command: what is wrong ends with exit code 4, the position and the fix. Kept keys are put back, 0600, and
    drawn anew on request: the database then refuses the old password and the tape still verifies."""
    data, again = tmp_path / "data", tmp_path / "again"
    async with stack_on(data) as stack, operator(stack.folder) as client:
        await passes(client, 60, "60 facts")
    said = await command("backup", str(tmp_path / "a.tape"), "--data", str(data), "--with-keys")
    assert said["keys"] > 8
    assert stat.S_IMODE((tmp_path / "a.tape").stat().st_mode) == 0o600

    whole = (tmp_path / "a.tape").read_bytes()
    with TapeFile(tmp_path / "a.tape") as tape:
        inside = tape.segments[0].offset + 400
    (tmp_path / "flipped.tape").write_bytes(whole[:inside] + bytes([whole[inside] ^ 4]) + whole[inside + 1 :])
    (tmp_path / "cut.tape").write_bytes(whole[:-200])
    for name in ("flipped.tape", "cut.tape"):
        refused = await command("restore", str(tmp_path / name), "--data", str(again), code=4)
        assert "position" in refused["error"]
        assert "take another copy" in refused["error"]
        assert not again.exists()

    await command("restore", str(tmp_path / "a.tape"), "--data", str(again))
    key, password = again / "keys" / "operator.nk", again / "secrets" / "postgres-superuser"
    assert key.read_text() == (data / "keys" / "operator.nk").read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    old_key, old_password = key.read_text(), password.read_text().strip()
    changed = (await command("rotate-keys", "--data", str(again)))["changed"]
    assert {"postgres-superuser", "ledger-password", "operator.nk", "signer.nk"} <= set(changed)
    assert key.read_text() != old_key
    assert (await command("verify", "--data", str(again)))["head_hash"] == said["hash"]
    async with postgres_of(again) as access:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(access.owner.replace(password.read_text().strip(), old_password))
