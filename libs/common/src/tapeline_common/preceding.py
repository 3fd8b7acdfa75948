"""What lies before a fact: said with announcements, so that a follower may hear only the types it has rows for.

A follower that is not sent what it does not hear sees gaps in the positions. The ledger therefore says, beside a fact
of another type than the one before, at which position each type was recorded last. Then a follower knows whether a gap
holds anything it should have heard, and reads the log if so. A lost message is noticed as surely as by counting every
position, and nobody is woken for facts that do not concern it.

The text: a position, then ``Type=position`` for each type recorded after it, oldest first; types not named have no
fact after the first position. Pure.
"""

from __future__ import annotations

from collections.abc import Container

HEADER = "Tape-Before"

HORIZON = 10_000
"""Positions after which a type is no longer named: whoever is further behind reads the log."""


class Preceding:
    """The latest position of each type, kept as facts are announced.

    Args:
        since: the head when this began; nothing is known of facts up to there.

    Attributes:
        through: position of the last fact this knows of. What ``text`` says holds up to there and no further.
        last: type of that fact; empty if there is none.
    """

    def __init__(self, since: int) -> None:
        self.through = since
        self._since = since
        self._latest: dict[str, int] = {}
        self._words: dict[str, str] = {}
        """Of each type but the last one."""
        self.last = ""
        self._others = str(since)
        """The text without its last word: the same for a run of facts of one type, which are the most there are."""

    def add(self, event: str, pos: int) -> None:
        """Take note of the next fact. Positions rise."""
        latest = self._latest
        if event != self.last:
            if self.last:
                self._words[self.last] = f"{self.last}={self.through}"
            self._words.pop(event, None)
            latest.pop(event, None)
            self.last = event
            self._others = self._text_of_others()
        latest[event] = self.through = pos
        oldest = next(iter(latest))
        if latest[oldest] <= pos - HORIZON:
            self._since = latest.pop(oldest)
            del self._words[oldest]
            self._others = self._text_of_others()

    def _text_of_others(self) -> str:
        return " ".join([str(self._since), *self._words.values()])

    @property
    def text(self) -> str:
        """What was announced so far, for the announcement of the next fact."""
        return f"{self._others} {self.last}={self.through}" if self.last else self._others


def nothing_missed(text: str, heard: int, wanted: Container[str]) -> bool:
    """Whether no fact of the ``wanted`` types lies after position ``heard`` and before the fact this came with.

    False also if the text does not reach back that far, or is empty.
    """
    since, *words = text.split(" ")
    if not since or int(since) > heard:
        return False
    for word in reversed(words):
        event, _, pos = word.partition("=")
        if int(pos) <= heard:
            return True
        if event in wanted:
            return False
    return True
