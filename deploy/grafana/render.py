"""Boards as Grafana's JSON, through the types of its foundation SDK. What is said here is said once for all boards.

Layout: the panels of a section stand from left to right and wrap at the width of the grid, so none can overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count

from deploy.grafana.board import COLUMNS, Board, Panel, Section, Variable
from deploy.grafana.looks import fields_of, look_of
from deploy.grafana.sources import POSTGRES, PROMETHEUS, PrometheusAnnotation, sql_source, targets_of
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as grafana
from grafana_foundation_sdk.models.dashboard import DashboardDashboardTemplating, DashboardDashboardTime

TAG = "tapeline"

RUNBOOKS = "docs/runbooks"
"""Where the variable ``runbooks`` points until somebody sets it: the folder in the repository."""

OF_INTERVALS: dict[str, None] = {"auto": None, "auto_min": None, "auto_count": None}
"""What the SDK would write for every variable, though only those of the kind "interval" have it."""

TITLE_ROWS = 1
"""Height of a section's title in the grid."""


def text_of(board: Board) -> str:
    """The dashboard's file: stable order, a newline at the end."""
    made = dashboard_of(board)
    return json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def dashboard_of(board: Board) -> grafana.Dashboard:
    return grafana.Dashboard(
        uid=board.uid,
        title=f"Tapeline: {board.title}",
        description=board.asks,
        tags=[TAG],
        timezone="utc",
        editable=True,
        graph_tooltip=grafana.DashboardCursorSync.CROSSHAIR,
        time=DashboardDashboardTime(f"now-{board.hours}h", "now"),
        refresh=board.refresh,
        panels=list(_placed(board)),
        templating=DashboardDashboardTemplating(list(_variables(board))),
        annotations=grafana.AnnotationContainer(list(ANNOTATIONS) if not board.tape else []),
        links=[_all_boards()],
    )


# ---- layout ----------------------------------------------------------------------------------------------------------


def _placed(board: Board) -> Iterator[grafana.Panel | grafana.RowPanel]:
    numbers = count(1)
    top = 0
    for section in board.sections:
        yield _title(section, next(numbers), top)
        top += TITLE_ROWS
        for panel, place in places(section.panels, top):
            yield _panel(board, panel, next(numbers), place)
            top = max(top, place.y + place.h)


def places(panels: Iterable[Panel], top: int) -> Iterator[tuple[Panel, grafana.GridPos]]:
    """Where each panel of a section stands; a line is as high as its highest panel."""
    left = line_height = 0
    for panel in panels:
        if left + panel.width > COLUMNS:
            top, left, line_height = top + line_height, 0, 0
        yield panel, grafana.GridPos(h=panel.height, w=panel.width, x=left, y=top)
        left += panel.width
        line_height = max(line_height, panel.height)


def _title(section: Section, number: int, top: int) -> grafana.RowPanel:
    place = grafana.GridPos(h=TITLE_ROWS, w=COLUMNS, x=0, y=top)
    return grafana.RowPanel(collapsed=False, title=section.title, grid_pos=place, id_val=number, panels=[])


# ---- panels ----------------------------------------------------------------------------------------------------------


def _panel(board: Board, panel: Panel, number: int, place: grafana.GridPos) -> grafana.Panel:
    look = look_of(panel)
    targets = targets_of(panel, board.tape)
    return grafana.Panel(
        id_val=number,
        type_val=look.plugin,
        title=panel.title,
        description=description_of(panel),
        grid_pos=place,
        datasource=targets[0].datasource if targets else None,
        targets=list(targets),
        options=look.options,
        field_config=fields_of(panel, look),
        transformations=look.transformations,
        links=[_runbook(alert) for alert in panel.alerts],
        repeat=panel.repeat or None,
        repeat_direction="h" if panel.repeat else None,
        max_per_row=3 if panel.repeat else None,
    )


def description_of(panel: Panel) -> str:
    """What it shows, and what to do about it."""
    act = f"What to do: {panel.act}" if panel.act else ""
    return "\n\n".join(part for part in (panel.asks, panel.text, act) if part)


def _runbook(alert: str) -> grafana.DashboardLink:
    return _link(f"Runbook: {alert}", url=f"${{runbooks}}/{alert}.md")


def _link(title: str, *, url: str) -> grafana.DashboardLink:
    return grafana.DashboardLink(
        title=title, type_val=grafana.DashboardLinkType.LINK, url=url, target_blank=True, icon="external link"
    )


# ---- around the panels -----------------------------------------------------------------------------------------------


def _all_boards() -> grafana.DashboardLink:
    return grafana.DashboardLink(
        title="Tapeline",
        type_val=grafana.DashboardLinkType.DASHBOARDS,
        tags=[TAG],
        keep_time=True,
        include_vars=True,
        icon="external link",
    )


def _variables(board: Board) -> Iterator[grafana.VariableModel]:
    if board.tape:
        yield grafana.VariableModel(
            type_val=grafana.VariableType.DATASOURCE,
            name=board.tape,
            label="Database",
            query=sql_source().type_val or "",
            current=grafana.VariableOption(text="Postgres", value=POSTGRES),
            **OF_INTERVALS,
        )
    for variable in board.variables:
        yield _choice(variable)
    yield grafana.VariableModel(
        type_val=grafana.VariableType.TEXTBOX,
        name="runbooks",
        label="Runbooks at",
        description="Address of the folder docs/runbooks, to which the panels link.",
        query=RUNBOOKS,
        current=grafana.VariableOption(text=RUNBOOKS, value=RUNBOOKS),
        **OF_INTERVALS,
    )


def _choice(variable: Variable) -> grafana.VariableModel:
    """Several values can be chosen; all of them are at first."""
    return grafana.VariableModel(
        type_val=grafana.VariableType.QUERY,
        name=variable.name,
        label=variable.label,
        datasource=PROMETHEUS,
        query={"qryType": 1, "query": variable.query, "refId": variable.name},
        refresh=grafana.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=grafana.VariableSort.ALPHABETICAL_ASC,
        multi=True,
        include_all=True,
        all_value=".*",
        current=grafana.VariableOption(text=["All"], value=["$__all"]),
        **OF_INTERVALS,
    )


ANNOTATIONS = (
    PrometheusAnnotation(
        "Not trading",
        'max by (state) (tapeline_trading_state{state!="RUNNING"}) == 1',
        title="{{state}}",
        colour="orange",
    ),
    PrometheusAnnotation(
        "Promotions",
        "max by (instrument) (changes(tapeline_model_promoted_time_seconds[1m])) > 0",
        title="model of {{instrument}} promoted or rolled back",
        colour="purple",
    ),
    PrometheusAnnotation(
        "Restarts",
        "max by (service) (changes(process_start_time_seconds{job='tapeline'}[1m])) > 0",
        title="{{service}} restarted",
        colour="yellow",
    ),
    PrometheusAnnotation(
        "Deployments",
        "count by (code_version) (tapeline_build_info) unless count by (code_version) (tapeline_build_info offset 1m)",
        title="code {{code_version}}",
        colour="blue",
    ),
)
"""Marked on every board. Each looks at one minute, which is how far apart Grafana asks for annotations."""
