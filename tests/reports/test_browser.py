"""Pages opened in a headless Chromium: every chart drawn and readable, light and dark, and nothing asked of anybody.

Skipped, with the reason, where there is no browser; ``make report-test`` installs one where that can be done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.backtesting import write_bars
from tests.reports.browser import Browser, found_browser
from tests.reports.opened import THEMES, faults

import tapeline_backtest
from tapeline_backtest.session import Session
from tapeline_common.values import Regime
from tapeline_lab.reports.artefacts import write_artefacts
from tapeline_lab.reports.breakdown import Period
from tapeline_lab.reports.extras import Extras, Fold, Folds, Surface
from tapeline_lab.reports.judgement import judge
from tapeline_lab.reports.metrics import daily
from tapeline_lab.reports.view import view

BROWSER = found_browser()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        BROWSER is None,
        reason="no Chromium or Chrome: deploy/browser.sh installs one on Debian, or name TAPELINE_BROWSER",
    ),
]

FIRST_MS, HOUR_MS = 1_580_515_200_000, 3_600_000
"""2020-02-01: the COVID crash lies within."""

EVERY = {
    "equity": {"lines": 3, "titles": 2},
    "months": {"cells": 1},
    "costs": {"bars": 4, "titles": 1},
    "days": {"bars": 10, "titles": 2},
    "rolling": {"lines": 2, "titles": 2},
    "trades-1": {"lines": 1, "points": 20, "bands": 2, "titles": 1},
    "folds": {"bars": 4, "titles": 1},
    "surface": {"cells": 1, "points": 1, "titles": 3},
    "fan": {"lines": 6, "titles": 2},
    "crises": {"bars": 2, "titles": 1},
}
"""Every chart there is, and the least that is drawn in it."""


def hours(path: Path) -> Path:
    """A hundred and twenty days of a random walk that trends now and then."""
    chance = np.random.Generator(np.random.PCG64(8))
    count = 24 * 120
    close = 9_000 * np.exp(np.cumsum(chance.normal(0, 0.006, count) + 0.0004 * np.sin(np.arange(count) / 90)))
    before = np.concatenate([[9_000.0], close[:-1]])
    high, low = np.maximum(before, close) * 1.001, np.minimum(before, close) * 0.999
    columns = np.round(np.column_stack([before, high, low, close, np.full(count, 900.0)]), 2)
    opened = FIRST_MS + HOUR_MS * np.arange(count)
    return write_bars(path, [(at, *row) for at, row in zip(opened.tolist(), columns.tolist(), strict=True)])


def studied(session: Session) -> Extras:
    """A study's surface and folds, as they would be handed in; the fan is the run's own."""
    fan = judge(session, daily(session), is_drawn=True).extras.fan
    values = np.random.Generator(np.random.PCG64(3)).normal(size=(3, 4))
    return Extras(
        surface=Surface("sharpe", "fast", (5, 10, 15, 20), "slow", (30, 40, 50), values, (10, 30)),
        folds=Folds(
            "Sharpe ratio", [Fold("2020-03-01 to 2020-04-01", 2.0, 0.5), Fold("2020-04-01 to 2020-05-01", 1.5, -0.2)]
        ),
        fan=fan,
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it: regimes, a crisis, a study, and a verdict."""
    folder = tmp_path_factory.mktemp("page")
    result = tapeline_backtest.run(
        "ema_cross", hours(folder / "BTCUSD.parquet"), parameters={"fast": 10, "slow": 30}, fee="0.001", slippage_bps=1
    )
    session = result.session
    (token,) = session.bars
    first, middle = int(session.curve.time_ns[0]), int(session.curve.time_ns[len(session.curve.time_ns) // 2])
    session.regimes[token] = [(first, Regime.BULL), (middle, Regime.BEAR)]
    judged = judge(session, daily(session), is_drawn=True)
    found = view(session, list(Period), judged.verdict, None, judged.intervals)
    write_artefacts(folder, found, studied(session))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert BROWSER is not None
    with Browser(BROWSER) as started:
        yield started


@pytest.mark.parametrize("theme", THEMES)
def test_every_chart_is_drawn_and_nothing_is_asked_for(browser: Browser, good: Path, theme: str) -> None:
    """No request but for the file, no complaint, every chart with its marks; no text cut off, covered or faint."""
    assert faults(browser, good, theme, EVERY) == []


def test_a_narrow_window_shows_it_too(browser: Browser, good: Path) -> None:
    """On a telephone's width nothing is wider than the page."""
    with browser.page() as page:
        page.set_width(390)
        page.open(good)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_theme_may_change_while_it_is_open(browser: Browser, good: Path) -> None:
    """Charts follow the system from light to dark without being loaded anew."""
    ink = "getComputedStyle(document.querySelector('#equity .ytitle')).fill"
    with browser.page() as page:
        page.open(good, "light")
        before = page.evaluate(ink)
        page.set_theme("dark")
        look = f"const look = () => {ink} === '{before}' ? requestAnimationFrame(look) : done({ink}); look();"
        assert page.evaluate(f"new Promise((done) => {{ {look} }})") == "rgb(236, 236, 240)"


def without_a_chart(html: str) -> str:
    """The crises are not drawn any more."""
    return edited(html, lambda charts: charts.pop("crises"))


def without_marks(html: str) -> str:
    """The equity chart is there and empty."""
    return edited(html, lambda charts: charts["equity"].update(data=[]))


def with_a_link(html: str) -> str:
    return html.replace("<main>", '<main><img src="https://example.org/seen.png" alt="">', 1)


def with_a_font(html: str) -> str:
    return html.replace("<style>", "<style>@import url('https://example.org/font.css');", 1)


def with_a_call(html: str) -> str:
    return html.replace("<script>", "<script>fetch('https://example.org/').catch(() => {});</script><script>", 1)


def with_an_error(html: str) -> str:
    return html.replace("<script>", "<script>nothing.at.all();</script><script>", 1)


def with_faint_words(html: str) -> str:
    return html.replace("--soft: #62626a", "--soft: #c9c9cc", 1)


def with_words_cut_off(html: str) -> str:
    return edited(html, lambda charts: charts["equity"]["layout"]["margin"].update(l=0) or no_room(charts["equity"]))


def with_weight(html: str) -> str:
    return html + "<!--" + "x" * 1_000_000 + "-->"


def no_room(chart: dict) -> None:  # type: ignore[type-arg]
    for axis in ("yaxis", "yaxis2"):
        chart["layout"][axis]["automargin"] = False


def edited(html: str, change: Callable[..., object]) -> str:
    """The page with other charts."""
    found = re.search(r'(<script type="application/json" id="charts">)(.*?)(</script>)', html, re.DOTALL)
    assert found is not None
    charts = json.loads(found[2])
    change(charts)
    return html[: found.start(2)] + json.dumps(charts).replace("</", "<\\/") + html[found.end(2) :]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_a_chart, "crises is empty"),
        (without_marks, "equity has 0 lines"),
        (with_a_link, "it names something to load"),
        (with_a_font, "example.org"),
        (with_a_call, "example.org"),
        (with_an_error, "nothing is not defined"),
        (with_faint_words, "hard to read in light"),
        (with_words_cut_off, "is cut off"),
        (with_weight, "bytes are more than"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_spoilt_page_is_found_out(
    browser: Browser, good: Path, tmp_path: Path, spoil: Callable[[str], str], words: str
) -> None:
    """A chart removed or emptied, an outside link, a script that fails, words that cannot be read: each is a fault."""
    page = tmp_path / "report.html"
    html = good.read_text(encoding="utf-8")
    page.write_text(spoil(html), encoding="utf-8")
    assert page.read_text(encoding="utf-8") != html
    found = faults(browser, page, "light", EVERY)
    assert [fault for fault in found if words in fault] != [], found
