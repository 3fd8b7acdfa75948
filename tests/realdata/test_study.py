"""The study of ``docs/study-btc.md`` is what its commands give: each runs, and no figure on the page has gone stale.

The page is run in one shell, block after block, in a folder of its own. Below a block stands what it printed, shortened
by lines ``...``; every other line must have been printed, in that order. Decimals in the text must be in some output.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.e2e.test_docs import ROOT, blocks_of, in_environment

DATA = Path(os.environ.get("TAPELINE_DATA") or ROOT.parent / "shared" / "data")
HOURS = DATA / "crypto" / "binance" / "1h"
COINS = ("BTC", "ETH", "BNB", "SOL", "XRP")

PAGE = ROOT / "docs" / "study-btc.md"
PICTURE = PAGE.with_suffix(".svg")
LARGEST_PICTURE = 60_000

LEFT_OUT = "..."
MARK = "== next block"
PATIENCE_S = 1500.0

needs_data = pytest.mark.skipif(
    not all(any(HOURS.glob(f"{coin}USDT_*.parquet")) for coin in COINS),
    reason=f"no recorded hours of {', '.join(COINS)} at {HOURS} (set TAPELINE_DATA)",
)

_SHOWN = re.compile(r"<!-- test -->\n```bash\n.*?\n```\n\n```text\n(.*?)\n```", re.DOTALL)
_FENCED = re.compile(r"```.*?```", re.DOTALL)
_DECIMAL = re.compile(r"(?<![\w.,])\d[\d,]*\.\d+(?!\d|\.\d)")


def shown_in(text: str) -> list[list[str]]:
    """What the page shows below each of its blocks."""
    return [found.splitlines() for found in _SHOWN.findall(text)]


def stale_line(shown: Sequence[str], printed: str) -> str | None:
    """The first line that was not printed behind the ones before it; ``None`` if all were."""
    left = iter(line.rstrip() for line in printed.splitlines())
    return next((line for line in shown if line != LEFT_OUT and line.rstrip() not in left), None)


def stale_decimals(text: str, printed: str) -> list[str]:
    """Decimals in the page's own words that are in no output."""
    return sorted(set(_DECIMAL.findall(_FENCED.sub("", text))) - set(_DECIMAL.findall(printed)))


def run_page(text: str, folder: Path) -> list[str]:
    """What each block prints, all of them run in one shell. Fails at the first command that does."""
    blocks = [block.commands for block in blocks_of(text)]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(f"echo '{MARK}'\n{commands}" for commands in blocks)],
        cwd=folder,
        env={**in_environment(), "TAPELINE_DATA": str(DATA)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    _, *printed = done.stdout.split(f"{MARK}\n")
    assert done.returncode == 0, f"block {len(printed)} failed: {printed[-1]}\n{done.stderr}"
    return printed


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text(encoding="utf-8")


@needs_data
@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S + 60)
def test_the_page_is_what_its_commands_print(text: str, tmp_path: Path) -> None:
    """From the list of files to the days held out: exit codes, every line shown, every decimal, the picture."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    printed = run_page(text, tmp_path)
    stale = [stale_line(*pair) for pair in zip(shown_in(text), printed, strict=True)]
    assert stale == [None] * len(printed)
    assert stale_decimals(text, "\n".join(printed)) == []
    assert (tmp_path / PICTURE.name).read_bytes() == PICTURE.read_bytes()


def test_every_block_has_its_output(text: str) -> None:
    """No command stands there without what it said, and each output shows something of it."""
    shown = shown_in(text)
    assert len(shown) == len(blocks_of(text)) == text.count("```bash") > 9
    assert all(any(line != LEFT_OUT for line in lines) for lines in shown)


def test_decimals_of_the_text_are_in_the_outputs_shown(text: str) -> None:
    """Also where there is no data to run it on: the words agree with what the page itself shows."""
    assert stale_decimals(text, "\n".join(line for lines in shown_in(text) for line in lines)) == []


def test_a_stale_page_is_caught(tmp_path: Path) -> None:
    """The checks can fail: on an exit code, on a changed figure, on lines in another order, and in the words."""
    printed = "│ Sharpe │ 1.192 │\n│ t      │ 0.793 │\n"
    assert stale_line(["│ Sharpe │ 1.192 │", "...", "│ t      │ 0.793 │"], printed) is None
    assert stale_line(["...", "│ Sharpe │ 1.193 │"], printed) == "│ Sharpe │ 1.193 │"
    assert stale_line(["│ t      │ 0.793 │", "│ Sharpe │ 1.192 │"], printed) == "│ Sharpe │ 1.192 │"
    page = "It has 1.192, then 0.79.\n```text\n9.99\n```\n"
    assert stale_decimals(page, printed) == ["0.79"]
    page = "<!-- test -->\n```bash\nx=1.5\n```\n\n<!-- test -->\n```bash\necho $x\n```\n"
    assert run_page(page, tmp_path) == ["", "1.5\n"]
    with pytest.raises(AssertionError, match="block 2 failed"):
        run_page(page.replace("echo $x", "test $x = 2"), tmp_path)


def test_the_picture_is_small_and_fits_dark_and_light() -> None:
    drawn = PICTURE.read_text(encoding="utf-8")
    assert len(drawn.encode()) < LARGEST_PICTURE
    assert "prefers-color-scheme: dark" in drawn
