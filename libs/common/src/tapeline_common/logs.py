"""Structured logs: JSON, one line per decision, on standard error.

Only shells log. Every line about a decision carries its position, cause, event and outcome; the tape is the truth, the
log is for reading along.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import structlog

from tapeline_common.events import Event
from tapeline_common.wire import encode

Logger = structlog.typing.FilteringBoundLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(service: str, level: str = "info", told: Callable[[str], None] = lambda _level: None) -> Logger:
    """Set up logging for one process and return its logger. Unknown levels mean ``info``.

    Args:
        told: told the level of every line that is written.
    """

    def tell(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        told(line["level"])
        return line

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            tell,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return cast(Logger, structlog.get_logger().bind(service=service))


def decision(logger: Logger, *, pos: int, cause: int, author: str, event: Event, outcome: str) -> None:
    """The one line of a decision. ``outcome`` is ``recorded``, ``known`` or the refusal."""
    if not logger.is_enabled_for(logging.INFO):
        return  # the fact is encoded for the line only
    fields: dict[str, Any] = {"pos": pos, "cause": cause, "author": author, "outcome": outcome}
    logger.info(type(event).__name__, **fields, fact=encode(event).decode())
