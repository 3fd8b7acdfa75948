"""How an exchange takes our requests, in numbers: kept by the feed that makes them, told when somebody looks.

Counts what it is told. It makes no request and knows no library.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum

from tapeline_common.measures import WAITS, Distribution

BUDGET_WINDOW_S = 60.0
"""Over which time the use of the rate limit is told."""


class RequestOutcome(StrEnum):
    """What came of a request. ``REFUSED``: the exchange says that it is wrong. ``ERROR``: no answer of use."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    ERROR = "error"


class ExchangeFigures:
    """Requests to one exchange.

    Attributes:
        requests, seconds: how many ended how, and how long they took.
    """

    def __init__(self) -> None:
        self.requests: Counter[RequestOutcome] = Counter()
        self.seconds = Distribution(WAITS)
        self._costs: deque[tuple[float, float]] = deque()
        self._unit_s = 0.0

    def count(self, outcome: RequestOutcome, took_s: float) -> None:
        self.requests[outcome] += 1
        self.seconds.observe(took_s)

    def spend(self, cost: float, unit_s: float, now_s: float) -> None:
        """A request of this weight is about to be made; the exchange allows one unit of weight every ``unit_s``."""
        self._costs.append((now_s, cost))
        self._unit_s = unit_s
        self._forget(now_s)

    def budget_used(self, now_s: float) -> float:
        """Share of the rate limit that was used in ``BUDGET_WINDOW_S``; 0 where none is kept to."""
        self._forget(now_s)
        return sum(cost for _, cost in self._costs) * self._unit_s / BUDGET_WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._costs and now_s - self._costs[0][0] > BUDGET_WINDOW_S:
            self._costs.popleft()
