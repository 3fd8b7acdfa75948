"""The strategy service: one core, no adapters, no workers. What it runs may come from folders as well as packages."""

import tapeline_strategy.loading  # noqa: F401  (folders of strategies become known to the catalogue)
from tapeline_common.wiring import Service
from tapeline_strategy.core import CORE
from tapeline_strategy.measures import MEASURES

SERVICE = Service(name="strategy", cores=(CORE,), measures=MEASURES)
