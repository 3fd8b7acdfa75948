"""The command, the page and its files: complete, self-contained, and the same each time."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from tests.reports.samples import EMA, NOON_NS, session, small_run, trade

from tapeline_backtest.session import OpenPosition
from tapeline_lab.reports.artefacts import write_artefacts
from tapeline_lab.reports.breakdown import Period
from tapeline_lab.reports.charts import log_ticks, percent, regime_bands, thinned, trades_chart
from tapeline_lab.reports.checks import Doubt, Finding, Weight
from tapeline_lab.reports.command import report_command
from tapeline_lab.reports.extras import Extras, Fan, Fold, Folds, Surface
from tapeline_lab.reports.manifest import manifest
from tapeline_lab.reports.page import headline, lead, page
from tapeline_lab.reports.view import Reason, View, view

FILES = ["report.json", "manifest.json", "trades.parquet", "fills.parquet", "equity.parquet", "report.html"]
MOST_BYTES = 3_000_000

STUDY = Extras(
    surface=Surface("Sharpe", "fast", (5, 10), "slow", (20, 30, 40), np.arange(6.0).reshape(3, 2), (10, 40)),
    folds=Folds("Sharpe", [Fold("2023", 2.0, 0.5), Fold("2024", 1.5, -0.2)]),
    fan=Fan({0.05: np.linspace(1, 0.8, 5), 0.5: np.ones(5), 0.95: np.linspace(1, 1.2, 5)}, np.arange(5), np.ones(5)),
)


@dataclass(frozen=True)
class Said:
    """A verdict as another part of the laboratory hands it in."""

    level: str
    words: tuple[str, ...]
    findings: tuple[Reason, ...] = ()


SAID = Said("WEAK", ("The evidence is weak.", "Luck <explains> it."), (Reason("DOUBTS", "Luck <explains> it."),))


def seen(verdict: Said | None = None) -> View:
    return view(small_run().session, [Period.MONTH, Period.WEEKDAY], verdict)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything that can be handed in."""
    written = tmp_path_factory.mktemp("report")
    paths = write_artefacts(written, seen(SAID), STUDY)
    assert paths == [str(written / name) for name in FILES]
    return written


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def charts_of(html: str) -> dict[str, dict[str, object]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    charts: dict[str, dict[str, object]] = json.loads(found[1].replace("<\\/", "</"))
    return charts


def test_every_chart_is_on_the_page(folder: Path) -> None:
    """Equity, months, costs, days, trades and the study's three; each has its place."""
    html = page_of(folder)
    charts = charts_of(html)
    assert list(charts) == ["equity", "months", "costs", "days", "trades-1", "folds", "surface", "fan"]
    assert [name for name in charts if f'<figure id="{name}">' not in html] == []
    titles = ("Equity", "Months", "Costs", "Days", "Trades in", "Walk-forward", "Parameters", "Other histories")
    assert [title for title in titles if f"<h2>{title}" not in html] == []


def test_the_page_needs_nothing_else(folder: Path) -> None:
    """No element names a place to load from, the policy forbids it, and it is small enough to mail."""

    class Loads(HTMLParser):
        found: Sequence[str] = ()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found = [*self.found, *(f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "data-src"))]

    html = page_of(folder)
    parser = Loads()
    parser.feed(html)
    assert list(parser.found) == []
    assert "default-src 'none'" in html
    assert "{{" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert len(html.encode()) < MOST_BYTES


def test_the_library_unpacks_to_plotly(folder: Path) -> None:
    """What the browser will unpack is plotly.js, whole."""
    packed = re.search(r'id="plotly">(.*?)</script>', page_of(folder), re.DOTALL)
    assert packed is not None
    assert b"plotly.js v" in gzip.decompress(base64.b64decode(packed[1]))[:400]


def test_the_verdict_comes_first(folder: Path) -> None:
    """Before the gain: what to think of it. What cannot be outranks every verdict."""
    html = page_of(folder)
    assert html.index("The evidence is weak.") < html.index("The account ") < html.index("<span class='tag DOUBTS'>")
    judged = seen(SAID).document
    wrong = Finding(Doubt.FILL_BETTER_THAN_BAR, Weight.WRONG, "2 fills are better than any price")
    assert lead(judged) == "The evidence is weak."
    beyond = msgspec.structs.replace(judged, findings=(wrong,))
    assert lead(beyond) == "Do not use these figures: 1 check found what cannot be."
    assert lead(seen().document).startswith("The evidence was not weighed")


@pytest.mark.parametrize(
    ("level", "look", "doubted"),
    [
        ("STRONG", "GOOD", "DOUBTFUL"),
        ("MODERATE", "NOTE", "DOUBTFUL"),
        ("WEAK", "DOUBTFUL", "DOUBTFUL"),
        ("AGAINST", "WRONG", "WRONG"),
    ],
)
def test_only_what_was_wholly_looked_at_is_green(level: str, look: str, doubted: str) -> None:
    """A search that nobody told of may have made the run: MODERATE is no green; neither is what a check doubts."""
    found = seen(Said(level, ("So it is.",)))
    doubt = Finding(Doubt.TOO_SHORT, Weight.DOUBTFUL, "5 days")
    for findings, expected in (((), look), ((doubt,), doubted)):
        document = msgspec.structs.replace(found.document, findings=findings)
        html = page(msgspec.structs.replace(found, document=document), manifest(found.session), Extras())
        assert f"<section class='verdict {expected}'>" in html


def test_words_from_elsewhere_are_escaped(folder: Path) -> None:
    """A verdict, and a name, are text and no markup."""
    assert "Luck &lt;explains&gt; it." in page_of(folder)


def test_a_page_without_a_verdict_leaves_it_out() -> None:
    """Nothing is said in its place but that it was not tested."""
    document = seen().document
    assert document.verdict is None
    assert headline(document).startswith("The account ")
    assert "found reason for doubt" in headline(document)


def test_the_same_run_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """No clock, no machine, no chance in page, figures or manifest."""
    write_artefacts(tmp_path, seen(SAID), STUDY)
    assert [name for name in FILES if (tmp_path / name).read_bytes() != (folder / name).read_bytes()] == []


def test_files_for_programs(folder: Path) -> None:
    """Tables have a row for each, the manifest names what the result depends on."""
    report = small_run().session.report
    written = json.loads((folder / "manifest.json").read_bytes())
    assert pl.read_parquet(folder / "trades.parquet").height == report.trades
    assert pl.read_parquet(folder / "fills.parquet").height == report.fills
    assert pl.read_parquet(folder / "equity.parquet").height == report.bars
    assert written["tape_head_hash"] == small_run().report.tape_hash
    assert written["data"][0]["detail"].startswith("sha256 ")
    assert written["seed"] == 0
    assert [each["type"] for each in written["configuration"]][:1] == ["RunStarted"]
    assert json.loads((folder / "report.json").read_bytes())["report"]["trades"] == report.trades


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A folder may hold more than a report, and no half-written file stays behind."""
    (tmp_path / "notes.txt").write_text("mine")
    write_artefacts(tmp_path, seen())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "notes.txt"])


def test_a_run_without_trades_has_a_page(tmp_path: Path) -> None:
    """No trade, no fill: no division by nothing, no missing chart."""
    write_artefacts(tmp_path, view(session(trades=[], fills=[], orders=[]), [Period.MONTH]))
    assert len(charts_of(page_of(tmp_path))) == 5


def test_thinned_curves_keep_their_extremes() -> None:
    """First, last, lowest and highest point stay, in order, and no more than asked for; short ones stay whole."""
    curve = np.random.Generator(np.random.PCG64(4)).normal(size=100_000).cumsum()
    kept = thinned(curve, 1000)
    assert len(kept) <= 1000
    assert {0, len(curve) - 1, int(curve.argmin()), int(curve.argmax())} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    assert thinned(curve[:1000], 1000).tolist() == list(range(1000))


def test_no_regime_no_band() -> None:
    one = small_run().session
    assert regime_bands(one, next(iter(one.bars))) == []


def called(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(report_command, arguments)


def test_the_command_reports_a_file_and_its_folder(tmp_path: Path) -> None:
    """The same object either way; `--breakdown` adds what it names."""
    tape = tmp_path / "run.tape"
    shutil.copy(small_run().tape_path, tape)
    said = [json.loads(called(str(run), "--breakdown", "day", "--json").stdout) for run in (tape, tmp_path)]
    assert said[0] == said[1]
    assert list(said[0]["breakdown"]) == ["day"]
    assert said[0]["report"]["tape_hash"] == small_run().report.tape_hash


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ((), 2, "name a RUN, or --live"),
        (("run.tape", "--live"), 2, "name a RUN, or --live"),
        (("nowhere.tape",), 4, "nowhere.tape does not exist"),
        (("text.tape",), 4, "text.tape"),
        (("empty",), 4, "empty holds no tape"),
        (("--live", "--data", "nowhere"), 3, "nowhere"),
        (("two",), 4, "two holds 2 tapes"),
    ],
)
def test_bad_calls_end_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[str, ...], code: int, words: str
) -> None:
    """Exit code and words say what to do."""
    (tmp_path / "text.tape").write_text("no tape")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a.tape", "b.tape"):
        (tmp_path / "two" / name).touch()
    monkeypatch.chdir(tmp_path)
    done = called(*call)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_trades_of_samples_are_drawable() -> None:
    """A trade of every kind has a marker: the chart is made of what the session has."""
    token = next(iter(small_run().session.bars))
    some = [msgspec.structs.replace(trade(net, number=n), instrument=token) for n, net in enumerate((5, -5))]
    names = [each.name for each in trades_chart(session(trades=some), token).data]
    assert names == ["close", "long entry", "exit with profit", "exit with loss"]


def test_a_position_left_open_is_drawn() -> None:
    """Whoever bought and held has no closed trade, and an entry all the same."""
    token = next(iter(small_run().session.bars))
    price = Decimal(50_000)
    left = OpenPosition(EMA, token, Decimal(1), price, price, NOON_NS, Decimal(0), price)
    drawn = trades_chart(session(trades=[], open_positions=[left]), token)
    assert [each.name for each in drawn.data] == ["close", "left open"]


def test_ticks_of_percent_differ() -> None:
    """A tenth of the span is told apart from the next: no axis reads 0 %, 0 %, 1 %."""
    spans = (0.9, 0.05, 0.004, 0.0)
    assert [percent(np.array([0.0, span])) for span in spans] == [".0%", ".1%", ".2%", ".0%"]


def test_the_console_prints_every_table() -> None:
    """Doubts, groups, the summary and the end of the tape, in that order; breakdowns only where asked for."""
    done = called(str(small_run().tape_path), "--breakdown", "week")
    places = [done.stdout.find(words) for words in ("doubtful", "by instrument", "exit reasons", "by week", "summary")]
    assert -1 not in places
    assert places == sorted(places)
    assert "by month" not in done.stdout
    assert small_run().report.tape_hash in done.stdout.replace("\n", "")


def test_ticks_of_a_logarithmic_axis() -> None:
    """Between two prices: 1, 2 and 5 of every power of ten."""
    assert log_ticks(3_000, 70_000) == [5_000, 10_000, 20_000, 50_000]
    assert log_ticks(0.4, 3) == [0.5, 1, 2]
