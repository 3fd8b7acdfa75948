"""The risk service: one core, no adapters, no workers."""

from tapeline_common.wiring import Service
from tapeline_risk.core import CORE

SERVICE = Service(name="risk", cores=(CORE,))
