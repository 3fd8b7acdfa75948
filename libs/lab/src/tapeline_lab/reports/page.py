"""The report as one page that needs nothing else: no request leaves it, which its own policy forbids.

plotly's library lies in it compressed and is unpacked by the browser, so a page is about 2 MB. The order is that of a
reader's questions: may I believe it, what came out, how did it come about, what did it cost, what is every figure.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from html import escape
from importlib.resources import files

import msgspec

from tapeline_backtest.session import Session
from tapeline_common.values import InstrumentId
from tapeline_lab.reports import charts
from tapeline_lab.reports.checks import Finding, Weight
from tapeline_lab.reports.console import duration, money, number, share, summary
from tapeline_lab.reports.crises import CRISES, crises
from tapeline_lab.reports.extras import Extras
from tapeline_lab.reports.groups import Group
from tapeline_lab.reports.manifest import RunManifest
from tapeline_lab.reports.view import Document, View

LOOKS = {"AGAINST": "WRONG", "STRONG": "GOOD", "MODERATE": "NOTE"}
"""Colour of a level, doubtful for all others. Where something was not looked at, such as the search that a run came
from, nothing is green: the best of many hidden trials would be."""

INTERVALS = "In italics: 95 % intervals, if days and trades to come are like these. How it was chosen is not in them."
EQUITY = (
    "At each bar's close, beside the market at no more than the account's risk: a share of the money that is kept in "
    "it day by day. Below: how far equity is under its highest so far."
)
ROLLING = "Whether it was good all along: of the days before each, annualised."
SURFACE = (
    "The best of all other parameters at each point. A peak that stands alone is luck. A plateau is no proof: "
    "neighbours trade alike, so luck makes plateaus too."
)
FAN = (
    "The run's days drawn again in blocks: how else such days could have come out. They are taken as good as they "
    "were, so the bands rise where the run did; if it was chosen for these days, they are too friendly."
)
FOLDS = "What was chosen on each stretch, on that stretch and on the one after it. Only the latter is a result."

MOST_INSTRUMENTS = 3
"""Instruments whose trades are drawn; of more, those with the most trades."""


class _Charts:
    """Charts by the id of the element that they are drawn into."""

    def __init__(self) -> None:
        self.figures: dict[str, object] = {}

    def add(self, name: str, title: str, words: str, figure: object | None, below: str = "") -> str:
        """A section with a chart and what stands below it, or nothing without a chart."""
        if figure is None:
            return ""
        self.figures[name] = figure
        note = f"<p>{escape(words)}</p>" if words else ""
        return f'<section><h2>{escape(title)}</h2>{note}<figure id="{name}"></figure>{below}</section>'

    def encoded(self) -> str:
        import plotly.io

        text = json.dumps({name: json.loads(plotly.io.to_json(each)) for name, each in self.figures.items()})
        return text.replace("</", "<\\/")


def page(found: View, manifest: RunManifest, extras: Extras) -> str:
    """The whole page as HTML."""
    document, drawn = found.document, _Charts()
    parts = [
        _heading(document, manifest),
        _belief(document),
        _tiles(found),
        drawn.add("equity", "Equity", EQUITY, charts.equity_chart(found)),
        drawn.add(
            "months", "Months", "Return of each month; the last column is the year.", charts.monthly_chart(found)
        ),
        _pair(
            drawn.add("costs", "Costs", "From the profit before costs to what was left.", charts.costs_chart(found)),
            drawn.add("days", "Days", "How many days ended with which return.", charts.distribution_chart(found)),
        ),
        drawn.add("rolling", "Rolling", ROLLING, charts.rolling_chart(found)),
        *_trades(found, drawn),
        _study(extras, drawn),
        _crises(found, drawn),
        _groups(document),
        _figures(document),
        _foot(manifest),
    ]
    text = files("tapeline_lab.reports").joinpath("page_template.html").read_text(encoding="utf-8")
    title = f"{document.report.strategy}: report"
    filled = {"title": escape(title), "body": "\n".join(parts), "charts": drawn.encoded(), "plotly": _library()}
    for name, value in filled.items():
        text = text.replace("{{" + name + "}}", value, 1)
    return text


@cache
def _library() -> str:
    """plotly.js, compressed; the same bytes each time."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _heading(document: Document, manifest: RunManifest) -> str:
    report = document.report
    names = ", ".join(one.name for one in report.instruments.values())
    simulated = any(each["type"] == "VenueConfigured" for each in manifest.configuration)
    kind = "backtest" if manifest.realm == "REPLAY" else "paper trading" if simulated else "live trading"
    parameters = ", ".join(f"{name} {value}" for name, value in report.parameters.items())
    period = [row for row in summary(document.metrics, document)[0] if row[0] in ("from", "to")]
    span = f"{period[0][1]} to {period[1][1]} UTC"
    about = " · ".join(part for part in (names, span, parameters, kind) if part)
    return f"<h1>{escape(report.strategy)}</h1><p class='under'>{escape(about)}</p>"


def _belief(document: Document) -> str:
    """The verdict, what happened in one sentence, what speaks for and against it, and every doubt."""
    verdict = document.verdict
    reasons = () if verdict is None else verdict.reasons
    items = [_item(REASONS[each.standing], each.standing, escape(each.words)) for each in reasons]
    items += map(_finding, document.findings)
    if not document.findings:
        items.append(_item("checked", "NOTE", "No sanity check had anything to say."))
    return (
        f"<section class='verdict {_look(document)}'><h2>Can it be believed?</h2>"
        f"<p class='lead'><b>{escape(lead(document))}</b></p><p class='lead'>{escape(headline(document))}</p>"
        f"<ul class='findings'>{''.join(items)}</ul></section>"
    )


REASONS = {"DOUBTS": "against", "UNKNOWN": "unknown", "SUPPORTS": "for", "NEUTRAL": "note"}
"""Which way a reason of the verdict points, in a word."""


def lead(document: Document) -> str:
    """The first sentence of the page: what to think of what follows."""
    wrong = sum(finding.weight is Weight.WRONG for finding in document.findings)
    if wrong:
        return f"Do not use these figures: {_times(wrong, 'check')} found what cannot be."
    if document.verdict is None:
        return "The evidence was not weighed: that takes at least twenty days, and equity that moves."
    return document.verdict.words[0]


def _look(document: Document) -> str:
    """Colour of the verdict: that of its level, unless a check doubts the run."""
    weights = {finding.weight for finding in document.findings}
    look = "NOTE" if document.verdict is None else LOOKS.get(document.verdict.level, "DOUBTFUL")
    if Weight.WRONG in weights:
        return "WRONG"
    return "DOUBTFUL" if Weight.DOUBTFUL in weights and look != "WRONG" else look


def _finding(finding: Finding) -> str:
    look = f" <code>tapeline why {finding.positions[0]}</code>" if finding.positions else ""
    return _item(finding.weight.lower(), finding.weight, escape(_sentence(finding.words)) + look)


def _item(tag: str, look: str, html: str) -> str:
    return f"<li><span class='tag {look}'>{tag}</span><span>{html}</span></li>"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def headline(document: Document) -> str:
    """What came out, in a sentence or two."""
    found = document.metrics
    what = "gained" if found.cumulative_return > 0 else "lost"
    market = "rose" if found.market_change > 0 else "fell"
    text = (
        f"The account {what} {abs(found.cumulative_return):.2%} in {found.days} days while the market {market} "
        f"{abs(found.market_change):.2%}; it fell {found.max_drawdown:.2%} from its high at worst."
    )
    if found.market_scale < 1.0:
        brought = "gained" if found.market_at_our_risk > 0 else "lost"
        text += (
            f" Keeping {found.market_scale:.0%} of the money in the market, which is as volatile, would have {brought} "
            f"{abs(found.market_at_our_risk):.2%}."
        )
    doubtful = sum(finding.weight is Weight.DOUBTFUL for finding in document.findings)
    if doubtful:
        return f"{text} {_times(doubtful, 'check')} found reason for doubt."
    return text


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


WHOLE_FROM = 1_000

Written = Callable[[float], str]


def _tiles(view: View) -> str:
    """The headline figures, each with the interval that the luck of the days leaves it."""
    found, trades, spans = view.document.metrics, view.document.metrics.trades, view.document.intervals
    win_rate = "-" if trades.win_rate is None else f"{trades.win_rate:.1%}"
    currency = view.session.started.currency
    tiles: list[tuple[str, str, Decimal | float | None, str, Written]] = [
        (f"net profit, {currency}", whole(found.net_profit), found.net_profit, "net_profit", whole),
        ("annual return", share(found.annual_return), found.annual_return, "annual_return", "{:+.1%}".format),
        ("Sharpe", number(found.sharpe, 2), found.sharpe, "sharpe", "{:.2f}".format),
        ("max drawdown", f"{found.max_drawdown:.2%}", None, "max_drawdown", "{:.1%}".format),
        ("trades", f"{trades.trades:,}", None, "", str),
        ("win rate", win_rate, None, "win_rate", "{:.1%}".format),
        ("profit factor", number(trades.profit_factor, 2), None, "profit_factor", "{:.2f}".format),
        ("market", share(found.market_change), None, "", str),
    ]
    cells = []
    for name, value, signed, key, written in tiles:
        colour = "" if not signed else "gain" if signed > 0 else "loss"
        span = spans.get(key)
        text = "" if span is None else f"<i>{escape(f'{written(span.low)} to {written(span.high)}')}</i>"
        figure = f"<b class='{colour}'>{escape(value)}</b>{text}<span>{escape(name)}</span>"
        cells.append(f"<div class='tile'>{figure}</div>")
    note = f"<p class='under'>{INTERVALS}</p>" if spans else ""
    return f"<div class='tiles'>{''.join(cells)}</div>{note}"


def whole(amount: Decimal | float) -> str:
    """Money without what is too small to matter beside it."""
    return f"{amount:,.0f}" if abs(float(amount)) >= WHOLE_FROM else f"{amount:,.2f}"


def _pair(*sections: str) -> str:
    return f"<div class='pair'>{''.join(sections)}</div>"


def _trades(found: View, drawn: _Charts) -> list[str]:
    session = found.session
    counts = dict.fromkeys(session.bars, 0)
    for trade in session.trades:
        counts[trade.instrument] += 1
    busiest = sorted(counts, key=lambda instrument: -counts[instrument])[:MOST_INSTRUMENTS]
    return [
        drawn.add(
            f"trades-{place}",
            f"Trades in {session.name(instrument)}",
            _about_trades(session, instrument, counts[instrument]),
            charts.trades_chart(session, instrument),
        )
        for place, instrument in enumerate(busiest, 1)
    ]


def _about_trades(session: Session, instrument: InstrumentId, count: int) -> str:
    parts = [_times(count, "closed trade")]
    if count > charts.MOST_TRADES:
        parts.append(f"the latest {charts.MOST_TRADES:,} are drawn")
    left = sum(each.instrument == instrument for each in session.open_positions)
    if left:
        parts.append(f"{_times(left, 'position')} left open")
    known = bool(charts.regime_bands(session, instrument))
    return f"{', '.join(parts)}. {'The band behind is the regime.' if known else 'No regime was known.'}"


def _study(extras: Extras, drawn: _Charts) -> str:
    parts = []
    if extras.folds is not None:
        parts.append(drawn.add("folds", "Walk-forward", FOLDS, charts.folds_chart(extras.folds)))
    if extras.surface is not None:
        words = f"{extras.surface.ground} {SURFACE}".strip()
        parts.append(drawn.add("surface", "Parameters", words, charts.surface_chart(extras.surface)))
    if extras.fan is not None:
        parts.append(drawn.add("fan", "Other histories of the same days", FAN, charts.fan_chart(extras.fan)))
    return "".join(parts)


def _crises(found: View, drawn: _Charts) -> str:
    seen = crises(found.by_day)
    if not seen:
        text = f"<p>The run saw none of the {len(CRISES)} that are looked for, from 2008 to 2025.</p>"
        return f"<section><h2>Crises</h2>{text}</section>"
    rows = [
        [
            one.name,
            f"{one.first} to {one.last}",
            str(one.days),
            share(one.change),
            share(one.market),
            f"{one.drawdown:.2%}",
        ]
        for one in seen
    ]
    table = _table("", ["period", "from, to", "days seen", "account", "market", "drawdown"], rows)
    words = "Times that everybody remembers, by the calendar: whether bars are recorded or made up is not asked."
    return drawn.add("crises", "Crises", words, charts.crises_chart(seen), table)


def _groups(document: Document) -> str:
    found = document.groups
    tables = [
        _group_table("By instrument", found.instruments, document.total),
        _left_open(document),
        _group_table("By entry reason", found.entries, document.total),
        _group_table("By exit reason", found.exits, document.total),
    ]
    if len(found.strategies) > 1:
        tables.append(_group_table("By strategy", found.strategies, document.total))
    for name, rows in document.breakdown.items():
        cells = [
            [row.name, str(row.trades), money(row.profit), share(row.change), f"{row.wins}/{row.draws}/{row.losses}"]
            for row in rows
        ]
        table = _table("", [name, "trades", "profit", "change", "win/draw/loss"], cells)
        tables.append(f"<details><summary>By {name}</summary>{table}</details>")
    return f"<section><h2>Trades in groups</h2>{''.join(tables)}</section>"


def _group_table(caption: str, rows: tuple[Group, ...], total: Group) -> str:
    cells = [
        [
            row.name,
            f"{row.figures.trades:,}",
            share(row.figures.mean_return, 3),
            money(row.figures.net_profit),
            share(row.share),
            duration(row.figures.average_duration_s),
            f"{row.figures.wins}/{row.figures.draws}/{row.figures.losses}",
            "-" if row.figures.win_rate is None else f"{row.figures.win_rate:.1%}",
            number(row.figures.profit_factor),
        ]
        for row in (*rows, total)
    ]
    columns = ["", "trades", "mean", "profit", "of cash", "duration", "win/draw/loss", "win rate", "profit factor"]
    return _table(caption, columns, cells, has_total=True, look="groups")


def _left_open(document: Document) -> str:
    rows = [
        [
            each.instrument,
            each.strategy,
            each.quantity,
            money(each.average_price),
            money(each.last_price),
            money(each.profit),
        ]
        for each in document.left_open
    ]
    return _table("Left open", ["", "strategy", "quantity", "average", "last", "profit"], rows) if rows else ""


def _figures(document: Document) -> str:
    tables = [_table("", [], [list(row) for row in rows]) for rows in summary(document.metrics, document)]
    return f"<section><h2>Every figure</h2><div class='columns'>{''.join(tables)}</div></section>"


def _foot(manifest: RunManifest) -> str:
    data = "".join(
        f"<li><code>{escape(f'{each.instrument} {each.timeframe} {each.source}: {each.detail}')}</code></li>"
        for each in manifest.data
    )
    rows = [
        ["tape", f"{manifest.tape_facts:,} facts, head {manifest.tape_head_hash}"],
        ["code", ", ".join(manifest.code_versions)],
        ["configuration, SHA-256", manifest.configuration_sha256],
        ["seed", str(manifest.seed)],
        ["report code", manifest.report_code],
        ["libraries", ", ".join(f"{name} {each}" for name, each in manifest.libraries.items())],
    ]
    lines = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>" for name, value in rows)
    configured = escape(msgspec.json.format(msgspec.json.encode(manifest.configuration), indent=2).decode())
    return (
        f"<footer><section><h2>Where it comes from</h2><div class='scroll'><table>{lines}</table></div><ul>{data}</ul>"
        f"<details><summary>configuration</summary><pre><code>{configured}</code></pre></details></section></footer>"
    )


def _table(caption: str, columns: list[str], rows: list[list[str]], *, has_total: bool = False, look: str = "") -> str:
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr></thead>" if columns else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = []
    for place, row in enumerate(rows):
        kind = " class='total'" if has_total and place == len(rows) - 1 else ""
        lines.append(f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    opening = f"<table class='{look}'>" if look else "<table>"
    return f"<div class='scroll'>{opening}{title}{head}<tbody>{''.join(lines)}</tbody></table></div>"
