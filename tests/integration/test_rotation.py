"""Keys and passwords drawn anew: the database opens with the new ones only, wherever an earlier attempt broke off."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tapeline_common.data_folder import secret, write_secret
from tapeline_common.servers_nats import load_or_create_nkey
from tapeline_ledger.at_rest import postgres_of
from tapeline_ledger.rotation import LEDGER_PASSWORD, NEXT, SUPERUSER_PASSWORD, _set_superuser_password, rotate_keys

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("taken", [False, True])
async def test_a_rotation_that_broke_off_is_finished_by_the_next(taken: bool, tmp_path: Path) -> None:
    """Broken off before the database took the password, or after: the next one finds a way in, and every password,
    key and connection string is another one afterwards."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "data"
    async with postgres_of(folder, create=True) as access:
        write_secret(folder, NEXT + SUPERUSER_PASSWORD, "lily")
        if taken:
            await _set_superuser_password(access.owner, "lily")
    before = {name: secret(folder, name) for name in (SUPERUSER_PASSWORD, LEDGER_PASSWORD)}
    old_seed, _ = load_or_create_nkey(folder / "keys" / "operator.nk")

    assert await rotate_keys(folder) == [SUPERUSER_PASSWORD, LEDGER_PASSWORD, "operator.nk"]

    after = {name: secret(folder, name) for name in before}
    assert not set(after.values()) & {*before.values(), "lily"}
    assert load_or_create_nkey(folder / "keys" / "operator.nk")[0] != old_seed
    assert sorted(path.name for path in (folder / "secrets").iterdir()) == sorted(before)
    async with postgres_of(folder) as access:
        for dsn, name in ((access.owner, SUPERUSER_PASSWORD), (access.ledger, LEDGER_PASSWORD)):
            await (await asyncpg.connect(dsn)).close()
            for wrong in (before[name], "lily"):
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(dsn.replace(after[name], wrong))
