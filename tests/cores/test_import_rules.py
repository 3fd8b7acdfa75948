"""The import rules hold, and each of them is shown to catch a bad import; so are the banned clock and chance."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "libs/common/src",
    "libs/lab/src",
    *(f"services/{path.name}/src" for path in sorted((ROOT / "services").iterdir())),
)
PROGRAMS = Path(sys.executable).parent
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

BAD_IMPORTS = [
    ("layers", "services/risk/src/tapeline_risk/limits.py", "import tapeline_execution.gate"),
    ("layers", "libs/common/src/tapeline_common/describe.py", "import tapeline_ledger.books"),
    ("layers", "services/marketdata/src/tapeline_marketdata/files.py", "import tapeline_backtest.feed"),
    ("pure", "services/risk/src/tapeline_risk/core.py", "import time"),
    ("pure", "libs/common/src/tapeline_common/values.py", "from datetime import datetime"),
    ("pure", "services/strategy/src/tapeline_strategy/sdk.py", "import tapeline_common.logs"),
    ("nats", "libs/common/src/tapeline_common/embedded.py", "import nats"),
    ("postgres", "services/regime/src/tapeline_regime/trainer.py", "import asyncpg"),
    ("exchanges", "services/marketdata/src/tapeline_marketdata/adapters.py", "from ccxt import async_support"),
    ("exchanges", "services/notifier/src/tapeline_notifier/process.py", "import aiohttp"),
    ("messengers", "services/notifier/src/tapeline_notifier/delivery.py", "import apprise"),
    ("pure", "services/notifier/src/tapeline_notifier/fold.py", "import time"),
    ("training", "services/regime/src/tapeline_regime/service.py", "import sklearn.mixture"),
    ("compression", "libs/common/src/tapeline_common/tape_file.py", "import zstandard"),
    ("compiler", "services/strategy/src/tapeline_strategy/ema_cross.py", "import numba"),
    ("search", "services/backtest/src/tapeline_backtest/runner.py", "import ray"),
]


def lint_imports(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the sources below ``tree``, whatever is installed."""
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    paths = os.pathsep.join(str(tree / source) for source in SOURCES)
    return subprocess.run(
        [PROGRAMS / "lint-imports", "--no-logo", "--no-cache", *chosen],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def project_sources() -> list[Path]:
    return [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))]


def module_of(path: Path) -> str:
    return path.relative_to(path.parents[1]).with_suffix("").as_posix().replace("/", ".")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources to break."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for source in SOURCES:
        shutil.copytree(ROOT / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_all_import_rules_hold() -> None:
    """The sources as they are break no rule."""
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("rule", "file", "line"), BAD_IMPORTS)
def test_a_bad_import_is_caught(rule: str, file: str, line: str, tree: Path) -> None:
    """Each rule fails on an import it is there to refuse, and names the module."""
    path = tree / file
    good = path.read_text()
    path.write_text(f"{good}\n{line}\n")
    try:
        checked = lint_imports(tree, rule)
    finally:
        path.write_text(good)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert module_of(path) in re.sub(r"\s", "", checked.stdout)
    assert "BROKEN" in checked.stdout


def test_every_rule_has_a_bad_import_that_shows_it() -> None:
    """A rule that was never seen to fail is no rule."""
    assert {rule for rule, _, _ in BAD_IMPORTS} == {contract["id"] for contract in RULES}


def test_every_core_is_under_the_rule_of_purity() -> None:
    """A module that makes a ``Core`` cannot be left out of the list."""
    listed = next(contract["source_modules"] for contract in RULES if contract["id"] == "pure")
    cores = {
        module_of(path)
        for path in project_sources()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "Core"
    }
    assert len(cores) >= 8
    assert cores - set(listed) == set()


def test_ccxt_is_named_by_one_module() -> None:
    """It is loaded by name, which no import rule sees: so nobody else may even name it in a load."""
    loads = re.compile(r"""import_module\(\s*["']ccxt|__import__\(\s*["']ccxt|import ccxt|from ccxt""")
    found = {module_of(path) for path in project_sources() if loads.search(path.read_text())}
    assert found == {"tapeline_marketdata.exchange"}


@pytest.mark.parametrize(
    "snippet",
    [
        "import time\n\nSTART = time.time()\n",
        "import time\n\nSTART = time.time_ns()\n",
        "from datetime import UTC, datetime\n\nSTART = datetime.now(UTC)\n",
        "import random\n\nDRAW = random.random()\n",
        "from random import random\n\nDRAW = random()\n",
        "import uuid\n\nNAME = uuid.uuid4()\n",
    ],
)
def test_clock_and_chance_are_refused(snippet: str) -> None:
    """ruff names the banned call and says why, in a file that lies among the sources."""
    verdict = _ruff(snippet)
    assert [found["code"] for found in verdict] == ["TID251"] * len(verdict)
    assert verdict
    assert all(re.search(r"stamp|chance|Ids are functions", found["message"]) for found in verdict)


def test_measuring_a_duration_is_allowed() -> None:
    """A monotonic clock says how long something took, never when: shells use it freely."""
    assert _ruff("import time\n\nSTARTED = time.perf_counter()\n") == []


def _ruff(snippet: str) -> list[dict[str, str]]:
    checked = subprocess.run(
        [
            PROGRAMS / "ruff",
            "check",
            "--no-cache",
            "--output-format=json",
            "--stdin-filename=services/risk/src/tapeline_risk/snippet.py",
            "-",
        ],
        cwd=ROOT,
        input=snippet,
        capture_output=True,
        text=True,
    )
    found: list[dict[str, str]] = json.loads(checked.stdout)
    return found


def test_every_exception_from_the_ban_gives_its_reason() -> None:
    """``noqa: TID251`` is followed by a reason in brackets."""
    lines = [
        f"{path.name}: {line.strip()}"
        for path in project_sources()
        for line in path.read_text().splitlines()
        if "noqa" in line and ("TID251" in line or re.search(r"#\s*noqa(?!:)", line))
    ]
    assert [line for line in lines if not re.search(r"# noqa: TID251\s+\(\S.{8,}\)$", line)] == []
