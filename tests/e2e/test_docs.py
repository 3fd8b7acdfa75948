"""The README and the user guide do what they say: their commands run, and what they promise to show appears.

A block of commands that is to be run stands below a comment ``<!-- test ... -->``:
``test`` runs it, ``running`` needs a running stack, ``shows: a | b`` are texts that must appear, ``compares hashes``
wants every printed tape hash to be the same.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "docs/getting-started.md",
    "docs/strategies.md",
    "docs/indicators.md",
    "docs/backtesting.md",
    "docs/sweeps.md",
    "docs/validity.md",
    "docs/reports.md",
    "docs/parity.md",
    "docs/walk-forward.md",
    "docs/bias.md",
    "docs/data.md",
    "docs/scenarios.md",
    "docs/operating.md",
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

_MARKED = re.compile(r"<!-- test(?P<how>[^>]*?) -->\n```(?P<kind>console|bash)\n(?P<body>.*?)\n```", re.DOTALL)

PATIENCE_S = 90.0


@dataclass(frozen=True)
class Block:
    """Commands of one marked block."""

    commands: str
    needs_stack: bool
    shows: tuple[str, ...]
    compares_hashes: bool


def blocks_of(text: str) -> list[Block]:
    """Every marked block; of a console block the lines after ``$``."""
    found = []
    for match in _MARKED.finditer(text):
        lines = match["body"].splitlines()
        if match["kind"] == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        shows = match["how"].partition("shows: ")[2]
        found.append(
            Block(
                "\n".join(lines),
                "running" in match["how"].partition("shows:")[0],
                tuple(part.strip() for part in shows.split(" | ") if part.strip()),
                "compares hashes" in match["how"],
            )
        )
    return found


def in_environment() -> dict[str, str]:
    """The repository's own environment first on the path, and no surprises from outside."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
    return {**variables, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}", "COLUMNS": "120"}


def run(block: Block, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.commands],
        cwd=folder,
        env=in_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{block.commands}\n{done.stdout}\n{done.stderr}"
    for text in block.shows:
        assert text in done.stdout, f"{block.commands}\nshows no {text!r}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def live_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on which ``tapeline up`` runs, from its first fill until the last page is done."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "deploy").symlink_to(ROOT / "deploy")
    for each in (folder, folder.parent):
        each.chmod(0o755)
    with trading_stack(folder):
        yield folder


@contextmanager
def trading_stack(folder: Path) -> Iterator[None]:
    """``tapeline up`` in a folder, from its first fill on; it has to end well, with a verified chain."""
    stack = subprocess.Popen(["tapeline", "up"], cwd=folder, env=in_environment(), stdout=subprocess.DEVNULL)
    try:
        _until_filled(folder, stack)
        yield
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(60)
    assert stack.returncode == 0, "the stack ends well, with a verified chain"


def _until_filled(folder: Path, stack: subprocess.Popen[bytes]) -> None:
    """Wait for progress: the first recorded fill."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        assert stack.poll() is None, "the stack stopped by itself"
        asked = ["tapeline", "tail", "--type", "OrderFilled", "--lines", "1"]
        seen = subprocess.run(asked, cwd=folder, env=in_environment(), capture_output=True, check=False)
        if seen.returncode == 0 and seen.stdout.strip():
            return
    pytest.fail("no fill was recorded in time")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place of one's own that has what a checkout has at its top, as far as the commands use it."""
    tmp_path.chmod(0o755)
    for name in ("deploy", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Every marked command ends with exit code 0 and shows the lines that the page promises."""
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    assert blocks, f"{page} has no commands to try"
    for block in blocks:
        said = run(block, request.getfixturevalue("live_folder") if block.needs_stack else folder)
        if block.compares_hashes:
            hashes = re.findall(r'"tape_hash":"([0-9a-f]{64})"', said)
            assert len(hashes) >= 2
            assert len(set(hashes)) == 1


def test_a_block_that_breaks_its_promise_is_caught(folder: Path) -> None:
    """The check can fail: on an exit code, and on a line that does not appear."""
    wrong_code, wrong_text = blocks_of(
        "<!-- test -->\n```bash\nexit 3\n```\n"
        "<!-- test shows: chain verified -->\n```console\n$ echo nothing\nchain verified\n```"
    )
    with pytest.raises(AssertionError, match="exit 3"):
        run(wrong_code, folder)
    with pytest.raises(AssertionError, match="chain verified"):
        run(wrong_text, folder)


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", *PAGES[1:], "docs/commands.md"])
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    """A relative link names a file of the repository."""
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (path.parent / link).exists()]
    assert not missing
