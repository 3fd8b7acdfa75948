"""The notifier service: no core, no author. It listens, and has a process of its own for what lies outside."""

from __future__ import annotations

from typing import Any

from tapeline_common.wiring import Service
from tapeline_notifier.measures import MEASURES


async def run(process: Any) -> None:
    """The process; what it needs is only imported where it runs."""
    from tapeline_notifier.process import run as tell

    await tell(process)


SERVICE = Service(name="notifier", cores=(), process=run, measures=MEASURES)
"""See README.md of this service."""
