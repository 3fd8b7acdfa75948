"""The page of the documentation that lists every dashboard, its panels and the question each of them answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deploy.grafana.board import Board, Panel, Show

HEAD = """\
# Dashboards

Written by `make dashboards` from `deploy/grafana`; do not edit. What was checked about them, and what was not:
[operating](operating.md#dashboards).

Amber means that an alert opens a ticket from here on, red that an alert pages somebody: act now. The link in a panel's
corner leads to the alert's runbook. Times are UTC. Orange stripes mark when trading was halted or flattening; purple
lines promotions, yellow ones restarts, blue ones new code.
"""


def page_of(boards: Iterable[Board]) -> str:
    return HEAD + "".join(line + "\n" for board in boards for line in _board(board))


def _board(board: Board) -> Iterator[str]:
    yield f"\n## {board.title}\n"
    yield f"{board.asks} (`{board.uid}`)"
    for section in board.sections:
        panels = [panel for panel in section.panels if panel.show is not Show.WORDS]
        if panels:
            yield f"\n### {section.title}\n"
            yield "| panel | question | how | alerts |\n|---|---|---|---|"
            yield from map(_panel, panels)


def _panel(panel: Panel) -> str:
    return f"| {panel.title} | {panel.asks} | {panel.show} | {', '.join(panel.alerts) or '-'} |"
