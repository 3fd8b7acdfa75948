"""What an operator asks over ``control.<action>``, and the proof that it was the operator.

Halting needs no ceremony: any client that may publish ``control.halt`` can do it with ``{"reason": "..."}``. Loosening
(resume, enable_strategy, promote, rollback) needs an Ed25519 signature over the whole request and a sequence that was
never used, so that neither a forged nor a replayed message can loosen anything. This module builds, signs and checks
requests; the ledger's door records them.
"""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Any

import msgspec
import nkeys
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import VerifyKey

from tapeline_common.events import (
    Event,
    FlattenRequested,
    HaltRequested,
    PromotionRequested,
    ResumeRequested,
    RollbackRequested,
    StrategyDisableRequested,
    StrategyEnableRequested,
)
from tapeline_common.values import ControlRefusal, InstrumentId, ModelId, StrategyId
from tapeline_common.wire import encode

VALID_PAST_NS = 30_000_000_000
VALID_FUTURE_NS = 5_000_000_000
"""A signed request is good for 30 s, and may be at most 5 s ahead of our clock."""


class Action(StrEnum):
    HALT = "halt"
    FLATTEN = "flatten"
    DISABLE_STRATEGY = "disable_strategy"
    RESUME = "resume"
    ENABLE_STRATEGY = "enable_strategy"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


LOOSENING = frozenset({Action.RESUME, Action.ENABLE_STRATEGY, Action.PROMOTE, Action.ROLLBACK})


class ControlRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of a request, JSON. Which of ``strategy``, ``model`` and ``instrument`` is needed depends on the action."""

    reason: str = ""
    issuer: str = "operator"
    strategy: str = ""
    model: str = ""
    instrument: str = ""
    sequence: int = 0
    issued_ns: int = 0
    signature: str = ""


class ControlReply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a request.

    Attributes:
        position: where on the tape it took effect; 0 if it did not.
        acknowledged: services that have heard that position.
        waiting: services that had not when the reply was sent.
    """

    action: str
    position: int = 0
    acknowledged: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    refusal: ControlRefusal | None = None
    detail: str = ""


class Refused(msgspec.Struct, frozen=True):
    reason: ControlRefusal
    detail: str


def signed_bytes(action: Action, request: ControlRequest) -> bytes:
    """What the signature covers: the action and every other field, in a fixed order."""
    return encode(
        [
            action,
            request.issuer,
            request.reason,
            request.strategy,
            request.model,
            request.instrument,
            request.sequence,
            request.issued_ns,
        ]
    )


def sign(action: Action, request: ControlRequest, seed: str, *, now_ns: int) -> ControlRequest:
    """The request with its time, a sequence (the time, which only grows) and the operator's signature."""
    dated = msgspec.structs.replace(request, sequence=now_ns, issued_ns=now_ns, signature="")
    signature = nkeys.from_seed(seed.encode()).sign(signed_bytes(action, dated))
    return msgspec.structs.replace(dated, signature=base64.b64encode(signature).decode())


def judge(
    action: str, body: bytes, *, public_key: str, last_sequence: int, now_ns: int
) -> tuple[Action, ControlRequest] | Refused:
    """Check a request as it came off the bus.

    Args:
        public_key: the operator's ("U..."); only its holder can loosen.
        last_sequence: the highest sequence any recorded loosening request has used.
    """
    if action not in set(Action):
        return Refused(ControlRefusal.ACTION_UNKNOWN, f"{action!r} is none of {', '.join(Action)}")
    known = Action(action)
    try:
        request = msgspec.json.decode(body or b"{}", type=ControlRequest)
    except msgspec.MsgspecError as trouble:
        return Refused(ControlRefusal.MALFORMED, f"the body is not a control request: {trouble}")
    if known not in LOOSENING:
        return known, request
    if not request.signature:
        return Refused(ControlRefusal.SIGNATURE_MISSING, f"{action} loosens a limit and must be signed by the operator")
    if not _is_signed_by(public_key, known, request):
        return Refused(ControlRefusal.SIGNATURE_INVALID, "the signature does not fit the request and the operator key")
    if not now_ns - VALID_PAST_NS <= request.issued_ns <= now_ns + VALID_FUTURE_NS:
        return Refused(ControlRefusal.EXPIRED, "the request was issued too long ago or in the future; sign it anew")
    if request.sequence <= last_sequence:
        return Refused(ControlRefusal.SEQUENCE_USED, f"sequence {request.sequence} is not above {last_sequence}")
    return known, request


def _is_signed_by(public_key: str, action: Action, request: ControlRequest) -> bool:
    try:
        # An nkey is base32 of a prefix byte, the 32 bytes of the Ed25519 key and a checksum of two.
        raw = base64.b32decode(public_key + "=" * (-len(public_key) % 8))[1:33]
        VerifyKey(raw).verify(signed_bytes(action, request), base64.b64decode(request.signature, validate=True))
    except (BadSignatureError, CryptoError, ValueError):
        return False
    return True


def event_of(action: Action, request: ControlRequest) -> Event | Refused:
    """The fact that records an accepted request, or what it lacks."""
    reason, issuer = request.reason, request.issuer
    signed: dict[str, Any] = {
        "issuer": issuer,
        "reason": reason,
        "sequence": request.sequence,
        "signature": request.signature,
    }
    match action:
        case Action.HALT:
            return HaltRequested(issuer, reason)
        case Action.FLATTEN:
            return FlattenRequested(issuer, reason)
        case Action.RESUME:
            return ResumeRequested(**signed)
        case Action.DISABLE_STRATEGY | Action.ENABLE_STRATEGY:
            if not request.strategy:
                return Refused(ControlRefusal.MALFORMED, f'{action} needs {{"strategy": "<name>"}}')
            name = StrategyId(request.strategy)
            if action is Action.DISABLE_STRATEGY:
                return StrategyDisableRequested(name, issuer, reason)
            return StrategyEnableRequested(name, **signed)
        case Action.PROMOTE:
            if not request.model:
                return Refused(ControlRefusal.MALFORMED, 'promote needs {"model": "<sha256>"}')
            return PromotionRequested(ModelId(request.model), **signed)
        case Action.ROLLBACK:
            if not request.instrument:
                return Refused(ControlRefusal.MALFORMED, 'rollback needs {"instrument": "<token>"}')
            return RollbackRequested(InstrumentId(request.instrument), **signed)
