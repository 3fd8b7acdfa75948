"""The strategy service: one core, no adapters, no workers."""

from tapeline_common.wiring import Service
from tapeline_strategy.core import CORE
from tapeline_strategy.measures import MEASURES

SERVICE = Service(name="strategy", cores=(CORE,), measures=MEASURES)
