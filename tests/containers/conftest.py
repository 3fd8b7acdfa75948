"""Tests in containers need Docker's engine and Compose; without them they are skipped, and say so."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@cache
def missing() -> str:
    """What is not there, or nothing."""
    if shutil.which("docker") is None:
        return "there is no docker on this machine"
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        return "Docker's engine does not answer (is it started, and may this user talk to it?)"
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return "`docker compose` is not there: install Compose 2.20 or later"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    reason = missing() if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.containers)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
