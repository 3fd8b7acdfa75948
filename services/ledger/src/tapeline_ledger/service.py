"""What the ledger service is made of. Besides its books core it is the sequencer: see ``server.serve``."""

from __future__ import annotations

from tapeline_common.wiring import Service
from tapeline_ledger.core import CORE

SERVICE = Service(name="ledger", cores=(CORE,))
