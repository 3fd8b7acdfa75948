"""The levels at which panels colour: those at which the alerts of ``deploy/prometheus/rules`` fire.

Written down here because a rule is an expression and a panel needs a number; a test finds every number in its rule.
Amber belongs to alerts that open a ticket, red to alerts that page.
"""

from __future__ import annotations

from deploy.grafana.board import Level

LAG = Level("TapeLag", 5)
VERIFICATION = Level("VerificationStale", 86_400)
MIRROR = Level("MirrorBehind", 1_000)
TRANSACTION = Level("LongTransaction", 900)
FEED_STALE = Level("FeedStale", 1)
"""Of the silence that the rule allows; see ``silence``."""

UNKNOWN_AGE = Level("OrderUnknown", 30)
LOSS_NEAR = Level("DailyLossNear", 0.8)
LOSS_REACHED = Level("DailyLoss", 1)
DRAWDOWN = Level("DrawdownDeep", 0.2)
BOOKS = Level("BooksMismatch", 1)
DISK_FREE = Level("DiskNearlyFull", 0.15)
LOOP_LAG = Level("EventLoopLag", 1)
RATE_BUDGET = Level("RateBudget", 0.7)
DESCRIPTORS = Level("FileDescriptors", 0.8)
NOTIFICATIONS = Level("NotificationsBacklog", 300)
DESTINATIONS = Level("NoDestinations", 1)
WATCHDOG = Level("WatchdogNotArriving", 180)
DRIFT = Level("ModelDrift", 1)
MODEL_AGE = Level("ModelStale", 30 * 86_400)
REFUSALS = Level("RefusalRatio", 0.5)


def silence(chosen: str = "") -> str:
    """How long a feed has been silent, as a fraction of what the alert FeedStale allows: by instrument.

    Bars without a fixed length are never due; they are allowed an hour.
    """
    stale = f"max by (instrument) (tapeline_feed_stale_seconds{chosen})"
    due = f"max by (instrument) (tapeline_feed_expected_interval_seconds{chosen})"
    return f"{stale} / ({due} + clamp_max(clamp_min({due} / 2, 30), 600)) or {stale} / 3600 unless {due}"
