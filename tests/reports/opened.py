"""What is wrong with a page that a browser has opened, as sentences; an empty list where nothing is.

Called on good pages and on spoilt ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.reports.browser import Browser

MOST_BYTES = 3_000_000

LEAST_CONTRAST = 4.5
"""Of text with its background: level AA of the Web Content Accessibility Guidelines."""

THEMES = ("light", "dark")

Marks = Mapping[str, Mapping[str, int]]
"""Chart → kind of mark → how many of them at least."""

# Lines, points, bars, cells and bands of every chart that have an extent; texts that leave their chart or overlap.
LOOK = """(() => {
  const seen = (element) => { const box = element.getBoundingClientRect(); return box.width > 0 || box.height > 0; };
  const solid = (element) => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  const count = (figure, path, is) => [...figure.querySelectorAll(path)].filter(is).length;
  const inside = (box, outer) => box.left >= outer.left - 1 && box.right <= outer.right + 1
    && box.top >= outer.top - 1 && box.bottom <= outer.bottom + 1;
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2;
  const labels = "g[class*=tick] text, text[class*=title], .legendtext, .annotation-text, .cbaxis text";
  const charts = {};
  for (const figure of document.querySelectorAll("figure")) {
    const texts = [...figure.querySelectorAll("svg text")].filter(seen);
    const named = texts.filter((text) => text.matches(labels))
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    const outer = figure.getBoundingClientRect();
    charts[figure.id] = {
      marks: {
        lines: count(figure, ".scatterlayer path.js-line", seen),
        points: count(figure, ".scatterlayer .points path", solid),
        bars: count(figure, ".barlayer .point path, .waterfalllayer .point path", solid),
        cells: count(figure, ".heatmaplayer image", solid),
        bands: count(figure, ".shapelayer path", solid),
        titles: count(figure, "text[class*=title]", solid),
      },
      cut: texts.filter((text) => !inside(text.getBoundingClientRect(), outer)).map((text) => text.textContent),
      overlapping: named.flatMap(([one, box], place) => named.slice(place + 1)
        .filter(([, other]) => overlap(box, other)).map(([other]) => `${one} and ${other}`)),
      isEmpty: !figure.querySelector("svg.main-svg"),
    };
  }
  return charts;
})()"""

# Contrast of every text with what lies behind it: the nearest background that is not transparent.
FAINT = """(() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = (colour) => { const [r, g, b] = numbers(colour).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let one = element; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor; const parts = numbers(colour);
    if (parts.length === 3 || parts[3] > 0.5) return colour; } return "rgb(255, 255, 255)"; };
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const found = new Set();
  const judge = (element, colour) => { const ratio = contrast(colour, behind(element));
    if (ratio < LEAST) found.add(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(1)}`); };
  for (const text of document.querySelectorAll("figure svg text")) {
    if (!text.closest(".heatmaplayer") && text.textContent.trim()) judge(text, getComputedStyle(text).fill);
  }
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const isSeen = walker.currentNode.textContent.trim() && !element.closest("svg");
    if (isSeen) judge(element, getComputedStyle(element).color);
  }
  return [...found];
})()"""

WIDE = """[...document.querySelectorAll("main, section, .scroll, .tile, .tile b, h1, p, li")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline")
  .map((one) => one.textContent.trim().slice(0, 40))"""

LOADING = """[...document.querySelectorAll("[src], [href], link, iframe, object, embed")]
  .map((one) => one.outerHTML.slice(0, 80))"""


def faults(browser: Browser, path: Path, theme: str, expected: Marks) -> list[str]:
    """What is wrong with the page under this theme: what it asks for, complains of, does not draw, or hides."""
    size = path.stat().st_size
    found = [f"{size:,} bytes are more than {MOST_BYTES:,}"] if size >= MOST_BYTES else []
    with browser.page() as page:
        drawn = page.open(path, theme)
        charts: dict[str, Any] = page.evaluate(LOOK)
        faint = page.evaluate(FAINT.replace("LEAST", str(LEAST_CONTRAST)))
        wide, loading = page.evaluate(WIDE), page.evaluate(LOADING)
        outside = [url for url in page.requests if not url.startswith(("data:", "blob:"))]
    if outside != [path.resolve().as_uri()]:
        found.append(f"it asked for {outside}")
    found += [f"it names something to load: {each}" for each in loading]
    found += [f"it complained: {each}" for each in page.complaints]
    if drawn != len(expected) or set(charts) != set(expected):
        found.append(f"it has drawn {drawn} charts of {sorted(charts)}, expected are {sorted(expected)}")
    for name, chart in charts.items():
        found += [f"{name} is empty"] if chart["isEmpty"] else []
        found += [
            f"{name} has {chart['marks'][kind]} {kind}, expected are {least} or more"
            for kind, least in expected.get(name, {}).items()
            if chart["marks"][kind] < least
        ]
        found += [f"{name}: {text!r} is cut off" for text in chart["cut"]]
        found += [f"{name}: {texts} overlap" for texts in chart["overlapping"]]
    found += [f"hard to read in {theme}: {each}" for each in faint]
    return found + [f"too wide for its place: {each!r}" for each in wide]
