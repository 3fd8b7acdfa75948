"""The execution service as data: the simulated venue and the execution core, one process. Starts nothing."""

from __future__ import annotations

from tapeline_common.wiring import Service
from tapeline_execution import core, venue
from tapeline_execution.measures import MEASURES

SERVICE = Service("execution", cores=(venue.CORE, core.CORE), measures=MEASURES)
