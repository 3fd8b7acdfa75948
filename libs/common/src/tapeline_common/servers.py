"""Real servers as child processes: what nats-server and Postgres have in common when a launcher starts them.

A server owns a folder: its data, its log, its port. The port is chosen once and remembered there, so clients reconnect
after any restart. A lock on the folder says that a launcher is alive; a server that runs although nobody holds the lock
is a leftover of a launcher that died, and is stopped before a new one starts (adopting it would keep its old settings,
and nobody would be its parent).

A child runs in a session of its own, so Ctrl-C in the terminal reaches the launcher only, which stops servers in order.
On Linux the kernel stops the child when the launcher dies (PR_SET_PDEATHSIG; it is tied to the *thread* that started
the child, so call `start` on the main thread's event loop). On macOS the next start finds the leftover.

This module does not restart anything by itself and knows nothing of the servers' protocols: see `servers_postgres` and
`servers_nats`. Linux and macOS only.
"""

import asyncio
import fcntl
import importlib.metadata
import os
import secrets
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import ClassVar, Final

import psutil

from tapeline_common.whole_file import write_whole

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
KILL_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.005
_LOG_TAIL_LINES: Final = 12
# Below the ephemeral ranges of Linux (32768) and macOS (49152). A port inside that range can be taken by any outgoing
# connection while the server is down, even by a client of the server that dials it and thereby connects to itself.
_LOWEST_PORT: Final = 15_000
_HIGHEST_PORT: Final = 32_000


class ServerFailed(Exception):
    """A server could not be started, or not in time; the message names the cause and the fix."""


class ServerNotInstalled(ServerFailed):
    """The package that brings the server's program is missing."""


@dataclass(frozen=True)
class RunAs:
    """The unprivileged user a child becomes before it runs; only root can ask for one."""

    uid: int
    gid: int


_SHARES = 16
"""Parts of the range of ports. A process chooses from one of them, by its pid, because a port that is chosen is not
listened on for seconds, and another stack that starts meanwhile would take it for free."""

_given: set[int] = set()
"""Ports that this process has chosen: whoever they are for may not listen yet."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now, outside the range of outgoing connections.

    No port is given twice by one process.
    """
    shares = (_HIGHEST_PORT - _LOWEST_PORT) // _SHARES
    for _ in range(1000):
        port = _LOWEST_PORT + _SHARES * secrets.randbelow(shares) + os.getpid() % _SHARES
        if port not in _given and _can_bind(port, reuse=False):
            _given.add(port)
            return port
    raise ServerFailed(f"no free TCP port between {_LOWEST_PORT} and {_HIGHEST_PORT} on {HOST}: free some")


def _can_bind(port: int, *, reuse: bool) -> bool:
    """`reuse` passes over connections of an earlier server that are still closing (TIME_WAIT), as the server does."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def remembered_port(file: Path, wanted: int | None = None) -> int:
    """The port in `file`; `wanted` replaces it, and without either a free port is chosen and written down."""
    if wanted is None and file.exists():
        text = file.read_text().strip()
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise ServerFailed(f"{file} holds {text!r}, which is no TCP port: delete the file to choose a new one")
        _given.add(int(text))
        return int(text)
    port = free_port() if wanted is None else wanted
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, f"{port}\n".encode())
    return port


def refuse_taken_port(port: int, file: Path) -> None:
    """Raise `ServerFailed` if another program listens on a port that our clients were told to use."""
    if not _can_bind(port, reuse=True):
        raise ServerFailed(
            f"port {port} on {HOST} is taken by another program: stop that one, or delete {file} to choose a new port"
        )


def installed(package: str) -> importlib.metadata.Distribution:
    """The distribution that brings a server; `ServerNotInstalled` says how to get it."""
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise not_installed(package) from None


def not_installed(package: str) -> ServerNotInstalled:
    return ServerNotInstalled(f"the package {package} is missing or incomplete: install tapeline-common[embedded]")


def spawn(
    command: Sequence[str | Path],
    *,
    folder: Path,
    output: Path,
    death_signal: signal.Signals,
    run_as: RunAs | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder` in a session of its own; it gets `death_signal` when this thread ends (Linux).

    Its environment is empty but for the locale and the path: a PGDATA or LD_PRELOAD of the user must not reach it.
    What it says goes to `output`, which is emptied first.
    """
    uid, gid = (run_as.uid, run_as.gid) if run_as else (-1, -1)
    identity = [str(int(death_signal)), str(os.getpid()), str(uid), str(gid)]
    child = Path(__file__).with_name("servers_child.py")
    with output.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(child), *identity, *map(str, command)],
            cwd=folder,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def accepts(port: int) -> bool:
    """Whether somebody accepts TCP connections on 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    await hang_up(writer)
    return True


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for `condition`, looking every few milliseconds; False if it did not come true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def end(process: psutil.Process, stop_signal: signal.Signals, timeout_s: float) -> bool:
    """Ask a process that is not our child to stop, kill it if it does not; True if it stopped when asked."""

    def gone() -> bool:
        # A zombie has ended; it only waits for a parent, which may never look.
        with suppress(psutil.NoSuchProcess):
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        return True

    with suppress(psutil.NoSuchProcess):
        process.send_signal(stop_signal)
    if await until(gone, timeout_s):
        return True
    with suppress(psutil.NoSuchProcess):
        process.kill()
    if not await until(gone, KILL_TIMEOUT_S):
        raise ServerFailed(f"process {process.pid} does not end, not even by SIGKILL: look what it waits for")
    return False


class EmbeddedServer(ABC):
    """One server in one folder. `start`, `stop` and `kill` may follow one another for as long as the folder lives."""

    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self._wanted_port = port
        self._known_port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: TextIOWrapper | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; chosen and written to the folder when it is first asked for."""
        if self._known_port is None:
            self._known_port = remembered_port(self._port_file, self._wanted_port)
        return self._known_port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _port_file(self) -> Path:
        return self.folder / "port"

    @property
    def _startup_log(self) -> Path:
        """What the server says before it opens its own log, and why it would not start."""
        return self.folder / "startup.log"

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the server and wait until it serves. Also after a crash: the same folder means the same port.

        Raises `ServerFailed` if it runs already, if another launcher uses the folder, if the port is taken, or if the
        server says no.
        """
        if self.alive:
            raise ServerFailed(f"{self.title} in {self.folder} runs already (pid {self.pid}): stop it first")
        self._take_folder()
        try:
            await self._stop_leftover()
            refuse_taken_port(self.port, self._port_file)
            self._process = await self._launch(timeout_s)
            await self.wait_ready(timeout_s)
        except BaseException:
            await self.kill()
            raise

    async def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the server accepts clients; `ServerFailed` quotes its last words if it ends or takes longer."""
        ready = await self._until_ready_or_gone(timeout_s)
        if not self.alive:
            raise ServerFailed(f"{self.title} in {self.folder} ended at once. {self._last_words()}")
        if not ready:
            raise ServerFailed(f"{self.title} in {self.folder} not ready within {timeout_s} s. {self._last_words()}")

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Ask the server to stop, and kill it after `timeout_s`; True if it stopped when asked (or did not run)."""
        process = self._process
        if process is None or process.poll() is not None:
            self._release_folder()
            return True
        process.send_signal(self.stop_signal)
        clean = await until(lambda: process.poll() is not None, timeout_s)
        await self.kill()
        return clean

    async def kill(self) -> None:
        """SIGKILL, and wait until nothing of the server is left. What it acknowledged must survive this."""
        process = self._process
        if process is not None:
            process.kill()
            if not await until(lambda: process.poll() is not None, KILL_TIMEOUT_S):
                raise ServerFailed(f"{self.title} (pid {process.pid}) does not end, not even by SIGKILL")
            self._process = None
        if self._lock is not None:
            await self._end_orphans()
        self._release_folder()

    @abstractmethod
    async def _launch(self, timeout_s: float) -> subprocess.Popen[bytes]:
        """Prepare the folder and start the process."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether the process that we started accepts clients."""

    @abstractmethod
    def _own_logs(self) -> Sequence[Path]:
        """Where the server logs once it runs; the files need not exist."""

    @abstractmethod
    def _leftover(self) -> psutil.Process | None:
        """The server that still runs on this folder although its launcher is gone; never another folder's server."""

    @abstractmethod
    async def _end_orphans(self) -> None:
        """End the processes that outlive the server's main process, if it has any."""

    async def _stop_leftover(self) -> None:
        leftover = self._leftover()
        if leftover is not None:
            await end(leftover, self.stop_signal, STOP_TIMEOUT_S)
        await self._end_orphans()

    async def _until_ready_or_gone(self, timeout_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.alive:
                    if await self._is_ready():
                        return True
                    await asyncio.sleep(_POLL_S)
        return False

    def _last_words(self) -> str:
        said = []
        for log in filter(Path.is_file, (self._startup_log, *self._own_logs())):
            lines = log.read_text(errors="replace").splitlines()
            said += [f"The end of {log}:", *lines[-_LOG_TAIL_LINES:]]
        return "\n".join(said)

    def _take_folder(self) -> None:
        """Hold the folder's lock; the kernel lets go of it when this process ends, however it ends."""
        if self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise ServerFailed(
                f"{self.folder} is in use by another launcher (pid {holder}): stop that one, or use another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _release_folder(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None
