"""The topology read off the tables: who hears what, who says what, and the graph between them.

Nothing here is configured; ARCHITECTURE.md holds this output and a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeline_common.events import AUTHOR_OF, SAYS
from tapeline_common.wiring import Service

OUTSIDE = {
    "operator": "the operator's requests and the configuration, recorded by the ledger",
    "marketdata": "feeds",
    "trainer": "the regime service's worker",
    "laboratory": "runs of a study, on a tape file of their own",
}
"""Authors no core speaks for: their facts come from outside."""

OFF_THE_BUS = {"laboratory": "none"}
"""Authors that no service records for."""


def tables(services: Mapping[str, Service]) -> dict[str, Any]:
    """For each author: its service, what its core hears (others' facts first) and what it says; for programs."""
    described: dict[str, Any] = {}
    for author, says in SAYS.items():
        service = next((service for service in services.values() if author in service.authors), None)
        core = next((core for core in service.cores if core.name == author), None) if service else None
        hears = [event for event in core.hears if AUTHOR_OF[event] != author] if core else []
        described[author] = {
            "service": service.name if service else OFF_THE_BUS.get(author, "ledger"),
            "hears": [event.__name__ for event in hears],
            "confirms": [event.__name__ for event in core.confirms] if core else [],
            "says": [event.__name__ for event in says],
        }
    return described


def markdown(services: Mapping[str, Service]) -> str:
    """The hears/says table."""
    lines = ["| author | service | hears | says |", "|---|---|---|---|"]
    for author, row in tables(services).items():
        hears = ", ".join(row["hears"]) or OUTSIDE.get(author, "-")
        if row["confirms"]:
            hears += f" (asked again at its own {', '.join(row['confirms'])})"
        lines.append(f"| {author} | {row['service']} | {hears} | {', '.join(row['says'])} |")
    return "\n".join(lines)


def mermaid(services: Mapping[str, Service]) -> str:
    """The graph of authors: an arrow carries the facts that the one says and the other hears."""
    described = tables(services)
    lines = ["flowchart LR"]
    for speaker, row in described.items():
        for hearer, other in described.items():
            carried = [event for event in row["says"] if event in other["hears"]]
            if carried and speaker != hearer:
                lines.append(f"  {speaker} -- {', '.join(carried)} --> {hearer}")
    return "\n".join(lines)
