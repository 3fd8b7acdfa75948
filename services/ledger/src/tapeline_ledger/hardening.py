"""What a decoded answer must be before the sequencer judges it: numbers and texts that every store can hold.

JSON lets through what decimals, text columns and cores cannot take: NaN and Infinity as decimals, numbers of a
thousand digits, a zero byte in a text, an integer beyond 64 bits. One such value would fail a whole group commit, or
stop every core that hears it, so it is refused at the door with a reason. Who may say what is the sequencer's business.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.events import AUTHOR_OF, Event
from tapeline_common.sequencer import MAX_ID_LENGTH
from tapeline_common.values import DecimalText
from tapeline_common.wire import Answer

MAX_FACTS = 10_000
"""Facts of one answer: a core that says more in one step is broken."""

MAX_DIGITS = 40
"""Digits before and after the point; products of two such numbers still fit the 60 exact digits with room to spare
for every price and quantity of this world, and 40 is beyond any of them."""

MAX_TEXT_LENGTH = 4_000
"""Details and reasons are for people."""

_INT64 = 2**63
_DECIMAL_TEXT = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")


def fault_of(answer: Answer) -> str | None:
    """What is wrong with an answer, naming the event, the field and the value; ``None`` if nothing is."""
    if not 0 <= answer.cause < _INT64:
        return f"cause {answer.cause} is no position"
    if answer.time_ns is not None and not 0 <= answer.time_ns < _INT64:
        return f"time_ns {answer.time_ns} is no time in UTC nanoseconds"
    if len(answer.facts) > MAX_FACTS:
        return f"{len(answer.facts)} facts in one answer; at most {MAX_FACTS}"
    for draft in answer.facts:
        if draft.id and (len(draft.id) > MAX_ID_LENGTH or not draft.id.isprintable()):
            return f"id {draft.id[:60]!r}: printable text of at most {MAX_ID_LENGTH} characters is wanted"
        fault = _event_fault(draft.event)
        if fault is not None:
            return f"{type(draft.event).__name__}.{fault}"
    return None


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
    if isinstance(value, list | tuple):
        return _first(*value)
    if isinstance(value, msgspec.Struct):
        return _first(*(getattr(value, name) for name in value.__struct_fields__))
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
