"""``tapeline provision``: the keys, passwords and settings of a stack whose processes run in containers.

What ``embedded`` does on one machine as it starts, done once and written down: one folder per process, which is all of
it that this process gets to see. A second run keeps every secret and writes the rest anew, so that a new release's
permissions take effect. Starts nothing, connects to nothing; the database is made by ``tapeline migrate``.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import click

from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.exits import EXIT_ERROR
from tapeline_common.permissions import LEDGER, NOTIFIER, OPERATOR, allowances
from tapeline_common.servers import ServerFailed
from tapeline_common.servers_nats import NatsUser, load_or_create_nkey, server_config
from tapeline_common.values import Realm
from tapeline_common.whole_file import write_whole
from tapeline_common.wiring import Service, installed_services

MOUNT = Path("/run/tapeline")
"""Where a process finds its own folder."""

MODELS = Path("/var/lib/tapeline/models")
NATS_DATA = Path("/data")
NOTIFICATIONS = Path("/var/lib/tapeline/notifier")
DESTINATIONS = Path("/run/secrets/destinations")
NATS_PORT, NATS_MONITOR_PORT, POSTGRES_PORT, METRICS_PORT, ALERTS_PORT = 4222, 8222, 5432, 9100, 9110

READER = "tapeline_reader"
"""The role of dashboards and of the operator's container."""

OWNER_ONLY, ANY_USER = 0o600, 0o444
"""``ANY_USER``: the server reads it under a user of its own image; its folder is mounted nowhere else."""


def write_stack(folder: Path, services: Mapping[str, Service], *, nats_host: str, postgres_host: str) -> list[str]:
    """Write every process's folder below ``folder``. Returns the names of the folders, sorted.

    Raises ``ServerFailed`` if a key that is there already is no key, or is open to others.
    """
    users, publics = [], {}
    for allowance in allowances(services, replay=False):
        _, publics[allowance.name] = load_or_create_nkey(folder / allowance.name / f"{allowance.name}.nk")
        users.append(NatsUser(allowance.name, publics[allowance.name], allowance.publish, allowance.subscribe))
    _, signer_public = load_or_create_nkey(folder / OPERATOR / "signer.nk")
    _write(
        folder / "nats" / "nats.conf",
        server_config(
            folder=NATS_DATA,
            port=NATS_PORT,
            monitor_port=NATS_MONITOR_PORT,
            users=users,
            listen_host="0.0.0.0",
            monitor_host="0.0.0.0",  # for the ledger; the port is not published, and the networks are our own
            log_to_file=False,
        ),
        0o644,
    )
    superuser = _secret(folder / "postgres" / "superuser-password", ANY_USER)
    ledger = _secret(folder / "migrate" / "ledger-password", OWNER_ONLY)
    _secret(folder / "grafana" / "admin-password", ANY_USER)
    reader = _secret(folder / "grafana" / "reader-password", ANY_USER)
    _write(folder / "migrate" / "reader-password", reader, OWNER_ONLY)
    _write(folder / "migrate" / "owner-dsn", _dsn("postgres", superuser, postgres_host, "postgres"), OWNER_ONLY)
    _write(folder / LEDGER / "dsn", _dsn("tapeline_ledger", ledger, postgres_host, "tapeline"), OWNER_ONLY)
    _write(folder / LEDGER / "operator-public", signer_public, OWNER_ONLY)
    alerts = _secret(folder / NOTIFIER / "alerts-token", OWNER_ONLY)
    _write(folder / "alertmanager" / "alerts-token", alerts, ANY_USER)
    tape = _secret(folder / LEDGER / "tape", OWNER_ONLY)
    _write(folder / OPERATOR / "reader-dsn", _unhurried(_dsn(READER, reader, postgres_host, "tapeline")), OWNER_ONLY)
    for name in services:
        _write_variables(folder / name, _environment(name, nats_host, tape))
    _write_variables(folder / OPERATOR, _operators_environment(nats_host))
    return sorted({*services, OPERATOR, "nats", "postgres", "migrate", "grafana", "alertmanager"})


def _environment(name: str, nats_host: str, tape: str) -> dict[str, str]:
    """The variables of ``settings.Environment`` that no deployment has a reason to choose."""
    variables = {
        "TAPELINE_NATS_URL": f"nats://{nats_host}:{NATS_PORT}",
        "TAPELINE_NATS_SEED_FILE": str(MOUNT / f"{name}.nk"),
        "TAPELINE_REALM": Realm.LIVE.value,
        "TAPELINE_MODELS": str(MODELS),
        "TAPELINE_METRICS_PORT": str(METRICS_PORT),
    }
    if name == LEDGER:
        variables["TAPELINE_TAPE"] = tape
        variables["TAPELINE_DSN_FILE"] = str(MOUNT / "dsn")
        variables["TAPELINE_OPERATOR_PUBLIC_FILE"] = str(MOUNT / "operator-public")
        variables["TAPELINE_NATS_MONITOR_URL"] = f"http://{nats_host}:{NATS_MONITOR_PORT}"
        variables["TAPELINE_DISKS"] = "data=/"
    if name == NOTIFIER:
        variables["TAPELINE_NOTIFIER_PORT"] = str(ALERTS_PORT)
        variables["TAPELINE_NOTIFIER_HOST"] = "0.0.0.0"
        variables["TAPELINE_NOTIFIER_TOKEN_FILE"] = str(MOUNT / "alerts-token")
        variables["TAPELINE_NOTIFIER_FOLDER"] = str(NOTIFICATIONS)
        variables["TAPELINE_DESTINATIONS_FILE"] = str(DESTINATIONS)
    return variables


def _operators_environment(nats_host: str) -> dict[str, str]:
    """What commands need to reach the stack: the operator's keys, and the database as somebody who may only read."""
    return {
        "TAPELINE_NATS_URL": f"nats://{nats_host}:{NATS_PORT}",
        "TAPELINE_NATS_SEED_FILE": str(MOUNT / f"{OPERATOR}.nk"),
        "TAPELINE_SIGNER_SEED_FILE": str(MOUNT / "signer.nk"),
        "TAPELINE_DSN_FILE": str(MOUNT / "reader-dsn"),
    }


def _write_variables(folder: Path, variables: Mapping[str, str]) -> None:
    lines = [f"{variable}={shlex.quote(value)}" for variable, value in variables.items()]
    _write(folder / "environment", "\n".join(lines), OWNER_ONLY)


def _unhurried(dsn: str) -> str:
    """Without the time limit that the role has for dashboards: verifying a long tape takes minutes."""
    return f"{dsn}?statement_timeout=0"


def _dsn(user: str, password: str, host: str, database: str) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{host}:{POSTGRES_PORT}/{database}"


def _secret(path: Path, mode: int) -> str:
    """The secret in ``path``, drawn on first use."""
    if not path.exists():
        _write(path, secrets.token_hex(24), mode)
    return path.read_text().strip()


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all; readable by ``mode`` from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (text.rstrip("\n") + "\n").encode(), mode)


@click.command("provision")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where to write.")
@click.option("--nats-host", default="nats", show_default=True, help="Name by which services reach NATS.")
@click.option("--postgres-host", default="postgres", show_default=True, help="Name by which the ledger reaches it.")
@as_json
def provision(folder: Path, nats_host: str, postgres_host: str, to_json: bool) -> None:
    """Write keys, passwords and nats.conf for containers; what is there already is kept."""
    services = installed_services()
    if LEDGER not in services:
        fail("the ledger is not installed here: provision from an image that holds every service", EXIT_ERROR)
    try:
        written = write_stack(folder, services, nats_host=nats_host, postgres_host=postgres_host)
    except (OSError, ServerFailed) as trouble:
        fail(str(trouble), EXIT_ERROR)
    write_json({"folders": written}) if to_json else click.echo(f"wrote {', '.join(written)} in {folder}")
