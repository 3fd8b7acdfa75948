"""The risk service: one core, no adapters, no workers."""

from tapeline_common.wiring import Service
from tapeline_risk.core import CORE
from tapeline_risk.measures import MEASURES

SERVICE = Service(name="risk", cores=(CORE,), measures=MEASURES)
