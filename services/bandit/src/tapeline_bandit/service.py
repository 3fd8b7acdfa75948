"""The bandit service: one core, nothing of the outside world."""

from tapeline_bandit.core import CORE
from tapeline_bandit.measures import MEASURES
from tapeline_common.wiring import Service

SERVICE = Service("bandit", cores=(CORE,), measures=MEASURES)
