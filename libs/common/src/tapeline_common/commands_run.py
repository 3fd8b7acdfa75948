"""``tapeline up | status | describe | new-config | doctor``: running a stack and looking at it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import click
import msgspec
import psutil

from tapeline_common import describe as description
from tapeline_common import systemd
from tapeline_common.bus import ClientTrouble
from tapeline_common.calendars import session_openings
from tapeline_common.commands_shared import as_json, data_folder, fail, write_json
from tapeline_common.destinations import DESTINATIONS_NAME, NO_DESTINATIONS, load_destinations
from tapeline_common.embedded import STILL_S, Stack, StackFailed, running_stack
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_OK, EXIT_TIMEOUT
from tapeline_common.operator_client import NotRunning, OperatorClient, operator
from tapeline_common.servers import ServerFailed, ServerNotInstalled
from tapeline_common.settings import CONFIG_NAME, load
from tapeline_common.status import Counts, Status, gather_status, status_table, summary_lines
from tapeline_common.tape import TapeUnavailable
from tapeline_common.wiring import checked, installed_services

STATUS_S = 1.0
"""How often the live table is drawn."""

LOOK_TIMEOUT_S = 5.0


def default_config() -> str:
    """The configuration that ``new-config`` writes and ``up`` uses where there is none."""
    return files("tapeline_common").joinpath("default.toml").read_text(encoding="utf-8")


@click.command("new-config")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path(CONFIG_NAME))
@as_json
def new_config(path: Path, to_json: bool) -> None:
    """Write a commented configuration to PATH, never over an existing file."""
    if path.exists():
        fail(f"{path} exists: name another file, or delete it first", EXIT_ERROR)
    path.write_text(default_config(), encoding="utf-8")
    write_json({"written": str(path)}) if to_json else click.echo(f"wrote {path}")


@click.command("describe")
@click.option("--graph", is_flag=True, help="Print the graph (Mermaid) instead of the table.")
@as_json
def describe(graph: bool, to_json: bool) -> None:
    """Say who hears and says what, read off the cores of the installed services."""
    services = installed_services()
    if to_json:
        write_json(description.tables(services))
    else:
        click.echo(description.mermaid(services) if graph else description.markdown(services))


@click.command("status")
@data_folder
@as_json
def status(data: Path, to_json: bool) -> None:
    """Show what a running stack is doing."""

    async def look() -> Status:
        async with operator(data) as client:
            return await gather_status(client)

    try:
        found = asyncio.run(look())
    except NotRunning as trouble:
        fail(str(trouble), EXIT_NOT_RUNNING)
    except TapeUnavailable as trouble:
        fail(f"the ledger did not answer in time: {trouble}", EXIT_TIMEOUT)
    if to_json:
        write_json(found)
    else:
        from rich.console import Console

        Console().print(status_table(found))


@click.command("up")
@data_folder
@click.option("-c", "--config", type=click.Path(path_type=Path), help=f"Configuration file [default: {CONFIG_NAME}].")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="Stop by itself after so many seconds.")
@click.option("--feed", help="'synthetic', or an exchange such as 'binance' for paper trading on its public bars.")
@click.option(
    "--destinations",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Who is told what [default: {DESTINATIONS_NAME} in the data folder].",
)
@click.option("--log-level", default="info", show_default=True)
@as_json
def up(
    data: Path,
    config: Path | None,
    seconds: float | None,
    feed: str | None,
    destinations: Path | None,
    log_level: str,
    to_json: bool,
) -> None:
    """Start the whole stack embedded: servers, services, paper trading. Ctrl-C stops it; the tape stays."""
    chosen = _chosen_config(data, config, feed)
    settings = checked(load(chosen))
    session_openings(settings)
    told = destinations or data / DESTINATIONS_NAME
    if not load_destinations(told):
        click.echo(NO_DESTINATIONS.format(file=told), err=True)
    try:
        stack = Stack(
            data,
            chosen,
            log_level=log_level,
            retention=settings.retention,
            report=_still_starting,
            destinations=destinations,
        )
        code = asyncio.run(_up(stack, seconds, to_json))
    except (StackFailed, ServerFailed, ServerNotInstalled) as trouble:
        fail(str(trouble), EXIT_ERROR)
    sys.exit(code)


def _still_starting(what: str) -> None:
    click.echo(what, err=True)
    systemd.notify(systemd.status(what), systemd.more_time(10 * STILL_S))


def _chosen_config(data: Path, config: Path | None, feed: str | None) -> Path:
    """The given file, else ./tapeline.toml, else the data folder's own, else the default, written there."""
    if config is None:
        config = next((own for own in (Path(CONFIG_NAME), data / CONFIG_NAME) if own.exists()), None)
    text = default_config() if config is None else config.read_text(encoding="utf-8") if config.exists() else None
    if text is None:
        assert config is not None
        fail(f"{config} does not exist: write one with `tapeline new-config {config}`", EXIT_CONFIGURATION)
    if config is not None and feed is None:
        return config
    if feed is not None:
        text = _with_feed(text, feed)
    data.mkdir(parents=True, exist_ok=True)
    written = data / CONFIG_NAME
    written.write_text(text, encoding="utf-8")
    return written


def _with_feed(text: str, feed: str) -> str:
    """The configuration with its ``[feed]`` table turned to another source."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip() == "[feed]"
            lines.append(line)
            if inside and feed == "synthetic":
                lines.append('kind = "synthetic"')
            elif inside:
                lines += ['kind = "exchange"', f'exchange = "{feed}"']
            continue
        if inside and line.split("=")[0].strip() in ("kind", "exchange"):
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"


async def _up(stack: Stack, seconds: float | None, to_json: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    started = time.monotonic()
    quiet = to_json or systemd.is_watched()  # systemd shows the latest line as the unit's status
    if not quiet:
        click.echo(f"starting nats-server, Postgres and {len(stack.services)} services on {stack.folder.name} ...")
    try:
        await stack.start()
        systemd.notify(systemd.READY)
        if not quiet:
            click.echo(f"up in {time.monotonic() - started:.1f} s; `tapeline tail -f` follows the tape, Ctrl-C stops")
        async with _Looker(stack) as looker:
            code = await _watch(stack, looker, stop, None if seconds is None else started + seconds, quiet)
            if code:
                click.echo(stack.failed, err=True)
                return code
            final = await _final_status(looker)
        verified = await _verify(stack)
    finally:
        systemd.notify(systemd.STOPPING)
        await stack.stop()
    if final is None:
        click.echo("the ledger did not answer at the end; `tapeline up` again goes on with the same tape", err=True)
        return EXIT_ERROR
    final = msgspec.structs.replace(final, chain=verified)
    if to_json:
        write_json(final)
    else:
        for line in summary_lines(final):
            click.echo(line)
    return EXIT_ERROR if verified.get("fault") else EXIT_OK


class _Looker:
    """Looks at a running stack once a second, over one connection for as long as that holds."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._counts = Counts()
        self._held = AsyncExitStack()
        self._client: OperatorClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._let_go()

    async def look(self) -> Status | None:
        """``None``: a server is being restarted; the next look connects anew and will tell."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                if self._client is None:
                    self._client = await self._held.enter_async_context(operator(self._stack.folder))
                found = await self._counts.gather(self._client)
        except (TimeoutError, TapeUnavailable, NotRunning, ClientTrouble, OSError):
            await self._let_go()
            return None
        restarts = {name: child.restarts for name, child in self._stack.children.items()}
        return msgspec.structs.replace(found, restarts={**self._stack.server_restarts, **restarts})

    async def _let_go(self) -> None:
        self._client = None
        with suppress(ClientTrouble, OSError):  # a timeout is an OSError
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await self._held.aclose()


async def _watch(stack: Stack, looker: _Looker, stop: asyncio.Event, until_s: float | None, quiet: bool) -> int:
    """Show what happens until told to stop, out of time, or given up."""
    live = None
    if not quiet and sys.stdout.isatty():
        from rich.live import Live

        live = Live(refresh_per_second=4)
        live.start()
    next_line_s = time.monotonic() + 5
    try:
        while not stop.is_set() and not stack.failed:
            if until_s is not None and time.monotonic() >= until_s:
                break
            found = await looker.look()
            if systemd.is_watched():
                words = systemd.status("the ledger does not answer" if found is None else summary_lines(found)[0])
                systemd.notify(systemd.ALIVE, words)
            if found is not None and live is not None:
                live.update(status_table(found))
            elif found is not None and not quiet and time.monotonic() >= next_line_s:
                next_line_s = time.monotonic() + 5
                click.echo(summary_lines(found)[0])
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await stop.wait()
    finally:
        if live is not None:
            live.stop()
    return EXIT_CONFIGURATION if stack.failed else 0


async def _final_status(looker: _Looker) -> Status | None:
    for _ in range(20):
        found = await looker.look()
        if found is not None:
            return found
        await asyncio.sleep(0.5)
    return None


async def _verify(stack: Stack) -> dict[str, Any]:
    """``tapeline verify`` on the database that is about to be stopped."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tapeline_common.cli",
        "verify",
        "--dsn-file",
        str(stack.folder / "secrets" / "ledger-dsn"),
        "--json",
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    verified: dict[str, Any] = msgspec.json.decode(said) if said.strip() else {"fault": "verify did not answer"}
    return verified


@click.command("doctor")
@data_folder
@as_json
def doctor(data: Path, to_json: bool) -> None:
    """Check this machine: Python, servers, disk, memory, clock, ports, leftovers."""
    checks = [_check(name, *check(data)) for name, check in _CHECKS]
    if to_json:
        write_json(checks)
    else:
        for each in checks:
            click.echo(f"{'ok  ' if each['ok'] else 'BAD '} {each['check']}: {each['detail']}")
    sys.exit(0 if all(each["ok"] for each in checks) else EXIT_ERROR)


def _check(name: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"check": name, "ok": ok, "detail": detail}


def _python(_data: Path) -> tuple[bool, str]:
    return sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or later is needed)"


def _servers(_data: Path) -> tuple[bool, str]:
    from tapeline_common.servers_nats import locate_nats_server
    from tapeline_common.servers_postgres import locate_postgres

    try:
        locate_nats_server(), locate_postgres()
        return True, "nats-server and Postgres found"
    except ServerNotInstalled as trouble:
        return False, str(trouble)


def _disk(data: Path) -> tuple[bool, str]:
    folder = data if data.exists() else Path()
    usage = shutil.disk_usage(folder)
    share = usage.free / usage.total
    return share >= 0.05, f"{usage.free / 2**30:.1f} GiB free ({share:.0%})"


def _memory(_data: Path) -> tuple[bool, str]:
    available = psutil.virtual_memory().available / 2**30
    return available >= 1, f"{available:.1f} GiB available (1 GiB is enough)"


def _clock(_data: Path) -> tuple[bool, str]:
    year = time.gmtime().tm_year
    return 2025 <= year < 2100, f"the clock says {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC"


def _loopback(_data: Path) -> tuple[bool, str]:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return True, "a port on 127.0.0.1 can be opened"
    except OSError as trouble:
        return False, f"no port on 127.0.0.1 can be opened: {trouble}"


def _stack_state(data: Path) -> tuple[bool, str]:
    running = running_stack(data)
    return True, f"runs (pid {running.pid})" if running else "not running"


def _services(_data: Path) -> tuple[bool, str]:
    names = list(installed_services())
    return bool(names), ", ".join(names)


_CHECKS = (
    ("python", _python),
    ("servers", _servers),
    ("services", _services),
    ("disk", _disk),
    ("memory", _memory),
    ("clock", _clock),
    ("loopback", _loopback),
    ("stack", _stack_state),
)
