"""The charts of a page and of notebooks, as plotly figures. Colours that mean something stay the same throughout.

Long curves are thinned to what a screen shows, keeping each stretch's extremes; figures are computed from all of them.
plotly is imported when the first chart is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.session import Session, Trade
from tapeline_common.values import InstrumentId, PositionSide, Regime
from tapeline_lab.reports import series
from tapeline_lab.reports.breakdown import Period, compounded
from tapeline_lab.reports.crises import Crisis
from tapeline_lab.reports.extras import Fan, Folds, Surface
from tapeline_lab.reports.view import View

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OURS, MARKET, LOSS, GAIN = "#2f74d0", "#98979c", "#d4483b", "#2f74d0"
ENTRY = "#8a5cc2"
"""Of entries: neither a gain nor a loss yet, and none of the regimes' colours."""

REGIMES = {Regime.BULL: "#3d9970", Regime.BEAR: "#d4483b", Regime.CHOP: "#e0a526"}
DIVERGING = [[0.0, "#dd7468"], [0.25, "#ecb5ae"], [0.5, "#efeeea"], [0.75, "#b0cbee"], [1.0, "#6a9fe0"]]
THEMED_CELLS, THEMED_INK = "cells", "ink"
"""Marks (`meta`) of traces whose colours the page changes with its theme."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

MOST_POINTS = 1_500
"""Points of a curve on a page: more than a screen is wide."""

MOST_TRADES = 1_500
"""Trades drawn on a price; of more, the latest."""

MOST_BANDS = 300
"""Stretches of a regime drawn; of more, the longest."""

LOG_FROM = 5.0
"""How many times its lowest a price may reach before half of it is squeezed into a corner of a linear axis."""

MOST_TICKS, MOST_DIGITS = 10, 4
"""An axis has up to ten ticks; finer than a millionth nobody reads."""

HEIGHT = 320

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def equity_chart(view: View) -> Figure:
    """Equity beside the market at no more than its risk, and below it how far equity is under its high."""
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    curve, by_day = view.session.curve, view.by_day
    kept = thinned(curve.equity)
    falls = -series.drawdowns(curve.equity)
    deepest = thinned(falls)
    scale = view.document.metrics.market_scale
    held = float(curve.equity[0]) * series.wealth(scale * by_day.market)[1:]
    name = "buy and hold" if scale == 1.0 else f"{scale:.0%} of the money kept in the market (same volatility)"
    lines = (
        (days(by_day.day + 1), held, name, {"color": MARKET, "width": 1.2}),
        (times(curve.time_ns[kept]), curve.equity[kept], "equity", {"color": OURS, "width": 2}),
    )
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.05)
    for x, y, label, line in lines:
        figure.add_trace(go.Scatter(x=x, y=y, name=label, line=line))
    below = {"line": {"color": LOSS, "width": 1}, "fill": "tozeroy", "fillcolor": "rgba(212,72,59,0.25)"}
    x, y = times(curve.time_ns[deepest]), falls[deepest]
    figure.add_trace(go.Scatter(x=x, y=y, name="below high", showlegend=False, **below), row=2, col=1)
    figure.update_yaxes(title_text=view.session.started.currency, row=1, col=1)
    figure.update_yaxes(title_text="below high", tickformat=percent(falls), row=2, col=1)
    return _laid_out(figure, height=460)


def overview(session: Session) -> Figure:
    """The equity chart of a session, for notebooks."""
    from tapeline_lab.reports.view import view

    figure = equity_chart(view(session, ()))
    figure.update_layout(template="plotly_white", paper_bgcolor="white", plot_bgcolor="white")
    return figure


def monthly_chart(view: View) -> Figure:
    """Return of each month, years downwards."""
    from plotly import graph_objects as go

    rows = compounded(view.by_day.day, view.by_day.returns, Period.MONTH)
    years = dict(compounded(view.by_day.day, view.by_day.returns, Period.YEAR))
    names = sorted(years)
    table = np.full((len(names), 13), np.nan)
    for name, change in rows:
        table[names.index(name[:4]), int(name[5:]) - 1] = change
    table[:, 12] = [years[name] for name in names]
    bound = float(np.nanmax(np.abs(table[:, :12])))
    shades = table.copy()
    shades[:, 12] = 0.0  # a year's shade would say more than a month's
    text = [[f"{value:+.1%}" if np.isfinite(value) else "" for value in line] for line in table]
    figure = go.Figure(
        go.Heatmap(
            x=[*MONTHS, "year"],
            y=names,
            z=shades,
            text=text,
            texttemplate="%{text}",
            colorscale=DIVERGING,
            zmin=-bound or -0.01,
            zmax=bound or 0.01,
            xgap=2,
            ygap=2,
            showscale=False,
            meta=THEMED_CELLS,
            textfont={"color": "#222", "size": 11},
            hovertemplate="%{y} %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(type="category", autorange="reversed")
    return _laid_out(figure, height=90 + 34 * len(names))


def rolling_chart(view: View) -> Figure | None:
    """Sharpe ratio and volatility over a window that moves; None of runs that are too short for one."""
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    returns, year = view.by_day.returns, view.document.metrics.periods_per_year
    window = rolling_window(len(returns))
    if not window:
        return None
    moments = days(view.by_day.day)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    lines = (
        (series.rolling_sharpe(returns, window, year), f"Sharpe, {window} days", OURS),
        (series.rolling_volatility(returns, window, year), f"volatility, {window} days", MARKET),
    )
    for row, (values, name, colour) in enumerate(lines, 1):
        line = {"color": colour, "width": 1.6}
        figure.add_trace(go.Scatter(x=moments, y=values, name=name, line=line), row=row, col=1)
    figure.add_hline(y=0, line_width=1, line_color=MARKET, row=1, col=1)
    figure.update_yaxes(title_text="Sharpe", row=1, col=1)
    spread = lines[1][0]
    figure.update_yaxes(title_text="volatility", tickformat=percent(spread[np.isfinite(spread)]), row=2, col=1)
    return _laid_out(figure, height=360)


def rolling_window(count: int) -> int:
    """A quarter of a year where the run is long enough, a quarter of the run where not; 0 below three weeks."""
    return min(90, count // 4) if count >= 21 else 0


def distribution_chart(view: View) -> Figure:
    """Daily returns: losses, gains and days without a change apart, with the day's value at risk."""
    from plotly import graph_objects as go

    returns = view.by_day.returns
    low, high = float(returns.min()), float(returns.max())
    width = (high - low) / max(min(60, int(2 * len(returns) ** 0.5)), 1) or 1e-4
    figure = go.Figure()
    for name, some, colour in (("losses", returns[returns < 0], LOSS), ("gains", returns[returns > 0], GAIN)):
        bins = {"start": 0.0 if name == "gains" else width * np.floor(low / width), "end": high + width, "size": width}
        if len(some):
            figure.add_trace(go.Histogram(x=some, name=name, marker_color=colour, opacity=0.85, xbins=bins))
    still = int(np.count_nonzero(returns == 0))
    if still:
        bar = {"x": [0.0], "y": [still], "width": [width / 3], "name": "no change", "marker_color": MARKET}
        figure.add_trace(go.Bar(**bar))
    at_risk = view.document.metrics.value_at_risk
    if at_risk is not None:
        figure.add_vline(x=at_risk, line_dash="dot", line_color=MARKET)
        line, name = {"color": MARKET, "dash": "dot"}, f"value at risk {at_risk:.2%}"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name=name, line=line))
    figure.update_layout(barmode="overlay", bargap=0.03)
    # Said, not found: a single bar of a bar chart would widen the axis by far more than its own width.
    shown = [min(low, 0.0) - width, max(high, 0.0) + width]
    figure.update_xaxes(title_text="return of a day", tickformat=percent(returns), range=shown)
    figure.update_yaxes(title_text="days")
    return _laid_out(figure)


def trades_chart(session: Session, instrument: InstrumentId) -> Figure:
    """Price with entries and exits, over a band of the regime. Positions that were left open have an entry only."""
    from plotly import graph_objects as go

    bars = session.bars[instrument]
    kept = thinned(bars.close)
    figure = go.Figure(
        go.Scatter(x=times(bars.close_ns[kept]), y=bars.close[kept], name="close", line={"color": MARKET, "width": 1.2})
    )
    if bars.close.min() > 0 and bars.close.max() > LOG_FROM * bars.close.min():
        ticks = log_ticks(float(bars.close.min()), float(bars.close.max()))
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,.6g}" for tick in ticks])
    figure.update_yaxes(title_text=session.started.currency)
    trades = [trade for trade in session.trades if trade.instrument == instrument][-MOST_TRADES:]
    size = 7 if len(trades) < 100 else 5 if len(trades) < 400 else 4
    for name, symbol, entries in _entries(session, instrument, trades):
        if entries:
            x = times(np.array([opened_ns for opened_ns, _ in entries]))
            y = [price for _, price in entries]
            marker = {"symbol": symbol, "size": size + 2, "color": ENTRY}
            figure.add_trace(go.Scatter(x=x, y=y, mode="markers", name=name, marker=marker))
    for name, colour, some in (
        ("exit with profit", GAIN, [trade for trade in trades if trade.net > 0]),
        ("exit with loss", LOSS, [trade for trade in trades if trade.net <= 0]),
    ):
        if some:
            figure.add_trace(_exits(go, some, name, {"symbol": "x", "size": size, "color": colour}))
    bands = regime_bands(session, instrument)
    figure.update_layout(shapes=[_band(*band) for band in bands])
    for regime in dict.fromkeys(band[2] for band in bands):
        marker = {"symbol": "square", "size": 11, "color": REGIMES[regime], "opacity": 0.45}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=regime.lower(), marker=marker))
    return _laid_out(figure, height=420)


def _entries(
    session: Session, instrument: InstrumentId, trades: list[Trade]
) -> list[tuple[str, str, list[tuple[int, float]]]]:
    """(name, symbol, [(time_ns, price)]) of each kind of entry."""
    kinds = ((PositionSide.LONG, "triangle-up"), (PositionSide.SHORT, "triangle-down"))
    found = [
        (
            f"{side.lower()} entry",
            symbol,
            [(trade.opened_ns, float(trade.entry_price)) for trade in trades if trade.side is side],
        )
        for side, symbol in kinds
    ]
    left = [
        (each.opened_ns, float(each.average_price)) for each in session.open_positions if each.instrument == instrument
    ]
    return [*found, ("left open", "diamond", left)]


def _exits(go: Any, some: list[Trade], name: str, marker: dict[str, Any]) -> Any:
    return go.Scatter(
        x=times(np.array([trade.closed_ns for trade in some])),
        y=[float(trade.exit_price) for trade in some],
        mode="markers",
        name=name,
        marker=marker,
        customdata=[[float(trade.net), trade.exit, trade.pos] for trade in some],
        hovertemplate="%{customdata[0]:,.2f} (%{customdata[1]}), position %{customdata[2]}<extra></extra>",
    )


def regime_bands(session: Session, instrument: InstrumentId) -> list[tuple[int, int, Regime]]:
    """(from, to, regime) of known regimes; of very many the longest, in order of time."""
    changes = session.regimes.get(instrument, [])
    if not changes:
        return []
    ends = [time_ns for time_ns, _ in changes[1:]] + [int(session.bars[instrument].close_ns[-1])]
    bands = [(start, end, regime) for (start, regime), end in zip(changes, ends, strict=True) if regime in REGIMES]
    return sorted(sorted(bands, key=lambda band: band[0] - band[1])[:MOST_BANDS])


def _band(start: int, end: int, regime: Regime) -> dict[str, Any]:
    first, last = times(np.array([start, end]))
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": str(first),
        "x1": str(last),
        "y0": 0,
        "y1": 1,
        "fillcolor": REGIMES[regime],
        "opacity": 0.13,
        "line_width": 0,
        "layer": "below",
    }


def costs_chart(view: View) -> Figure:
    """From what the market gave to what was left."""
    from plotly import graph_objects as go

    report, session = view.document.report, view.session
    parts: dict[str, float] = {"fees": -float(report.fees)}
    told = sorted({name for fill in session.fills for name in fill.costs})
    for name in told:
        parts[name] = -sum(fill.costs.get(name, 0.0) * float(fill.quantity) for fill in session.fills)
    rest = -float(report.slippage) - sum(parts[name] for name in told)
    parts["slippage"] = rest if abs(rest) > 1e-9 * max(1.0, float(abs(report.slippage))) else 0.0
    parts["funding"], parts["borrowing"] = float(report.funding), float(report.borrowing)
    parts = {name: amount for name, amount in parts.items() if amount or name == "fees"}
    net = float(report.net_profit)
    amounts = [net - sum(parts.values()), *parts.values(), net]
    figure = go.Figure(
        go.Waterfall(
            x=["before costs", *parts, "net profit"],
            y=amounts,
            # Relative to nothing is the amount itself, in the colour of its own sign.
            measure=["relative", *("relative" for _ in parts), "total"],
            text=[f"{amount:,.0f}" for amount in amounts],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": GAIN}},
            decreasing={"marker": {"color": LOSS}},
            totals={"marker": {"color": GAIN if net >= 0 else LOSS}},
            connector={"line": {"color": MARKET, "width": 1}},
        )
    )
    figure.update_yaxes(title_text=session.started.currency)
    figure.update_layout(showlegend=False)
    return _laid_out(figure)


def surface_chart(surface: Surface) -> Figure:
    """A figure over two parameters, the run's own point marked."""
    from plotly import graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            x=list(surface.x), y=list(surface.y), z=surface.values, colorscale=DIVERGING, zmid=0, meta=THEMED_CELLS,
            colorbar={"title": surface.figure},
        )
    )  # fmt: skip
    if surface.chosen is not None:
        marker = {"symbol": "circle-open", "size": 16, "color": "#111", "line": {"width": 3}}
        x, y = surface.chosen
        mark = {"x": [x], "y": [y], "mode": "markers", "name": "this run", "marker": marker, "meta": THEMED_INK}
        figure.add_trace(go.Scatter(**mark, showlegend=True))
    figure.update_xaxes(title_text=surface.x_name)
    figure.update_yaxes(title_text=surface.y_name)
    return _laid_out(figure, height=400)


def folds_chart(folds: Folds) -> Figure:
    """In-sample beside out-of-sample, fold by fold."""
    from plotly import graph_objects as go

    names = [fold.name.replace(" to ", "<br>to ") for fold in folds.folds]
    figure = go.Figure()
    figure.add_trace(go.Bar(x=names, y=[fold.in_sample for fold in folds.folds], name="in sample", marker_color=MARKET))
    after = [fold.out_of_sample for fold in folds.folds]
    figure.add_trace(go.Bar(x=names, y=after, name="out of sample", marker_color=OURS))
    figure.update_yaxes(title_text=folds.figure)
    return _laid_out(figure)


def fan_chart(fan: Fan) -> Figure:
    """Quantiles of resampled equity as bands around their median, and what happened among them."""
    from plotly import graph_objects as go

    figure, levels = go.Figure(), sorted(fan.quantiles)
    for place in range(len(levels) // 2):
        low, high = levels[place], levels[-1 - place]
        edge = {"mode": "lines", "line": {"color": MARKET, "width": 0.6}, "legendgroup": f"{low}"}
        figure.add_trace(go.Scatter(x=fan.steps, y=fan.quantiles[low], showlegend=False, **edge))
        band = {"fill": "tonexty", "fillcolor": "rgba(128,128,128,0.2)", "name": f"{high - low:.0%} of the histories"}
        figure.add_trace(go.Scatter(x=fan.steps, y=fan.quantiles[high], **edge, **band))
    if len(levels) % 2:
        middle = {"name": "median", "line": {"color": MARKET, "width": 1.6, "dash": "dash"}}
        figure.add_trace(go.Scatter(x=fan.steps, y=fan.quantiles[levels[len(levels) // 2]], **middle))
    ours = {"color": OURS, "width": 2}
    figure.add_trace(go.Scatter(x=fan.steps, y=fan.observed, name="what happened", line=ours))
    figure.update_xaxes(title_text="days")
    figure.update_yaxes(title_text="equity over start")
    return _laid_out(figure, height=380)


def crises_chart(found: Sequence[Crisis]) -> Figure:
    """Returns of the account and of the market in each crisis that the run saw."""
    from plotly import graph_objects as go

    names = [one.name.replace(" ", "<br>", 1) for one in found]
    figure = go.Figure()
    for label, values, colour in (
        ("market", [one.market for one in found], MARKET),
        ("account", [one.change for one in found], OURS),
    ):
        figure.add_trace(go.Bar(x=names, y=values, name=label, marker_color=colour))
    figure.add_hline(y=0, line_width=1, line_color=MARKET)
    changes = np.array([value for one in found for value in (one.market, one.change, 0.0)])
    figure.update_yaxes(title_text="return", tickformat=percent(changes))
    figure.update_xaxes(type="category")
    return _laid_out(figure)


def percent(values: Floats) -> str:
    """Format of an axis that shows these fractions: so many digits that neighbouring ticks differ."""
    span = float(np.ptp(values)) if len(values) else 0.0
    digits = 0 if span <= 0 else max(0, int(np.ceil(-np.log10(span * 100 / MOST_TICKS))))
    return f".{min(digits, MOST_DIGITS)}%"


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive numbers."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]


def times(time_ns: Ints) -> NDArray[np.datetime64]:
    """UTC times as plotly takes them."""
    found: NDArray[np.datetime64] = time_ns.astype("datetime64[ns]").astype("datetime64[s]")
    return found


def days(day: Ints) -> NDArray[np.datetime64]:
    found: NDArray[np.datetime64] = day.astype("datetime64[D]")
    return found


def thinned(values: Floats, most: int = MOST_POINTS) -> Ints:
    """Indices of a curve's first, last, lowest and highest point of each of so many stretches, ascending."""
    count = len(values)
    if count <= most:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, most // 4 + 1).astype(np.int64)
    kept: list[int] = []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        some = values[start:stop]
        kept += [start, start + int(np.argmin(some)), start + int(np.argmax(some)), stop - 1]
    return np.unique(np.array(kept, dtype=np.int64))


def _laid_out(figure: Any, height: int = HEIGHT) -> Any:
    """The same margins and nothing that a theme decides; a page gives the colours of text and grid."""
    figure.update_layout(
        height=height,
        margin={"l": 72, "r": 20, "t": 28, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        template="none",
    )
    grid = {"gridcolor": "rgba(128,128,128,0.18)", "zeroline": False, "automargin": True}
    # The first date stands under the lowest number of the other axis: lower by half a line, they do not touch.
    figure.update_xaxes(**grid, ticklabelstandoff=8)
    figure.update_yaxes(**grid, title_standoff=10)
    return figure
