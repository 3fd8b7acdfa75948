"""Provisioning: every process gets its own keys and variables, a second run keeps every secret, nothing is open."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from tapeline_common.metrics import Metrics
from tapeline_common.permissions import allowances
from tapeline_common.provision import provision, write_stack
from tapeline_common.servers import ServerFailed
from tapeline_common.servers_nats import load_or_create_nkey, locate_nats_server
from tapeline_common.settings import Environment, environment
from tapeline_common.values import Realm
from tapeline_common.wiring import installed_services

ROOT = Path(__file__).parents[2]
SERVICES = installed_services()


def write(folder: Path) -> list[str]:
    return write_stack(folder, SERVICES, nats_host="nats", postgres_host="postgres")


def variables(folder: Path, name: str) -> Environment:
    """What the process would read after the container's entry point has read the file."""
    shell = f"set -a; . {folder / name / 'environment'}; exec env"
    said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True, env={}).stdout
    return environment(dict(line.split("=", 1) for line in said.splitlines()))


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_nats_accepts_the_configuration(tmp_path: Path) -> None:
    """The real server checks it strictly, and it names each user's public key."""
    write(tmp_path)
    config = tmp_path / "nats" / "nats.conf"
    checked = subprocess.run([locate_nats_server(), "-t", "-c", config], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    text = config.read_text()
    for allowance in allowances(SERVICES, replay=False):
        _, public = load_or_create_nkey(tmp_path / allowance.name / f"{allowance.name}.nk")
        assert f"nkey: {public}" in text
    assert 'listen: "0.0.0.0:4222"' in text
    assert 'http: "0.0.0.0:8222"' in text, "the ledger looks at it; compose publishes no such port"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_process_finds_its_own_things(name: str, tmp_path: Path) -> None:
    """The variables name files of the process's own folder, by the place where it is mounted."""
    write(tmp_path)
    told = variables(tmp_path, name)
    assert told.nats_url == "nats://nats:4222"
    assert told.realm is Realm.LIVE
    assert told.metrics_port == 9100
    for file in filter(None, (told.nats_seed_file, told.dsn_file, told.operator_public_file)):
        assert file.startswith("/run/tapeline/")
        assert (tmp_path / name / Path(file).name).is_file()
    assert bool(told.dsn_file) == (name == "ledger"), "only the ledger reaches Postgres"
    assert bool(told.tape) == (name == "ledger")


def test_the_operator_finds_its_keys_and_may_read_the_database(tmp_path: Path) -> None:
    """What commands in a container need: both keys, and the reading role's connection with Grafana's password."""
    write(tmp_path)
    told = variables(tmp_path, "operator")
    assert told.nats_url == "nats://nats:4222"
    for file in (told.nats_seed_file, told.signer_seed_file, told.dsn_file):
        assert file.startswith("/run/tapeline/")
        assert (tmp_path / "operator" / Path(file).name).is_file()
    password = (tmp_path / "grafana" / "reader-password").read_text().strip()
    assert (tmp_path / "migrate" / "reader-password").read_text().strip() == password
    dsn = (tmp_path / "operator" / "reader-dsn").read_text().strip()
    assert dsn == f"postgresql://tapeline_reader:{password}@postgres:5432/tapeline?statement_timeout=0"


def test_a_second_run_keeps_every_secret(tmp_path: Path) -> None:
    """Keys, passwords and the name of the tape are drawn once."""
    assert write(tmp_path) == write(tmp_path)
    before = contents(tmp_path)
    write(tmp_path)
    assert contents(tmp_path) == before


def test_the_notifier_knows_the_token_that_alertmanager_shows(tmp_path: Path) -> None:
    """One secret in two folders, and all that the notifier needs to receive and keep."""
    write(tmp_path)
    told = variables(tmp_path, "notifier")
    assert (told.notifier_host, told.notifier_port) == ("0.0.0.0", 9110)
    assert told.notifier_token_file == "/run/tapeline/alerts-token"
    assert told.notifier_folder == "/var/lib/tapeline/notifier"
    assert told.destinations_file == "/run/secrets/destinations"
    token = (tmp_path / "notifier" / "alerts-token").read_text()
    assert len(token.strip()) == 48
    assert (tmp_path / "alertmanager" / "alerts-token").read_text() == token


def test_two_stacks_share_no_secret(tmp_path: Path) -> None:
    """Everything drawn is drawn anew for another folder."""
    write(tmp_path / "oak")
    write(tmp_path / "elm")
    drawn = [name for name in contents(tmp_path / "oak") if name.endswith((".nk", "password", "tape", "dsn", "token"))]
    assert len(drawn) > 10
    oak, elm = contents(tmp_path / "oak"), contents(tmp_path / "elm")
    assert [name for name in drawn if oak[name] == elm[name]] == []


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """But for the passwords that servers of other images read, each in a folder mounted nowhere else."""
    write(tmp_path)
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.*")}
    open_files = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    }
    assert open_files == {
        "nats/nats.conf",
        "postgres/superuser-password",
        "alertmanager/alerts-token",
        "grafana/admin-password",
        "grafana/reader-password",
    }
    assert modes["operator/signer.nk"] == 0o600


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    """A key that is none ends provisioning with its name, and is not replaced."""
    (tmp_path / "risk").mkdir()
    (tmp_path / "risk" / "risk.nk").write_text("SUNFLOWER\n")
    (tmp_path / "risk" / "risk.nk").chmod(0o600)
    with pytest.raises(ServerFailed, match=r"risk\.nk holds no NATS user seed"):
        write(tmp_path)
    assert (tmp_path / "risk" / "risk.nk").read_text() == "SUNFLOWER\n"


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    """``tapeline provision --folder F --json`` names the folders, one per process."""
    done = CliRunner().invoke(provision, ["--folder", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert all(f'"{name}"' in done.output for name in (*SERVICES, "nats", "postgres", "migrate", "operator"))


def test_the_entry_point_runs_with_the_written_variables(tmp_path: Path) -> None:
    """What is not "service" is run as it is, and without a file of variables too."""
    said = subprocess.run(
        ["sh", ROOT / "deploy" / "entrypoint.sh", "echo", "orchid"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "orchid\n"


class Page(BaseHTTPRequestHandler):
    """Answers every request with the text of its server."""

    text = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def page() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def health(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "deploy" / "health.py"],
        env={"TAPELINE_METRICS_PORT": str(port)},
        capture_output=True,
        text=True,
    )


def test_health_reads_the_metrics_of_a_service(page: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healthy while it runs, unhealthy once it has stopped at a fact: read off the real metrics."""
    from prometheus_client import generate_latest

    metrics = Metrics("risk")
    monkeypatch.setattr(Page, "text", generate_latest(metrics.registry).decode())
    assert health(page.server_port).returncode == 0
    metrics.stopped.set(1)
    monkeypatch.setattr(Page, "text", generate_latest(metrics.registry).decode())
    stopped = health(page.server_port)
    assert (stopped.returncode, stopped.stderr) == (1, "the service has stopped on an error: see its log\n")


def test_health_is_not_fooled_by_a_stranger(page: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without our metric, or no page at all, is not healthy."""
    monkeypatch.setattr(Page, "text", "python_info 1\n")
    assert health(page.server_port).returncode == 1
    assert health(1).returncode == 1
