"""The regime service: the filter core and its trainer."""

from tapeline_common.wiring import Service
from tapeline_regime.core import CORE
from tapeline_regime.measures import MEASURES
from tapeline_regime.trainer import WORKER

SERVICE = Service("regime", cores=(CORE,), workers=(WORKER,), measures=MEASURES)
