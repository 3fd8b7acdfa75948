"""The report as one page that needs nothing else: no request leaves it, which its own policy forbids.

plotly's library lies in it compressed and is unpacked by the browser, so a page is about 2 MB. The order is that of a
reader's questions: may I believe it, what came out, how did it come about, what did it cost, what is every figure.
"""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from html import escape
from importlib.resources import files

import msgspec

from tapeline_lab.reports import charts
from tapeline_lab.reports.checks import Finding, Weight
from tapeline_lab.reports.console import duration, money, number, share, summary
from tapeline_lab.reports.crises import crises
from tapeline_lab.reports.extras import Extras
from tapeline_lab.reports.groups import Group
from tapeline_lab.reports.manifest import RunManifest
from tapeline_lab.reports.view import Document, View

SUPPORTING = ("STRONG", "MODERATE")
"""Levels of a verdict under which the evidence speaks for the run."""

MOST_INSTRUMENTS = 3
"""Instruments whose trades are drawn; of more, those with the most trades."""


class _Charts:
    """Charts by the id of the element that they are drawn into."""

    def __init__(self) -> None:
        self.figures: dict[str, object] = {}

    def add(self, title: str, words: str, figure: object | None) -> str:
        """A section with a chart, or nothing without one."""
        if figure is None:
            return ""
        name = f"chart-{len(self.figures) + 1}"
        self.figures[name] = figure
        note = f"<p>{escape(words)}</p>" if words else ""
        return f'<section><h2>{escape(title)}</h2>{note}<figure id="{name}"></figure></section>'

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
        _tiles(document),
        drawn.add("Equity", "At each bar's close, beside the market bought and held.", charts.equity_chart(found)),
        drawn.add("Months", "Return of each month; the last column is the year.", charts.monthly_chart(found)),
        _pair(
            drawn.add("Costs", "From the profit before costs to what was left.", charts.costs_chart(found)),
            drawn.add("Days", "How often a day ended where.", charts.distribution_chart(found)),
        ),
        drawn.add("Rolling", "Whether it was good all along.", charts.rolling_chart(found)),
        *_trades(found, drawn),
        _study(extras, drawn),
        _crises(found),
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
    kind = "backtest" if manifest.realm == "REPLAY" else "live tape"
    parameters = ", ".join(f"{name} {value}" for name, value in report.parameters.items())
    period = [row for row in summary(document.metrics, document)[0] if row[0] in ("from", "to")]
    span = f"{period[0][1]} to {period[1][1]} UTC"
    about = " · ".join(part for part in (names, span, parameters, kind) if part)
    return f"<h1>{escape(report.strategy)}</h1><p class='under'>{escape(about)}</p>"


def _belief(document: Document) -> str:
    """What happened in one sentence, the verdict where there is one, and every doubt."""
    worst = document.findings[0].weight if document.findings else None
    level = worst.value if worst is not None else "NOTE"
    verdict = ""
    if document.verdict is not None:
        first, *others = document.verdict.words
        told = "".join(f"<li>{escape(words)}</li>" for words in others)
        verdict = f"<p class='lead'><b>{escape(first)}</b></p><ul class='told'>{told}</ul>"
        if worst is not Weight.WRONG:
            level = "GOOD" if document.verdict.level in SUPPORTING else "DOUBTFUL"
    items = "".join(map(_finding, document.findings))
    doubts = f"<ul class='findings'>{items}</ul>" if items else "<p>No sanity check had anything to say.</p>"
    return (
        f"<section class='verdict {level}'><h2>Can it be believed?</h2>"
        f"<p class='lead'>{escape(headline(document))}</p>{verdict}{doubts}</section>"
    )


def _finding(finding: Finding) -> str:
    look = f" <code>tapeline why {finding.positions[0]}</code>" if finding.positions else ""
    tag = f"<span class='tag {finding.weight}'>{finding.weight.lower()}</span>"
    return f"<li>{tag}<span>{escape(finding.words)}{look}</span></li>"


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
        brought = "brought" if found.market_at_our_risk > 0 else "cost"
        text += f" Held at the same volatility, the market would have {brought} {abs(found.market_at_our_risk):.2%}."
    wrong = sum(finding.weight is Weight.WRONG for finding in document.findings)
    doubtful = sum(finding.weight is Weight.DOUBTFUL for finding in document.findings)
    if wrong:
        return f"{text} {_times(wrong, 'check')} found what cannot be: do not use these figures."
    if doubtful:
        return f"{text} {_times(doubtful, 'check')} found reason for doubt."
    if document.verdict is None:
        return f"{text} Whether that is more than luck was not tested here."
    return text


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tiles(document: Document) -> str:
    found, trades = document.metrics, document.metrics.trades
    tiles = [
        ("net profit", f"{found.net_profit:,.2f}", found.net_profit),
        ("annual return", share(found.annual_return), found.annual_return),
        ("Sharpe", number(found.sharpe, 2), found.sharpe),
        ("max drawdown", f"{found.max_drawdown:.2%}", None),
        ("trades", f"{trades.trades:,}", None),
        ("win rate", "-" if trades.win_rate is None else f"{trades.win_rate:.1%}", None),
        ("profit factor", number(trades.profit_factor, 2), None),
        ("market", share(found.market_change), None),
    ]
    cells = []
    for name, value, signed in tiles:
        colour = "" if not signed else "gain" if signed > 0 else "loss"
        cells.append(f"<div class='tile'><b class='{colour}'>{escape(value)}</b><span>{name}</span></div>")
    return f"<div class='tiles'>{''.join(cells)}</div>"


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
            f"Trades in {session.name(instrument)}",
            f"{counts[instrument]:,} trades; the band is the regime where one is known.",
            charts.trades_chart(session, instrument),
        )
        for instrument in busiest
    ]


def _study(extras: Extras, drawn: _Charts) -> str:
    parts = []
    if extras.folds is not None:
        words = "What was chosen on each stretch, there and on the one after it."
        parts.append(drawn.add("Walk-forward", words, charts.folds_chart(extras.folds)))
    if extras.surface is not None:
        words = "A peak that stands alone is luck; a plateau is not."
        parts.append(drawn.add("Parameters", words, charts.surface_chart(extras.surface)))
    if extras.fan is not None:
        words = "The run's days drawn again in blocks: what else might have come of the same trading."
        parts.append(drawn.add("Other orders of the same luck", words, charts.fan_chart(extras.fan)))
    return "".join(parts)


def _crises(found: View) -> str:
    rows = [
        [
            one.name,
            f"{one.first} to {one.last}",
            str(one.days),
            share(one.change),
            share(one.market),
            f"{one.drawdown:.2%}",
        ]
        for one in crises(found.by_day)
    ]
    if not rows:
        return ""
    table = _table("", ["period", "days of", "days", "account", "market", "drawdown"], rows)
    return f"<section><h2>Crises</h2><p>Times that everybody remembers.</p>{table}</section>"


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
    return _table(caption, columns, cells, has_total=True)


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


def _table(caption: str, columns: list[str], rows: list[list[str]], *, has_total: bool = False) -> str:
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr></thead>" if columns else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = []
    for place, row in enumerate(rows):
        look = " class='total'" if has_total and place == len(rows) - 1 else ""
        lines.append(f"<tr{look}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return f"<div class='scroll'><table>{title}{head}<tbody>{''.join(lines)}</tbody></table></div>"
