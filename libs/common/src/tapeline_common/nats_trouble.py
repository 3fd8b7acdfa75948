"""What kind of trouble on the bus an error is: the few kinds that somebody would act on differently.

Both of our NATS clients report what they meet; the words are the server's. Nothing is done about it here.
"""

from __future__ import annotations

from enum import StrEnum

from tapeline_common.nats_client import Away, Closed, TooMuchWaits


class NatsTrouble(StrEnum):
    """``PERMISSION_VIOLATION`` and ``AUTHENTICATION``: a wrong configuration, or a break-in. ``SLOW_CONSUMER``:
    messages were dropped. ``CONNECTION``: the server is away."""

    PERMISSION_VIOLATION = "permission_violation"
    AUTHENTICATION = "authentication"
    SLOW_CONSUMER = "slow_consumer"
    CONNECTION = "connection"
    OTHER = "other"


_WORDS = {
    "permissions violation": NatsTrouble.PERMISSION_VIOLATION,
    "authorization violation": NatsTrouble.AUTHENTICATION,
    "authentication": NatsTrouble.AUTHENTICATION,
    "slow consumer": NatsTrouble.SLOW_CONSUMER,
    "stale connection": NatsTrouble.CONNECTION,
}

_CLASSES = {
    "SlowConsumerError": NatsTrouble.SLOW_CONSUMER,
    "AuthorizationError": NatsTrouble.AUTHENTICATION,
    "NoServersError": NatsTrouble.CONNECTION,
    "StaleConnectionError": NatsTrouble.CONNECTION,
    "UnexpectedEOF": NatsTrouble.CONNECTION,
    "ConnectionClosedError": NatsTrouble.CONNECTION,
}
"""nats-py's errors by name; some of them say nothing."""


def kind_of(trouble: Exception) -> NatsTrouble:
    """The kind of an error that a NATS client reported."""
    said = str(trouble).lower()
    for words, kind in _WORDS.items():
        if words in said:
            return kind
    if type(trouble).__name__ in _CLASSES:
        return _CLASSES[type(trouble).__name__]
    if isinstance(trouble, Away | Closed | TooMuchWaits | OSError | TimeoutError):
        return NatsTrouble.CONNECTION
    return NatsTrouble.OTHER
