"""The marketdata service: watermarks on the tape, and the feed that the settings ask for."""

from tapeline_common.wiring import Service
from tapeline_marketdata.adapters import make_adapters
from tapeline_marketdata.core import CORE
from tapeline_marketdata.measures import MEASURES

SERVICE = Service("marketdata", cores=(CORE,), adapters=make_adapters, measures=MEASURES)
