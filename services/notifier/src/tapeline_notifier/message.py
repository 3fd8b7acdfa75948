"""What people are told: one message, whatever it came from and wherever it goes.

Pure data. Which facts become messages is in ``fold``, which alerts in ``alerts``; who gets them in ``delivery``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

MOST_TITLE = 200
MOST_TEXT = 3_500
"""Characters; messengers refuse or split what is longer (Telegram at 4,096)."""

MOST_LISTED = 20
"""Lines of a list before it ends in "and N more"."""


class Kind(StrEnum):
    TRADE = "trade"
    CONTROL = "control"
    MODEL = "model"
    ALERT = "alert"


class Severity(StrEnum):
    """PAGE: somebody must look now. TICKET: somebody must look soon. INFO: good to know."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message.

    Attributes:
        time_ns: stamp of the fact, or when the alert was received; UTC nanoseconds.
        position: of the fact on the tape; 0 for what did not come from the tape. Messages are delivered at least once:
            the same position twice is the same message.
        labels: labels that an alert's group has in common.
    """

    kind: Kind
    severity: Severity
    title: str
    text: str
    time_ns: int
    position: int = 0
    labels: dict[str, str] = {}


def message(
    kind: Kind,
    severity: Severity,
    title: str,
    text: str,
    *,
    time_ns: int,
    position: int = 0,
    labels: dict[str, str] | None = None,
) -> Message:
    """A message whose words are of bearable length and hold no control characters."""
    return Message(
        kind, severity, clipped(title, MOST_TITLE), clipped(text, MOST_TEXT, "\n"), time_ns, position, labels or {}
    )


def clipped(text: str, most: int, kept: str = "") -> str:
    """The text without unprintable characters (but those in ``kept``), at most so many characters long."""
    plain = "".join(sign if sign.isprintable() or sign in kept else " " for sign in text).strip()
    return plain if len(plain) <= most else plain[: most - 4].rstrip() + " ..."


def wanted(told: Message, sends: Sequence[str]) -> bool:
    """Whether a destination that sends these kinds and severities gets the message."""
    return told.kind.value in sends or told.severity.value in sends


_RANK = {Severity.PAGE: 0, Severity.TICKET: 1, Severity.INFO: 2}


def gravest(severities: Sequence[Severity]) -> Severity:
    return min(severities, key=_RANK.__getitem__)


def listed(lines: Sequence[str], rest: str = "more") -> str:
    """The first lines, and how many are left."""
    shown = list(lines[:MOST_LISTED])
    if len(lines) > MOST_LISTED:
        shown.append(f"and {len(lines) - MOST_LISTED} {rest}")
    return "\n".join(shown)


def collapsed(waiting: Sequence[Message], dropped: int) -> Message:
    """One message that names many: pages first, trades last, otherwise in the order in which they came.

    Args:
        dropped: how many older ones had to give way before these.
    """
    counts = {
        severity: sum(one.severity is severity for one in waiting) for severity in (Severity.PAGE, Severity.TICKET)
    }
    words = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts.items() if count]
    title = f"{len(waiting) + dropped} more" + (f", {', '.join(words)} among them" if words else "")
    ordered = sorted(waiting, key=lambda one: (_RANK[one.severity], one.kind is Kind.TRADE))
    lines = [_summarised(one) for one in ordered]
    text = listed(lines, "more in notifications.jsonl")
    if dropped:
        text += f"\n{dropped} older ones stand in notifications.jsonl only"
    last = waiting[-1]
    kind = last.kind if len({one.kind for one in waiting}) == 1 else Kind.ALERT
    return message(
        kind, gravest([one.severity for one in waiting]), title, text, time_ns=last.time_ns, position=last.position
    )


def located(told: Message) -> Message:
    """The message as it is sent: with its position, by which a reader knows one that comes twice."""
    if not told.position:
        return told
    return msgspec.structs.replace(told, text=f"{told.text}\nposition {told.position}".lstrip())


def _summarised(told: Message) -> str:
    """One line: the title, and the first line of text where the title alone does not say why."""
    more = "" if told.kind is Kind.TRADE else told.text.partition("\n")[0]
    where = f" [{told.position}]" if told.position else ""
    return clipped(f"- {told.title}{where}" + (f": {more}" if more else ""), 400)
