"""Tests in containers need Docker's engine and Compose; without them they are skipped, and say so.

Here ``postgres`` and ``bus`` are the images of docker-compose.yml instead of the embedded servers, so that what is
built on them (a database, a running ledger) runs on those.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import PASSWORD, TESTER_KEY, _make_template, in_own_loop
from tests.containers.compose import ROOT, free_port

from tapeline_common.servers_nats import NatsUser, server_config

HERE = Path(__file__).parent
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

# Containers are removed by the fixtures that start them: no further image is fetched to watch over it.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")


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


@dataclass(frozen=True)
class ServerInContainer:
    """A running server: its container, and its port on this machine, which stays the same when it is started anew."""

    container: Any
    port: int

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def dsn(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def kill_and_start(self) -> None:
        wrapped = self.container.get_wrapped_container()
        wrapped.kill()
        wrapped.start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[ServerInContainer]:
    """Postgres with the command line of docker-compose.yml."""
    from testcontainers.community.postgres import PostgresContainer

    port = free_port()
    server = PostgresContainer(SERVICES["postgres"]["image"], username="postgres", password=PASSWORD, dbname="postgres")
    server.with_command(SERVICES["postgres"]["command"]).with_bind_ports(5432, port)
    with server:
        running = ServerInContainer(server, port)
        in_own_loop(_make_template(running))  # type: ignore[arg-type]  # all it needs is the connection string
        yield running


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInContainer]:
    """nats-server with one user who may do everything."""
    tester = NatsUser("tester", TESTER_KEY, publish=(">",), subscribe=(">",))
    yield from nats_with(tmp_path_factory.mktemp("nats"), users=[tester])


def nats_with(folder: Path, users: list[NatsUser]) -> Iterator[ServerInContainer]:
    """nats-server of docker-compose.yml with these users, for as long as the generator lives."""
    from testcontainers.community.nats import NatsContainer

    config = folder / "nats.conf"
    config.write_text(
        server_config(
            folder=Path("/tmp"), port=4222, monitor_port=8222, users=users, listen_host="0.0.0.0", log_to_file=False
        )
    )
    for each in (folder, config):
        each.chmod(0o755)
    port = free_port()
    server = NatsContainer(SERVICES["nats"]["image"]).with_volume_mapping(str(folder), "/run/tapeline", "ro")
    server.with_command(["nats-server", "--config", "/run/tapeline/nats.conf"]).with_bind_ports(4222, port)
    with server:
        yield ServerInContainer(server, port)
