"""What a backtest promised and what was left, as one picture: ``study_picture.py SWEEPS WALKS out.svg COIN...``.

Reads the studies in the folders SWEEPS/COIN and WALKS/COIN. The upper line of a panel is the best setting of the whole
search, which nobody could have known; the lower one is the walk-forward, which only knew the days before. Both are
drawn on the same days: those of the walk-forward's tests.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tapeline_lab.search import load

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]
"""Left, top, width and height of the room that lines have."""

TITLE = "The same rule on the same days: what the best backtest shows, and what was left"
SIZE = (900, 535)
MOST_POINTS = 230
DAY_S = 86_400

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 17px; font-weight: 600 } .coin { font-weight: 600 } .quiet { fill: #777; font-size: 11px }
.line { fill: none; stroke-linejoin: round } .grid { stroke: #8884; stroke-width: 1 }
.promised { stroke: #8a8f98; stroke-width: 1.6 } .left { stroke: #c8452f; stroke-width: 2.2 }
.promised-text { fill: #6b7078; font-weight: 600 } .left-text { fill: #c8452f; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .quiet { fill: #999 } .promised { stroke: #9aa3b2 } .left { stroke: #ff7a5c }
  .promised-text { fill: #b4bccb } .left-text { fill: #ff7a5c }
}
""".strip()


def curves(sweep: Path, walk: Path) -> tuple[Ints, Floats, Floats]:
    """Days since 1970, and on each the growth of the best setting of a search and of a walk-forward's tests."""
    searched, walked = load(sweep), load(walk)
    best = searched.best()
    if best is None:
        raise SystemExit(f"{sweep}: no trial has a value of what was looked for")
    days = walked.tested_days(best.instrument, best.timeframe)
    _, outside = walked.walked(best.instrument, best.timeframe, best.strategy)
    column = searched.returns()[:, searched.on(0).index(best)]
    promised = column[np.isin(searched.days(), days)]
    return days, grown(promised), grown(outside)


def grown(returns: Floats) -> Floats:
    """What was gained since before the first day."""
    growth: Floats = (np.cumprod(1.0 + returns) - 1.0).astype(np.float64)
    return growth


def panel(coin: str, box: Box, days: Ints, promised: Floats, left: Floats) -> list[str]:
    """One coin: both curves, the line of no gain, the first and the last day, and what they ended with."""
    x, y, width, height = box
    low, high = (float(edge(np.concatenate([[0.0], promised, left]))) for edge in (np.min, np.max))

    def down(value: float) -> float:
        return y + height * (high - value) / (high - low)

    kept = np.unique(np.linspace(0, len(days) - 1, min(MOST_POINTS, len(days))).astype(int))
    across = x + width * kept / (len(days) - 1)
    parts = [
        f'<text class="coin" x="{x:g}" y="{y - 12:g}">{coin}</text>',
        f'<line class="grid" x1="{x:g}" x2="{x + width:g}" y1="{down(0):.1f}" y2="{down(0):.1f}"/>',
    ]
    ends = {"promised": down(float(promised[-1])), "left": down(float(left[-1]))}
    upper = min(ends, key=lambda name: ends[name])
    if abs(ends["promised"] - ends["left"]) < 15:
        ends[upper] -= 15 - abs(ends["promised"] - ends["left"])
    for name, curve in (("promised", promised), ("left", left)):
        points = " ".join(f"{a:.1f},{down(b):.1f}" for a, b in zip(across, curve[kept].tolist(), strict=True))
        parts.append(f'<polyline class="line {name}" points="{points}"/>')
        said = f"{curve[-1]:+.0%}"
        parts.append(f'<text class="{name}-text" x="{x + width + 5:g}" y="{ends[name] + 4:.1f}">{said}</text>')
    for day, place, anchor in ((days[0], x, "start"), (days[-1], x + width, "end")):
        named = datetime.fromtimestamp(int(day) * DAY_S, UTC).date().isoformat()
        parts.append(f'<text class="quiet" text-anchor="{anchor}" x="{place:g}" y="{y + height + 18:g}">{named}</text>')
    return parts


def picture(sweeps: Path, walks: Path, coins: list[str]) -> str:
    """The first coin above, the others in a row below it."""
    first, *others = coins
    boxes: list[Box] = [(20, 100, 800, 200)]
    room = (SIZE[0] - 40) / max(1, len(others))
    boxes += [(20 + room * place, 390, room - 60, 120) for place in range(len(others))]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE[0]} {SIZE[1]}" role="img" '
        'aria-label="The best backtest beside the walk-forward, coin by coin">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="20" y="28">{TITLE}</text>',
        '<text class="promised-text" x="20" y="52">best of the search, chosen with all days known</text>',
        '<text class="left-text" x="400" y="52">walk-forward, chosen by the days before</text>',
    ]
    for coin, box in zip([first, *others], boxes, strict=True):
        lines += panel(coin, box, *curves(sweeps / coin, walks / coin))
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    sweeps, walks, out, *named = sys.argv[1:]
    Path(out).write_text(picture(Path(sweeps), Path(walks), named), encoding="utf-8")
    sys.stdout.write(f"wrote {out}\n")
