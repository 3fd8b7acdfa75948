"""The two data sources, as provisioned, and the queries to them."""

from __future__ import annotations

from string import ascii_uppercase

from deploy.grafana.board import Panel, Prom, Show, Sql
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as grafana
from grafana_foundation_sdk.models import prometheus

POSTGRES = "postgres"
"""Uid of the data source that is the live tape's database."""

PROMETHEUS = grafana.DataSourceRef(type_val="prometheus", uid="prometheus")


def sql_source(uid: str = POSTGRES) -> grafana.DataSourceRef:
    return grafana.DataSourceRef(type_val="grafana-postgresql-datasource", uid=uid)


class SqlQuery(Dataquery):
    """A query in Postgres' language; the SDK has no type for it."""

    def __init__(self, text: str, *, series: bool, name: str, source: grafana.DataSourceRef) -> None:
        self.text, self.series, self.name, self.datasource = text, series, name, source

    def to_json(self) -> dict[str, object]:
        """What the encoder writes."""
        return {
            "refId": self.name,
            "datasource": self.datasource,
            "editorMode": "code",
            "format": "time_series" if self.series else "table",
            "rawQuery": True,
            "rawSql": self.text,
        }


class PrometheusAnnotation(grafana.AnnotationQuery):
    """Marks the times at which a query returns something; the SDK's type lacks what Prometheus adds."""

    def __init__(self, name: str, expr: str, *, title: str, colour: str) -> None:
        super().__init__(name=name, datasource=PROMETHEUS, icon_color=colour, expr=expr)
        self.title = title

    def to_json(self) -> dict[str, object]:
        """What the encoder writes."""
        return {**super().to_json(), "titleFormat": self.title, "step": "60s"}


def targets_of(panel: Panel, tape: str) -> tuple[prometheus.Dataquery | SqlQuery, ...]:
    """The panel's queries, named A, B, C...; ``tape`` is the variable that names the Postgres to ask, if any."""
    source = sql_source(f"${{{tape}}}" if tape else POSTGRES)
    return tuple(
        SqlQuery(query.text, series=query.series, name=name, source=source)
        if isinstance(query, Sql)
        else _prometheus(panel, query, name)
        for name, query in zip(ascii_uppercase, panel.queries, strict=False)
    )


def _prometheus(panel: Panel, query: Prom, name: str) -> prometheus.Dataquery:
    form = prometheus.PromQueryFormat.TIME_SERIES
    if panel.show is Show.HEAT:
        form = prometheus.PromQueryFormat.HEATMAP
    elif query.table:
        form = prometheus.PromQueryFormat.TABLE
    return prometheus.Dataquery(
        expr=query.expr,
        legend_format=query.legend or None,
        instant=query.table or panel.shows_present,
        range_val=not (query.table or panel.shows_present),
        format_val=form,
        editor_mode=prometheus.QueryEditorMode.CODE,
        ref_id=name,
        datasource=PROMETHEUS,
    )
