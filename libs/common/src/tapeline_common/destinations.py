"""``destinations.toml``: who is told what. A secret file, because the URL of a messenger holds its password.

Checked whole, like the configuration; a wrong key or value ends with one message that names it and the fix. Neither a
URL nor a part of one is ever in such a message. Whether a URL means anything is for the notifier to find out, which
knows the messengers; nothing is sent from here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tapeline_common.settings import ConfigurationInvalid, Table
from tapeline_common.subjects import is_token

DESTINATIONS_NAME = "destinations.toml"

SENDS = ("page", "ticket", "trade", "control", "model")
"""What a destination may ask for: alerts by severity, and kinds of facts."""

NO_DESTINATIONS = (
    "NO DESTINATIONS: nobody is told about halts, fills and alerts. They are written to notifications.jsonl only "
    "(`tapeline notifications`). Name messengers in {file}, see docs/operating.md"
)
"""Said once at the start, loudly."""


class Destination(Table, frozen=True):
    """One messenger.

    Attributes:
        url: an apprise URL; never shown.
        sends: which messages it gets; one that fits twice comes once.
        per_minute: most messages a minute; what is more waits and comes as one.
    """

    name: str
    url: str
    sends: tuple[str, ...]
    per_minute: int = 20

    def __repr__(self) -> str:
        return f"Destination(name={self.name!r}, url=..., sends={self.sends!r})"


class DestinationsTable(Table, frozen=True):
    destination: tuple[Destination, ...] = ()


def load_destinations(path: Path) -> tuple[Destination, ...]:
    """Read and check the file; no file names nobody. Raises ``ConfigurationInvalid``."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as trouble:
        reason = trouble.strerror if isinstance(trouble, OSError) else "it is not UTF-8 text"
        raise ConfigurationInvalid(f"{path.name}: cannot be read ({reason})") from None
    return parse_destinations(text, path.name)


def parse_destinations(text: str, name: str = DESTINATIONS_NAME) -> tuple[Destination, ...]:
    """The same, from text. ``name`` appears in messages.

    Errors are raised without their cause: a traceback of the parser's could quote the file.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as trouble:
        raise ConfigurationInvalid(f"{name}: not valid TOML: {trouble}") from None
    try:
        found = msgspec.convert(tables, DestinationsTable).destination
    except msgspec.ValidationError as trouble:
        what, _, where = str(trouble).rpartition(" - at `$")
        key = where.rstrip("`").lstrip(".") or "at the top"
        raise ConfigurationInvalid(
            f"{name}: key {key}: {what or trouble}; a [[destination]] has name, url, sends and per_minute"
        ) from None
    for key, value, fix in _wrong(found):
        raise ConfigurationInvalid(f"{name}: key {key} is {value}: {fix}")
    return found


def _wrong(found: tuple[Destination, ...]) -> Iterator[tuple[str, str, str]]:
    names = [one.name for one in found]
    for index, one in enumerate(found):
        key = f"destination[{index}]"
        if not is_token(one.name):
            yield f"{key}.name", repr(one.name), "use letters, digits, - and _"
        if names.count(one.name) > 1:
            yield f"{key}.name", repr(one.name), "give each destination its own name"
        if "://" not in one.url:
            yield f"{key}.url", "no URL (it is not shown)", "use an apprise URL such as json://, slack://, mailtos://"
        for word in one.sends:
            if word not in SENDS:
                yield f"{key}.sends", repr(word), f"use some of {', '.join(SENDS)}"
        if not one.sends:
            yield f"{key}.sends", "empty", f"use some of {', '.join(SENDS)}"
        if not 1 <= one.per_minute <= 600:
            yield f"{key}.per_minute", str(one.per_minute), "use 1 to 600"
