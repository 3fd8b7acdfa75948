"""How each kind of panel looks: Grafana's plugin, its options, and the fields' units, colours and words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from deploy.grafana.board import Colour, Panel, Prom, Show, Unit
from grafana_foundation_sdk.models import bargauge, common, heatmap, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.models import dashboard as grafana

LAST = "lastNotNull"
"""Grafana's name of the last number of a course."""

SERIES_IN_A_TABLE = 2
"""Panels with more queries, or series by label, name them in a table with their last and largest value."""


@dataclass(frozen=True, slots=True)
class Look:
    """Grafana's words for a kind of panel."""

    plugin: str
    options: object
    custom: object | None = None
    transformations: list[grafana.DataTransformerConfig] = field(default_factory=list)
    by_level: bool = False
    """Values are coloured by the levels, rather than series by their names."""


def look_of(panel: Panel) -> Look:
    return _LOOKS[panel.show](panel)


def _number(panel: Panel) -> Look:
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.BACKGROUND if _has_levels(panel) else common.BigValueColorMode.NONE,
        justify_mode=common.BigValueJustifyMode.CENTER,
        text_mode=common.BigValueTextMode.VALUE,
        reduce_options=common.ReduceDataOptions(values=False, calcs=[panel.calc or LAST], fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    return Look("stat", options, by_level=True)


def _gauges(panel: Panel) -> Look:
    options = bargauge.Options(
        display_mode=common.BarGaugeDisplayMode.BASIC,
        value_mode=common.BarGaugeValueMode.COLOR,
        reduce_options=common.ReduceDataOptions(values=False, calcs=[panel.calc or LAST], fields=""),
        orientation=common.VizOrientation.HORIZONTAL,
    )
    return Look("bargauge", options, by_level=True)


def _lines(panel: Panel) -> Look:
    return Look("timeseries", _time_options(panel), _time_style(panel))


def _stack(panel: Panel) -> Look:
    return Look("timeseries", _time_options(panel), _time_style(panel, stacked=True, fill=50))


def _bars(panel: Panel) -> Look:
    return Look("timeseries", _time_options(panel), _time_style(panel, stacked=True, fill=80, bars=True))


def _time_style(panel: Panel, *, stacked: bool = False, fill: int = 0, bars: bool = False) -> common.GraphFieldConfig:
    has_level = panel.amber is not None or panel.red is not None
    return common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.BARS if bars else common.GraphDrawStyle.LINE,
        line_width=1,
        fill_opacity=fill,
        show_points=common.VisibilityMode.NEVER,
        span_nulls=False,
        stacking=common.StackingConfig(
            mode=common.StackingMode.NORMAL if stacked else common.StackingMode.NONE, group="A"
        ),
        thresholds_style=common.GraphThresholdsStyleConfig(
            mode=common.GraphThresholdsStyleMode.DASHED if has_level else common.GraphThresholdsStyleMode.OFF
        ),
    )


def _time_options(panel: Panel) -> timeseries.Options:
    many = any("{{" in query.legend for query in panel.queries if isinstance(query, Prom))
    as_table = many or len(panel.queries) > SERIES_IN_A_TABLE
    legend = common.VizLegendOptions(
        show_legend=True,
        display_mode=common.LegendDisplayMode.TABLE if as_table else common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement.BOTTOM,
        calcs=["lastNotNull", "max"] if as_table else [],
    )
    tooltip = common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING)
    return timeseries.Options(legend=legend, tooltip=tooltip)


def _band(_panel: Panel) -> Look:
    options = statetimeline.Options(
        show_value=common.VisibilityMode.AUTO,
        merge_values=True,
        legend=common.VizLegendOptions(
            show_legend=True, display_mode=common.LegendDisplayMode.LIST, placement=common.LegendPlacement.BOTTOM
        ),
        tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.SINGLE),
    )
    return Look("state-timeline", options, statetimeline.FieldConfig(line_width=0, fill_opacity=80), by_level=True)


def _heat(panel: Panel) -> Look:
    options = heatmap.Options(
        calculate=False,
        color=heatmap.HeatmapColorOptions(
            mode=heatmap.HeatmapColorMode.SCHEME,
            scheme="Oranges",
            fill="dark-orange",
            scale=heatmap.HeatmapColorScale.EXPONENTIAL,
            exponent=0.5,
            steps=64,
        ),
        filter_values=heatmap.FilterValueRange(le=1e-9),
        cell_gap=1,
        cell_values=heatmap.CellValues(unit=Unit.COUNT),
        y_axis=heatmap.YAxisConfig(unit=panel.unit, axis_placement=common.AxisPlacement.LEFT),
        legend=heatmap.HeatmapLegend(show=True),
        tooltip=heatmap.HeatmapTooltip(mode=common.TooltipDisplayMode.SINGLE, y_histogram=False),
        exemplars=heatmap.ExemplarConfig(color="rgba(255,0,255,0.7)"),
    )
    return Look("heatmap", options)


def _table(panel: Panel) -> Look:
    options = table.Options(show_header=True, cell_height=common.TableCellHeight.SM)
    options.footer = None  # written unasked; newer versions of Grafana have no such option
    return Look("table", options, {"filterable": True}, _merged(panel), by_level=True)


def _merged(panel: Panel) -> list[grafana.DataTransformerConfig]:
    """Prometheus answers with a table for each query: one row for each set of labels, the columns that are wanted."""
    if not any(isinstance(query, Prom) for query in panel.queries):
        return []
    names = [column.name for column in panel.columns]
    return [
        grafana.DataTransformerConfig(id_val="merge", options={}),
        grafana.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": names}}),
        grafana.DataTransformerConfig(
            id_val="organize",
            options={
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": {column.name: column.title for column in panel.columns if column.title},
            },
        ),
    ]


def _words(panel: Panel) -> Look:
    return Look("text", text.Options(mode=text.TextMode.MARKDOWN, content=panel.text))


_LOOKS: dict[Show, Callable[[Panel], Look]] = {
    Show.NUMBER: _number,
    Show.GAUGES: _gauges,
    Show.LINES: _lines,
    Show.STACK: _stack,
    Show.BARS: _bars,
    Show.BAND: _band,
    Show.HEAT: _heat,
    Show.TABLE: _table,
    Show.WORDS: _words,
}


# ---- fields ----------------------------------------------------------------------------------------------------------


def fields_of(panel: Panel, look: Look) -> grafana.FieldConfigSource:
    mode = grafana.FieldColorModeId.THRESHOLDS if look.by_level else grafana.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
    defaults = grafana.FieldConfig(
        unit=panel.unit,
        decimals=panel.decimals,
        min_val=panel.minimum,
        max_val=panel.maximum,
        mappings=list(_mappings(panel)),
        thresholds=grafana.ThresholdsConfig(mode=grafana.ThresholdsMode.ABSOLUTE, steps=steps_of(panel)),
        color=grafana.FieldColor(mode=mode),
        custom=look.custom,
    )
    return grafana.FieldConfigSource(defaults=defaults, overrides=_overrides(panel))


def steps_of(panel: Panel) -> list[grafana.Threshold]:
    """Colours from which value on. Grafana takes the first one for everything below the second."""
    if panel.falling:
        return _falling_steps(panel)
    base = Colour.GREEN if _has_levels(panel) else Colour.BLUE
    steps = [grafana.Threshold(color=base)]
    for level, colour in ((panel.amber, Colour.AMBER), (panel.red, Colour.RED)):
        if level is not None:
            steps.append(grafana.Threshold(color=colour, value=level.at))
    return steps


def _falling_steps(panel: Panel) -> list[grafana.Threshold]:
    colours = [
        (level.at, colour)
        for level, colour in ((panel.red, Colour.RED), (panel.amber, Colour.AMBER))
        if level is not None
    ]
    ends = [at for at, _ in colours]
    above = [colour for _, colour in colours[1:]] + [Colour.GREEN]
    return [
        grafana.Threshold(color=colours[0][1]),
        *(grafana.Threshold(color=colour, value=at) for at, colour in zip(ends, above, strict=True)),
    ]


def _has_levels(panel: Panel) -> bool:
    return panel.amber is not None or panel.red is not None or bool(panel.words)


def _mappings(panel: Panel) -> Iterator[grafana.ValueMap | grafana.SpecialValueMap]:
    if panel.words:
        options = {
            str(word.number): grafana.ValueMappingResult(text=word.text, color=word.colour, index=index)
            for index, word in enumerate(panel.words)
        }
        yield grafana.ValueMap(options=options)
    if panel.show in (Show.NUMBER, Show.GAUGES):
        # Without this, what is not known has the colour of the lowest level: it would look well.
        result = grafana.ValueMappingResult(text=panel.nothing, color=Colour.GREY, index=len(panel.words))
        yield grafana.SpecialValueMap(
            options=grafana.DashboardSpecialValueMapOptions(match=grafana.SpecialValueMatch.NULL_AND_NAN, result=result)
        )


def _overrides(panel: Panel) -> list[grafana.DashboardFieldConfigSourceOverrides]:
    overrides = [
        _override(name, [_value("color", {"mode": "fixed", "fixedColor": colour})])
        for name, colour in panel.colours.items()
    ]
    for column in panel.columns:
        properties = [_value("unit", column.unit)]
        if column.decimals is not None:
            properties.append(_value("decimals", column.decimals))
        overrides.append(_override(column.title or column.name, properties))
    if panel.link is not None:
        title, url = panel.link
        overrides.append(_override(panel.columns[0].title, [_value("links", [{"title": title, "url": url}])]))
    return overrides


def _override(name: str, properties: list[grafana.DynamicConfigValue]) -> grafana.DashboardFieldConfigSourceOverrides:
    return grafana.DashboardFieldConfigSourceOverrides(
        matcher=grafana.MatcherConfig(id_val="byName", options=name), properties=properties
    )


def _value(name: str, value: object) -> grafana.DynamicConfigValue:
    return grafana.DynamicConfigValue(id_val=name, value=value)
