"""What the ledger service is made of: the books core, and a process of its own, because it is the sequencer."""

from __future__ import annotations

from typing import Any

from tapeline_common.wiring import Service
from tapeline_ledger.core import CORE
from tapeline_ledger.measures import MEASURES


async def run(process: Any) -> None:
    """The sequencer's process; its connections are only imported where it runs."""
    from tapeline_ledger.process import run as serve

    await serve(process)


SERVICE = Service(name="ledger", cores=(CORE,), process=run, measures=MEASURES)
