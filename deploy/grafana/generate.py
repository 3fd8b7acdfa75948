"""Writes the dashboards and the page about them: ``python -m deploy.grafana.generate``, or ``make dashboards``.

The files are committed, because Grafana reads them as they are; ``--check`` only says which are stale (exit code 1).
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana.boards import BOARDS
from deploy.grafana.page import page_of
from deploy.grafana.render import text_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("deploy/grafana/dashboards")
PAGE = Path("docs/dashboards.md")


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    return {**{FOLDER / f"{board.name}.json": text_of(board) for board in BOARDS}, PAGE: page_of(BOARDS)}


def stale(root: Path) -> list[Path]:
    """Files that are not as generated, and files in the folder of dashboards that nobody generates any more."""
    wanted = generated()
    differing = [path for path, text in wanted.items() if _text(root / path) != text]
    left = [path.relative_to(root) for path in sorted((root / FOLDER).glob("*.json"))]
    return [*differing, *(path for path in left if path not in wanted)]


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def main(check: bool) -> int:
    found = stale(ROOT)
    if not check:
        wanted = generated()
        for path in found:
            if path in wanted:
                (ROOT / path).write_text(wanted[path])
            else:
                (ROOT / path).unlink()
    sys.stdout.write(f"{'stale' if check else 'written'}: {', '.join(map(str, found)) or 'nothing'}\n")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
