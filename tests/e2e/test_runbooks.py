"""The emergency pages do what they say: their commands run on a stack that trades, and on one that was lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.test_docs import ROOT, blocks_of, in_environment, run, trading_stack

PAGES = ("halt", "credentials-exposed", "venue-outage", "database-loss", "disk-full")

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(175)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a running stack, the data folder ``lost`` of another that stopped, and its backup ``lost.tape``."""
    folder = tmp_path_factory.mktemp("emergency")
    for each in (folder, folder.parent):
        each.chmod(0o755)
    for words in ("up --data lost --for 1", "backup lost.tape --data lost"):
        subprocess.run(
            ["tapeline", *words.split()], cwd=folder, env=in_environment(), check=True, stdout=subprocess.DEVNULL
        )
    with trading_stack(folder):
        yield folder


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_an_emergency_page_work(page: str, place: Path) -> None:
    """Every marked command ends with exit code 0 and shows what the page promises."""
    blocks = blocks_of((ROOT / "docs" / "runbooks" / f"{page}.md").read_text(encoding="utf-8").replace("\n   ", "\n"))
    assert blocks, f"{page} has no commands to try"
    for block in blocks:
        run(block, place)
