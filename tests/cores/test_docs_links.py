"""Every link in the documentation leads somewhere, and every command in it is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tapeline_common.cli import tapeline

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")])

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The names by which headings of a page can be linked to, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """Links of a page's text that lead nowhere."""
    found = []
    for link in _LINK.findall(_CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings; what lies on the web is not asked."""
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_a_link_to_nowhere_is_caught() -> None:
    """The check can fail: on a missing file, and on a missing heading of one that is there."""
    text = "[a](docs/nowhere.md) [b](docs/operating.md#nowhere) [c](docs/operating.md#backup) `[d](nowhere.md)`"
    assert broken(ROOT / "README.md", text) == ["docs/nowhere.md", "docs/operating.md#nowhere"]


_CALL = re.compile(r"(?:^|\$ |until |&& |\$\()(tapeline [^|;&)<>\n]*)", re.MULTILINE)


def calls(text: str) -> list[list[str]]:
    """The calls of ``tapeline`` in a page's blocks of commands; not those with what only a shell can make words of.

    ``POSITION`` stands for a number from the command before.
    """
    found = []
    for block in re.findall(r"```(?:bash|console)\n(.*?)```", text, flags=re.DOTALL):
        for call in _CALL.findall(block.replace("\\\n", " ")):
            if "$" not in call and call.count('"') % 2 == 0:
                found.append(shlex.split(call.replace("POSITION", "1"), comments=True)[1:])
    return found


def refused(words: list[str]) -> str:
    """Why the command line would not take a call; empty if it would."""
    command = tapeline.get_command(click.Context(tapeline), words[0]) if words else None
    if command is None:
        return f"no command {' '.join(words)}"
    try:
        command.make_context(words[0], words[1:])
    except click.exceptions.Exit:
        return ""
    except click.UsageError as trouble:
        return f"{' '.join(words)}: {trouble.format_message()}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_shown_is_one(page: Path) -> None:
    """Its name and its options exist; that it does what is said is tried where servers run."""
    assert [why for words in calls(page.read_text(encoding="utf-8")) if (why := refused(words))] == []


def test_a_command_that_is_none_is_caught() -> None:
    """The check can fail: on a command and on an option that do not exist."""
    text = "```bash\ntapeline hault --reason x\n$ tapeline halt --raison x\ntapeline halt && tapeline resume\n```"
    assert [bool(refused(words)) for words in calls(text)] == [True, True, False, False]
