"""What a decoded answer must be before the sequencer judges it: numbers and texts that every store can hold.

JSON lets through what decimals, text columns and cores cannot take: NaN and Infinity as decimals, numbers of a
thousand digits, a zero byte in a text, an integer beyond 64 bits. One such value would fail a whole group commit, or
stop every core that hears it, so it is refused at the door with a reason. Who may say what is the sequencer's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.events import AUTHOR_OF, Event
from tapeline_common.sequencer import MAX_ID_LENGTH
from tapeline_common.values import DecimalText
from tapeline_common.wire import Answer, Draft

MAX_FACTS = 10_000
"""Facts of one answer: a core that says more in one step is broken."""

MAX_DIGITS = 40
"""Digits before and after the point; products of two such numbers still fit the 60 exact digits with room to spare
for every price and quantity of this world, and 40 is beyond any of them."""

MAX_TEXT_LENGTH = 4_000
"""Details and reasons are for people."""

MANY_FACTS = 8
"""An answer of so many facts is looked at column by column first: a third of the work for each fact."""

_INT64 = 2**63
_DECIMAL_TEXT = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")
_DECIMAL_TEXTS = re.compile(r"(?:-?+[0-9]{1,40}+(?:\.[0-9]{1,40}+)?+(?:[eE][+-]?[0-9]{1,2}+)?+ )*+")
"""Many of them, each followed by a blank; possessive, so that nothing is kept for trying again."""
_HARMLESS = frozenset({bool, float, type(None)})
"""Kinds of values with which nothing can be wrong."""

_LISTS = (list, tuple)
"""Made once: ``list | tuple`` where it is asked is a new type each time."""


def fault_of(answer: Answer) -> str | None:
    """What is wrong with an answer, naming the event, the field and the value; ``None`` if nothing is."""
    if not 0 <= answer.cause < _INT64:
        return f"cause {answer.cause} is no position"
    if answer.time_ns is not None and not 0 <= answer.time_ns < _INT64:
        return f"time_ns {answer.time_ns} is no time in UTC nanoseconds"
    if len(answer.facts) > MAX_FACTS:
        return f"{len(answer.facts)} facts in one answer; at most {MAX_FACTS}"
    if len(answer.facts) >= MANY_FACTS and are_sound(answer.facts):
        return None
    return first_fault(answer.facts)


def first_fault(drafts: Iterable[Draft]) -> str | None:
    """What is wrong with the first wrong one of these facts, looked at one by one."""
    for draft in drafts:
        if draft.id and (len(draft.id) > MAX_ID_LENGTH or not draft.id.isprintable()):
            return f"id {draft.id[:60]!r}: printable text of at most {MAX_ID_LENGTH} characters is wanted"
        fault = _event_fault(draft.event)
        if fault is not None:
            return f"{type(draft.event).__name__}.{fault}"
    return None


def are_sound(drafts: Sequence[Draft]) -> bool:
    """Whether ``first_fault`` would find nothing, told from whole columns of values."""
    ids = [draft.id for draft in drafts]
    if max(map(len, ids)) > MAX_ID_LENGTH or not "".join(ids).isprintable():
        return False
    by_type: dict[type[Event], list[Event]] = {}
    for draft in drafts:
        by_type.setdefault(type(draft.event), []).append(draft.event)
    return all(_is_table_sound(kind, events) for kind, events in by_type.items())


def _is_table_sound(kind: type[Event], events: Sequence[Event]) -> bool:
    names, decimal_texts, _ = _FIELDS[kind]
    numbers: list[str] = []
    for name, column in zip(names, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True):
        if name in decimal_texts:
            numbers += column
        elif not _is_column_sound(column):
            return False
    if not numbers:
        return True
    joined = " ".join(numbers) + " "
    return joined.count(" ") == len(numbers) and _DECIMAL_TEXTS.fullmatch(joined) is not None


def _is_column_sound(column: Sequence[Any]) -> bool:
    kinds = set(map(type, column))
    if kinds == {int}:
        return bool(min(column) >= -_INT64 and max(column) < _INT64)
    if all(issubclass(kind, str) for kind in kinds):
        return max(map(len, column)) <= MAX_TEXT_LENGTH and "\0" not in "".join(column)
    return kinds <= _HARMLESS or all(_fault(value) is None for value in column)


def _event_fault(event: Event) -> str | None:
    names, decimal_texts, joined_decimals = _FIELDS[type(event)]
    for name, value in zip(names, msgspec.structs.astuple(event), strict=True):
        if type(value) is str:  # most fields of the most frequent facts, so without a call
            if len(value) > MAX_TEXT_LENGTH or "\0" in value:
                return f"{name}: {_text_fault(value)}"
        else:
            fault = _fault(value)
            if fault is not None:
                return f"{name}: {fault}"
    if decimal_texts and not joined_decimals.fullmatch(" ".join([getattr(event, name) for name in decimal_texts])):
        for name in decimal_texts:
            if not _DECIMAL_TEXT.fullmatch(getattr(event, name)):
                return f"{name}: {getattr(event, name)[:60]!r} is no decimal number"
    return None


def _fault(value: Any) -> str | None:
    kind = type(value)
    if kind is Decimal:
        return _decimal_fault(value)
    if isinstance(value, str):
        return _text_fault(value)
    if kind is int:
        return None if -_INT64 <= value < _INT64 else f"{str(value)[:60]} does not fit 64 bits"
    if isinstance(value, dict):
        return _first(*value.keys(), *value.values())
    if isinstance(value, _LISTS):
        return _first(*value)
    if isinstance(value, msgspec.Struct):
        return _first(*msgspec.structs.astuple(value))
    return None


def _first(*values: Any) -> str | None:
    for value in values:
        if type(value) is not float:
            fault = _fault(value)
            if fault is not None:
                return fault
    return None


def _decimal_fault(value: Decimal) -> str | None:
    sign_digits_exponent = value.as_tuple()
    exponent = sign_digits_exponent.exponent
    if not isinstance(exponent, int):
        return f"{value} is not finite"
    if len(sign_digits_exponent.digits) > MAX_DIGITS or exponent < -MAX_DIGITS or value.adjusted() >= MAX_DIGITS:
        return f"{str(value)[:60]} has more than {MAX_DIGITS} digits"
    return None


def _text_fault(value: str) -> str | None:
    if len(value) > MAX_TEXT_LENGTH:
        return f"a text of {len(value)} characters; at most {MAX_TEXT_LENGTH}"
    if "\0" in value:
        return "a text with a zero byte"
    return None


def _fields(event: type[Event]) -> tuple[tuple[str, ...], tuple[str, ...], re.Pattern[str]]:
    """All fields, those that hold decimal text, and what those look like when joined by blanks."""
    fields = msgspec.structs.fields(event)
    decimal_texts = tuple(field.name for field in fields if field.type is DecimalText)
    joined = " ".join([_DECIMAL_TEXT.pattern] * len(decimal_texts))
    return tuple(field.name for field in fields), decimal_texts, re.compile(joined)


_FIELDS = {event: _fields(event) for event in AUTHOR_OF}
