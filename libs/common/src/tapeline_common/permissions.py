"""Who may say and hear what on NATS, derived from the services' tables.

A service may ask for its own authors' facts to be recorded, read the log, follow the tape and say how far it has heard.
Only the ledger publishes facts, only the operator publishes control requests. Keys and server configuration are in
``servers_nats``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tapeline_common import subjects
from tapeline_common.wiring import Service

LEDGER = "ledger"
NOTIFIER = "notifier"
OPERATOR = "operator"
BACKTEST = "backtest"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one user may publish and subscribe, besides subscribing to its own inbox."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def allowances(services: Mapping[str, Service], *, replay: bool) -> list[Allowance]:
    """One user per service, and the operator (live) or the backtest (replay)."""
    users = [_of_service(service, replay=replay) for name, service in services.items() if name != LEDGER]
    if replay:
        outside = tuple(subjects.append(author) for author in ("operator", "marketdata"))
        users.append(Allowance(BACKTEST, (*outside, subjects.READ), (subjects.PROGRESS_ALL,)))
    else:
        users.append(Allowance(OPERATOR, (subjects.CONTROL_ALL, subjects.READ), (subjects.TAPE, subjects.PROGRESS_ALL)))
    return [_of_ledger((user.name for user in users), replay=replay), *users]


def _of_service(service: Service, *, replay: bool) -> Allowance:
    if replay:
        answers = (subjects.frame_answer(service.name), subjects.progress(service.name))
        return Allowance(service.name, answers, (subjects.frames(service.name),))
    publish = (*map(subjects.append, service.authors), subjects.READ, subjects.progress(service.name))
    return Allowance(service.name, publish, (subjects.TAPE, subjects.progress(LEDGER)))


def _of_ledger(askers: Iterable[str], *, replay: bool) -> Allowance:
    inboxes = tuple(f"_INBOX.{name}.>" for name in askers)
    if replay:
        return Allowance(
            LEDGER,
            (subjects.FRAMES_ALL, subjects.progress(LEDGER), *inboxes),
            (subjects.APPEND_ALL, subjects.READ, subjects.FRAME_ANSWERS_ALL),
        )
    return Allowance(
        LEDGER,
        (
            subjects.TAPE,
            subjects.MIRROR,
            subjects.progress(LEDGER),
            "$JS.API.>",
            *inboxes,
        ),
        (subjects.APPEND_ALL, subjects.READ, subjects.CONTROL_ALL, subjects.PROGRESS_ALL),
    )
