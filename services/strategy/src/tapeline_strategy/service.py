"""The strategy service: one core, no adapters, no workers."""

from tapeline_common.wiring import Service
from tapeline_strategy.core import CORE

SERVICE = Service(name="strategy", cores=(CORE,))
