"""The notifier's own log: ``notifications.jsonl``, written before anything is sent, and the cursor beside it.

Each message is a line and has a number. What became of it at its destinations follows as lines with the same number.
The cursor says up to which position of the tape messages are written down, and up to which number each destination has
them. Both survive ``kill -9``: after one, a message may be told twice, never not at all. Sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tapeline_notifier.message import Kind, Message, Severity

FILE_NAME = "notifications.jsonl"
CURSOR_NAME = "cursor.json"

ROTATE_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5
"""Older files beside the present one: ``notifications.jsonl.1`` is the youngest."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line: a message, or (``title`` is empty) what became of the message with this number.

    Attributes:
        time: UTC, of the fact or of the alert.
        deliveries: destination → ``pending`` in a message's line; ``sent`` or ``dropped`` in those that follow.
    """

    number: int
    time: str = ""
    kind: Kind | None = None
    severity: Severity | None = None
    title: str = ""
    text: str = ""
    position: int = 0
    labels: dict[str, str] = {}
    deliveries: dict[str, str] = {}
    time_ns: int = 0

    @property
    def message(self) -> Message:
        assert self.kind is not None
        assert self.severity is not None
        return Message(self.kind, self.severity, self.title, self.text, self.time_ns, self.position, self.labels)


class Cursor(msgspec.Struct):
    """How far the notifier is.

    Attributes:
        position: every message about facts up to here is in the journal; ``None``: it never followed a tape.
        delivered: destination → everything up to this number is done with.
    """

    position: int | None = None
    delivered: dict[str, int] = {}


class CursorDamaged(Exception):
    """The cursor file cannot be read. The message names it and what deleting it means."""


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Entry)


def read_entries(folder: Path) -> Iterator[Entry]:
    """Every line of every file, oldest first; lines that a crash or a full disk cut are passed over."""
    for path in _files(folder):
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue


def joined(entries: Iterator[Entry], last: int) -> list[Entry]:
    """The last so many messages, each with what became of it."""
    found: dict[int, Entry] = {}
    for entry in entries:
        if entry.title:
            found[entry.number] = entry
            if len(found) > last:
                del found[next(iter(found))]
        elif entry.number in found:
            known = found[entry.number]
            found[entry.number] = msgspec.structs.replace(known, deliveries={**known.deliveries, **entry.deliveries})
    return list(found.values())


def _files(folder: Path) -> list[Path]:
    aged = [folder / f"{FILE_NAME}.{age}" for age in range(KEPT_FILES, 0, -1)]
    return [path for path in (*aged, folder / FILE_NAME) if path.exists()]


class Journal:
    """The file and the cursor of one folder; one process writes them.

    Attributes:
        number: of the last message written.
        cursor: as it is in memory; ``keep`` writes it down.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / FILE_NAME
        self.number = max((entry.number for entry in read_entries(folder)), default=0)
        self.cursor = self._read_cursor()
        self._kept = b""
        self._ends_in_line = self._seal()

    def append(self, told: Message, time: str, destinations: tuple[str, ...]) -> int:
        """Write a message down, durably; returns its number. Raises ``OSError``: the number is used up all the same."""
        self.number += 1
        entry = Entry(
            self.number,
            time,
            told.kind,
            told.severity,
            told.title,
            told.text,
            told.position,
            told.labels,
            dict.fromkeys(destinations, "pending"),
            told.time_ns,
        )
        self._write([entry], durable=True)
        return self.number

    def settled(self, numbers: list[int], destination: str, outcome: str) -> None:
        """Write down what became of messages; lost lines only mean that a reader does not learn it."""
        self._write([Entry(number, deliveries={destination: outcome}) for number in numbers], durable=False)

    def after(self, number: int) -> list[Entry]:
        """Messages that were written after this number."""
        return [entry for entry in read_entries(self.folder) if entry.title and entry.number > number]

    def keep(self) -> None:
        """Write the cursor down, if it has changed: whole or not at all."""
        text = _encode(self.cursor) + b"\n"
        if text == self._kept:
            return
        partial = self.folder / f".{CURSOR_NAME}"
        with partial.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / CURSOR_NAME)
        self._kept = text

    def _write(self, entries: list[Entry], *, durable: bool) -> None:
        if self.path.exists() and self.path.stat().st_size >= ROTATE_BYTES:
            self._rotate()
        lines = b"".join(_encode(entry) + b"\n" for entry in entries)
        with open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
            start = b"" if self._ends_in_line else b"\n"
            self._ends_in_line = False
            file.write(start + lines)
            file.flush()
            self._ends_in_line = True
            if durable:
                os.fsync(file.fileno())

    def _rotate(self) -> None:
        for age in range(KEPT_FILES, 1, -1):
            younger = self.folder / f"{FILE_NAME}.{age - 1}"
            if younger.exists():
                younger.replace(self.folder / f"{FILE_NAME}.{age}")
        self.path.replace(self.folder / f"{FILE_NAME}.1")

    def _seal(self) -> bool:
        """Whether the file ends in a whole line; a crash may have cut the last one."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _read_cursor(self) -> Cursor:
        path = self.folder / CURSOR_NAME
        try:
            return msgspec.json.decode(path.read_bytes(), type=Cursor)
        except FileNotFoundError:
            return Cursor()
        except msgspec.DecodeError as trouble:
            raise CursorDamaged(
                f"{path} cannot be read ({trouble}): delete it to begin at the head of the tape"
            ) from trouble
