"""Decisions of two tapes of the same session, side by side.

A decision is whatever a service said: intents, declines, approvals, refusals, submissions, reports, fills, the fees of
fills, positions, trades, equity. Two are the same decision if they have the same name, and agree if they say the same
at the same time. What differs is the origin of a divergence, or follows from one: an author that had heard nothing
different from anybody decided otherwise by itself; whoever had, may only have followed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tapeline_common.core import Core
from tapeline_common.events import EVENT_BY_NAME
from tapeline_common.wire import Fact
from tapeline_lab.parity.naming import Names

Moment = tuple[int, int]


class Kind(StrEnum):
    """Kinds of decisions, in the order of a bar's way."""

    REGIME = "REGIME"
    PRESET = "PRESET"
    INTENT = "INTENT"
    DECLINE = "DECLINE"
    APPROVAL = "APPROVAL"
    REFUSAL = "REFUSAL"
    HALT = "HALT"
    SUBMISSION = "SUBMISSION"
    REPORT = "REPORT"
    FILL = "FILL"
    FEE = "FEE"
    FUNDING = "FUNDING"
    POSITION = "POSITION"
    TRADE = "TRADE"
    EQUITY = "EQUITY"
    BOOKS = "BOOKS"


_OF_TYPE = {
    Kind.REGIME: "TrainingRequested TrainingFailed ModelRegistered RegimeUpdated ModelPromoted ModelRolledBack "
    "PromotionRefused",
    Kind.PRESET: "PresetRegistered PresetRefused PresetChosen PresetRewarded",
    Kind.INTENT: "OrderProposed",
    Kind.DECLINE: "TradeDeclined",
    Kind.APPROVAL: "OrderApproved",
    Kind.REFUSAL: "OrderRefused",
    Kind.HALT: "LimitBreached TradingHalted TradingResumed",
    Kind.SUBMISSION: "OrderSubmitted OrderWithheld CancelSubmitted LifecycleViolated",
    Kind.REPORT: "OrderAccepted OrderRejected OrderCanceled OrderExpired OrderOutcomeUnknown BalanceReported "
    "LiquidationOrdered",
    Kind.FILL: "OrderFilled",
    Kind.FUNDING: "BorrowCharged FundingPosted BorrowPosted",
    Kind.POSITION: "PositionChanged",
    Kind.TRADE: "TradeClosed",
    Kind.EQUITY: "EquityMarked",
    Kind.BOOKS: "BooksReconciled",
}
KIND_OF = {EVENT_BY_NAME[name]: kind for kind, names in _OF_TYPE.items() for name in names.split()}
FEE_FIELDS = ("fee", "fee_currency")


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on one tape.

    Attributes:
        cause: name of the fact it answers; empty for a real venue's report.
        moment: of the outside fact at its root.
    """

    key: str
    kind: Kind
    author: str
    event: str
    pos: int
    time_ns: int
    cause: str
    moment: Moment
    content: Mapping[str, Any]


Decisions = Mapping[str, Decision]


def decisions_of(facts: Iterable[Fact], names: Names, moments: Mapping[str, Moment]) -> dict[str, Decision]:
    """Every decision of a tape by name; ``moments`` are those of its outside facts."""
    found: dict[str, Decision] = {}
    for fact in facts:
        if not fact.cause and fact.author != "venue":
            continue
        key, content = names.keys[fact.pos], names.content(fact)
        decision = Decision(
            key=key,
            kind=KIND_OF[type(fact.event)],
            author=fact.author,
            event=type(fact.event).__name__,
            pos=fact.pos,
            time_ns=fact.time_ns,
            cause=names.keys[fact.cause] if fact.cause else "",
            moment=moments.get(names.keys[fact.correlation], (0, 0)),
            content=content,
        )
        if decision.kind is Kind.FILL:
            fee = {name: content.pop(name) for name in FEE_FIELDS}
            found[f"{key}/fee"] = replace(decision, key=f"{key}/fee", kind=Kind.FEE, content=fee)
        found[key] = decision
    return found


def changed(one: Decisions, other: Decisions) -> dict[str, Decision]:
    """Decisions that are not the same on both tapes, as ``other`` has them, else as ``one`` has them."""
    found = {}
    for key, decision in other.items():
        before = one.get(key)
        if before is None or before.content != decision.content:
            found[key] = decision
    for key, decision in one.items():
        if key not in other:
            found[key] = decision
    return found


def origins(found: Mapping[str, Decision], cores: Iterable[Core[Any]]) -> set[str]:
    """Which of the changed decisions follow from no other one.

    A decision follows if its cause is changed, or if its author had learnt of a changed fact of another type from an
    earlier outside fact. Two facts of one type are two instances of one reason: each fill that a tick makes dearer.
    """
    hears = {core.name: {event.__name__ for event in core.hears} for core in cores}
    first: dict[str, Moment] = {}
    for each in found.values():
        first[each.event] = min(first.get(each.event, each.moment), each.moment)
    return {
        key
        for key, each in found.items()
        if not _follows(each, found)
        and not any(
            moment < each.moment and event != each.event and event in hears.get(each.author, ())
            for event, moment in first.items()
        )
    }


def _follows(decision: Decision, found: Collection[str]) -> bool:
    """Whether its own cause, a fill's fee included, is among the changed; a fee also follows from its fill."""
    if decision.kind is Kind.FEE and decision.key.removesuffix("/fee") in found:
        return True
    return decision.cause in found or f"{decision.cause}/fee" in found
