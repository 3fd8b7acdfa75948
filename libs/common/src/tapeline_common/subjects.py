"""Names on the bus. Every subject the platform uses is built here and nowhere else.

``tape.<author>.<Event>.<stream>``   facts, published by the ledger only, after they are committed
``ledger.append.<author>``           requests to record; NATS lets only that author's service publish there
``ledger.read``                      requests for recorded facts
``progress.<service>``               how far a service has heard (plain, not a fact)
``frames.<service>``                 replay realm: facts for one service; ``frames.answer.<service>`` what it says
``control.<action>``                 operator requests, answered by the ledger
"""

from __future__ import annotations

import re

TAPE = "tape.>"
READ = "ledger.read"
APPEND = "ledger.append."
APPEND_ALL = "ledger.append.*"
PROGRESS = "progress."
PROGRESS_ALL = "progress.*"
FRAMES = "frames."
FRAMES_ALL = "frames.*"
FRAME_ANSWERS = "frames.answer."
FRAME_ANSWERS_ALL = "frames.answer.*"
CONTROL = "control."
CONTROL_ALL = "control.*"
MIRROR = "mirror.>"
"""What the ledger feeds the mirror with; followers of the tape never hear a refill."""
MIRROR_STREAM = "TAPE"
"""Name of the JetStream stream that mirrors ``tape.>`` for outside consumers."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}")


def is_token(text: str) -> bool:
    """Whether a text may stand as one token of a subject: letters, digits, ``-`` and ``_``, at most 100 of them."""
    return _TOKEN.fullmatch(text) is not None


def tape(author: str, event: str, stream: str) -> str:
    return f"tape.{author}.{event}.{stream}"


def tape_of(event: str) -> str:
    """Facts of one type, whoever says them and whatever they are about."""
    return f"tape.*.{event}.>"


def event_of(subject: str) -> str:
    """Event name of a tape subject, so that a fact can be skipped without decoding it."""
    return subject.split(".", 3)[2]


def author_of(subject: str) -> str:
    """Author name of a tape subject."""
    return subject.split(".", 2)[1]


def append(author: str) -> str:
    return APPEND + author


def progress(service: str) -> str:
    return PROGRESS + service


def frames(service: str) -> str:
    return FRAMES + service


def frame_answer(service: str) -> str:
    return FRAME_ANSWERS + service


def control(action: str) -> str:
    return CONTROL + action
