"""The regime service: the filter core and its trainer."""

from tapeline_common.measures import Measures
from tapeline_common.wiring import Service
from tapeline_regime.core import CORE
from tapeline_regime.drift_watch import WATCHED
from tapeline_regime.trainer import WORKER

SERVICE = Service("regime", cores=(CORE,), workers=(WORKER,), measures=Measures(watches=(WATCHED,)))
