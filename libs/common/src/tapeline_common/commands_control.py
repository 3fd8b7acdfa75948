"""``tapeline halt | resume | flatten | disable | enable | promote | rollback``: the operator's hand.

Each sends one control request to a running stack and prints at which position it was recorded and who has heard it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from tapeline_common.commands_shared import as_json, data_folder, fail
from tapeline_common.control_request import Action, ControlReply, ControlRequest
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_TIMEOUT
from tapeline_common.operator_client import CannotSign, NoReply, NotRunning, operator


async def _send(folder: Path, action: Action, request: ControlRequest) -> ControlReply:
    async with operator(folder) as client:
        return await client.control(action, request)


def _ask(folder: Path, action: Action, request: ControlRequest, to_json: bool) -> None:
    try:
        reply = asyncio.run(_send(folder, action, request))
    except NotRunning as trouble:
        fail(str(trouble), EXIT_NOT_RUNNING)
    except CannotSign as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except NoReply as trouble:
        fail(str(trouble), EXIT_TIMEOUT)
    if to_json:
        click.echo(msgspec.json.encode(reply))
    elif reply.refusal is not None:
        click.echo(f"{action} changed nothing: {reply.refusal}: {reply.detail}", err=True)
    else:
        click.echo(
            f"{action} recorded at position {reply.position}; `tapeline why {reply.position}` shows what followed"
        )
        click.echo(f"heard by {', '.join(reply.acknowledged) or 'nobody yet'}")
        if reply.waiting:
            click.echo(f"not yet heard by {', '.join(reply.waiting)}", err=True)
    if reply.refusal is not None:
        sys.exit(EXIT_ERROR)


def _request(command: Callable[..., None]) -> click.Command:
    """A command with what all of these take: the stack's data folder, a reason, and --json."""
    reason = click.option("--reason", default="", help="Recorded with the request.")
    return click.command()(data_folder(reason(as_json(command))))


def _request_about(argument: str) -> Callable[[Callable[..., None]], click.Command]:
    """The same, with the one thing that the request is about."""
    return lambda command: _request(click.argument(argument)(command))


@_request
def halt(data: Path, reason: str, to_json: bool) -> None:
    """Stop trading: nothing is sent after this, working orders are cancelled."""
    _ask(data, Action.HALT, ControlRequest(reason=reason), to_json)


@_request
def flatten(data: Path, reason: str, to_json: bool) -> None:
    """Close every position and open none."""
    _ask(data, Action.FLATTEN, ControlRequest(reason=reason), to_json)


@_request
def resume(data: Path, reason: str, to_json: bool) -> None:
    """Trade again after a halt (signed)."""
    _ask(data, Action.RESUME, ControlRequest(reason=reason), to_json)


@_request_about("strategy")
def disable(strategy: str, data: Path, reason: str, to_json: bool) -> None:
    """Stop one strategy instance from opening anything."""
    _ask(data, Action.DISABLE_STRATEGY, ControlRequest(strategy=strategy, reason=reason), to_json)


@_request_about("strategy")
def enable(strategy: str, data: Path, reason: str, to_json: bool) -> None:
    """Let a disabled strategy instance trade again (signed)."""
    _ask(data, Action.ENABLE_STRATEGY, ControlRequest(strategy=strategy, reason=reason), to_json)


@_request_about("model")
def promote(model: str, data: Path, reason: str, to_json: bool) -> None:
    """Let a registered model decide the regime from the next bar on (signed). MODEL is its SHA-256."""
    _ask(data, Action.PROMOTE, ControlRequest(model=model, reason=reason), to_json)


@_request_about("instrument")
def rollback(instrument: str, data: Path, reason: str, to_json: bool) -> None:
    """Go back to the model promoted before the current one (signed). INSTRUMENT is a token such as BTC-USDT_sim."""
    _ask(data, Action.ROLLBACK, ControlRequest(instrument=instrument, reason=reason), to_json)
