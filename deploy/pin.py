"""Pins every third-party package: ``make pins`` resolves afresh and writes the result down in two places.

- the root ``pyproject.toml``: ``constraint-dependencies`` (and the build's), so that ``uv sync`` anywhere installs the
  versions the tests ran with. A lock file would say the same, but it also names the registry it was made from, which
  is the business of the machine that installs; so the repository has constraints and no ``uv.lock``.
- ``deploy/requirements.txt``: the same versions with the hashes of their files, for the images.

The resolution is universal: one list for every supported Python and platform, with markers where versions differ.
Works on a copy; a failure leaves the files as they were. Standard library only; run by uv's own Python.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "pyproject.toml"
REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
BUILD_GROUP = "build"
HEADER = "# Written by `make pins`: what the images install, with the hashes of the files.\n"
TABLES = ("constraint-dependencies", "build-constraint-dependencies")


def rewritten(text: str, table: str, lines: list[str]) -> str:
    """The project file with the list ``table`` of ``[tool.uv]`` replaced."""
    block = f"{table} = [\n" + "".join(f'  "{line}",\n' for line in lines) + "]\n"
    changed, count = re.subn(rf"^{table} = \[\n.*?^\]\n", lambda _: block, text, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        sys.exit(f"pyproject.toml: {table} appears {count} times as a list over several lines; once is wanted")
    return changed


def export(uv: str, folder: Path, *options: str) -> str:
    """What ``uv export`` prints: no header, no comments, nothing of the workspace itself."""
    plain = ("--no-emit-workspace", "--no-annotate", "--no-header", "--format", "requirements.txt")
    return run(uv, folder, "export", "--quiet", *plain, *options)


def run(uv: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run([uv, *arguments], cwd=folder, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"uv {arguments[0]} failed with code {done.returncode}; nothing was changed")
    return done.stdout


def requirement(line: str) -> str:
    """One exported line as a constraint, in TOML's basic string: markers keep their single quotes."""
    return re.sub(r"\s+", " ", line.strip())


def main(uv: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tapeline-pins-") as temporary:
        folder = Path(temporary) / "tree"
        folder.mkdir()
        for name in ("libs", "services"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        text = PROJECT.read_text()
        for table in TABLES:
            text = rewritten(text, table, [])
        (folder / "pyproject.toml").write_text(text)
        run(uv, folder, "lock", "--quiet")
        everything = export(uv, folder, "--no-hashes", "--all-groups", "--all-extras", "--all-packages")
        building = export(uv, folder, "--no-hashes", "--only-group", BUILD_GROUP)
        for table, listed in zip(TABLES, (everything, building), strict=True):
            text = rewritten(text, table, [requirement(line) for line in listed.splitlines() if line.strip()])
        (folder / "pyproject.toml").write_text(text)
        run(uv, folder, "lock", "--quiet")
        hashed = export(uv, folder, "--no-dev", "--group", BUILD_GROUP, "--all-extras", "--all-packages")
    PROJECT.write_text(text)
    REQUIREMENTS.write_text(HEADER + hashed)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "uv")
