"""The operator's commands find their stack: by the environment where it was provisioned, else by the data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.test_stack import CONFIG

from tapeline_common.embedded import running_stack
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_NOT_RUNNING
from tapeline_common.operator_client import NotRunning, provisioned_reach, reach_of
from tapeline_common.settings import ConfigurationInvalid
from tapeline_common.wiring import installed_services


@dataclass(frozen=True)
class Live:
    """A running stack, and the variables by which a command elsewhere reaches it."""

    folder: Path
    variables: Mapping[str, str]


def tapeline(*arguments: str, within: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command in a folder without a stack, with no variable of ours but the given ones."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
    return subprocess.run(
        [sys.executable, "-m", "tapeline_common.cli", *arguments],
        cwd=within,
        env={**plain, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    place = tmp_path_factory.mktemp("reach")
    for each in (place, place.parent):
        each.chmod(0o755)
    (place / "tapeline.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "tapeline_common.cli", "up", "--config", "tapeline.toml"]
    stack = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True)
    try:
        assert stack.stdout is not None
        assert any("up in" in line for line in stack.stdout), "it did not start"
        folder = place / ".tapeline"
        running = running_stack(folder)
        assert running is not None
        yield Live(
            folder,
            {
                "TAPELINE_NATS_URL": running.nats_url,
                "TAPELINE_NATS_SEED_FILE": str(folder / "keys" / "operator.nk"),
                "TAPELINE_SIGNER_SEED_FILE": str(folder / "keys" / "signer.nk"),
                "TAPELINE_DSN_FILE": str(folder / "secrets" / "ledger-dsn"),
            },
        )
    finally:
        stack.terminate()
        stack.wait(60)


@pytest.mark.servers
def test_commands_reach_the_stack_of_the_environment(live: Live, tmp_path: Path) -> None:
    """From a folder without a stack: status, halt, a signed resume, and the database's commands."""
    status = tapeline("status", "--json", within=tmp_path, variables=live.variables)
    assert status.returncode == 0, status.stderr
    assert set(json.loads(status.stdout)["services"]) == set(installed_services())
    for command in ("halt", "resume"):
        done = tapeline(command, "--json", within=tmp_path, variables=live.variables)
        assert json.loads(done.stdout)["refusal"] is None, done.stderr
    for command in ("verify", "rebuild"):
        done = tapeline(command, within=tmp_path, variables=live.variables)
        assert done.returncode == 0, done.stderr


@pytest.mark.servers
def test_who_cannot_sign_can_halt_and_not_loosen(live: Live, tmp_path: Path) -> None:
    """Without the signer's key a halt is recorded; a resume is not sent, and says which file is missing."""
    missing = str(tmp_path / "signer.nk")
    for signer in (None, missing):
        variables = {name: value for name, value in live.variables.items() if "SIGNER" not in name}
        variables |= {} if signer is None else {"TAPELINE_SIGNER_SEED_FILE": signer}
        assert tapeline("halt", within=tmp_path, variables=variables).returncode == 0
        refused = tapeline("resume", within=tmp_path, variables=variables)
        assert refused.returncode == EXIT_CONFIGURATION
        assert (signer or "TAPELINE_SIGNER_SEED_FILE") in refused.stderr
    assert not Path(missing).exists(), "no key is drawn for somebody who has none"


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    """The key's file and the address are named; nothing is waited for."""
    variables = {"TAPELINE_NATS_URL": "nats://127.0.0.1:1", "TAPELINE_NATS_SEED_FILE": str(tmp_path / "operator.nk")}
    refused = tapeline("status", within=tmp_path, variables=variables)
    assert refused.returncode == EXIT_NOT_RUNNING
    assert refused.stderr == (
        f"{tmp_path / 'operator.nk'} is not there: it should hold the operator's key for nats://127.0.0.1:1\n"
    )


def test_the_data_folder_is_asked_where_the_environment_names_nothing(tmp_path: Path) -> None:
    """Without variables it is as ever."""
    assert provisioned_reach({}) is None
    with pytest.raises(NotRunning, match="tapeline up"):
        reach_of(tmp_path)


def test_a_wrong_variable_is_named() -> None:
    """Like everywhere else in the environment."""
    with pytest.raises(ConfigurationInvalid, match="TAPELINE_METRICS_PORT"):
        provisioned_reach({"TAPELINE_NATS_URL": "nats://nats:4222", "TAPELINE_METRICS_PORT": "many"})
