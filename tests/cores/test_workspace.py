"""The workspace keeps its own promises: pins agree, nothing names a machine or a registry, the make targets exist."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?:\s*;\s*(?P<marker>.+?))?")
TARGETS = ("run", "test", "test-slow", "check", "backtest", "bench", "pins", "clean", "help")


def pins(lines: list[str]) -> dict[str, set[str]]:
    """Name → pinned versions; a line that is no exact pin fails."""
    found: dict[str, set[str]] = {}
    for line in lines:
        pin = PINNED.fullmatch(line)
        assert pin, f"{line!r} pins no exact version"
        found.setdefault(pin["name"], set()).add(pin["version"])
    return found


def requirement_lines() -> list[str]:
    """The requirements of the images, one per line, without their hashes."""
    text = (ROOT / "deploy" / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all("--hash=sha256:" in line for line in lines)
    return [line.split("--hash")[0].strip() for line in lines]


def project_files() -> list[Path]:
    """What git holds or would hold; every file beside the ignored folders where there is no git."""
    asked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if asked.returncode == 0:
        return [ROOT / name for name in asked.stdout.splitlines() if (ROOT / name).is_file()]
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    return [path for path in ROOT.rglob("*") if path.is_file() and not ignored & set(path.relative_to(ROOT).parts)]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_dependency_is_pinned() -> None:
    """What any package of the workspace asks for has an exact version, and so has what its build asks for."""
    constrained = pins(PROJECT["tool"]["uv"]["constraint-dependencies"])
    building = pins(PROJECT["tool"]["uv"]["build-constraint-dependencies"])
    asked: set[str] = set()
    built: set[str] = set()
    for path in [ROOT / "pyproject.toml", *ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]:
        project = tomllib.loads(path.read_text())
        lists = [project["project"].get("dependencies", [])]
        lists += project["project"].get("optional-dependencies", {}).values()
        lists += project.get("dependency-groups", {}).values()
        asked.update(_name(line) for listed in lists for line in listed)
        built.update(_name(line) for line in project.get("build-system", {}).get("requires", []))

    assert {name for name in asked if not name.startswith("tapeline")} - set(constrained) == set()
    assert built - set(building) == set()


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0].lower()


def test_the_images_install_the_versions_that_are_tested() -> None:
    """deploy/requirements.txt is a part of the constraints, version by version, and holds what builds the packages."""
    constrained = pins(PROJECT["tool"]["uv"]["constraint-dependencies"])
    installed = pins(requirement_lines())

    assert {name: constrained.get(name) for name in installed} == installed
    building = pins(PROJECT["tool"]["uv"]["build-constraint-dependencies"])
    assert {name: installed.get(name) for name in building} == building


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Where packages come from, and where a checkout lies, is the business of the machine that installs."""
    registries = ("py" + "pi.org", "python" + "hosted.org", "simple" + "/index")
    homes = re.compile(r"(?<![\w.])/(?:" + "|".join(("root", r"home/\w+", r"Users/\w+", "work")) + r")/")
    found = []
    for path in project_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {name}" for name in registries if name in text]
        found += [f"{path.relative_to(ROOT)}: {home}" for home in homes.findall(text)]
    assert found == []


def test_there_is_no_lock_file_to_commit() -> None:
    """uv.lock names the registry it was made from; git ignores it."""
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()
    assert ROOT / "uv.lock" not in project_files()


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_exists_and_says_what_it_does(target: str) -> None:
    """The targets that the documents promise; `make` alone lists them."""
    assert target in makefile_targets()
    listed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True)
    assert re.search(rf"^make {target} +\S", listed.stdout, re.MULTILINE), listed.stdout + listed.stderr


def test_documents_name_only_targets_that_exist() -> None:
    """Every `make something` in code of a document is a target."""
    named = {
        target
        for path in project_files()
        if path.suffix == ".md"
        for code in re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), re.DOTALL)
        for target in re.findall(r"(?:^|[`\s])make ([a-z][a-z-]*)", code)
    }
    assert named - makefile_targets() == set()


def test_continuous_integration_runs_the_make_targets() -> None:
    """.ci/run and the workflow run the same targets as anybody; nothing is checked there that is not checked here."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    targets = ["make check", "make test", "make docs-test", "make report-test"]
    assert re.findall(r"^step \d+ (make (?:check|[a-z-]*test))$", text, re.MULTILINE) == targets

    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == targets


def test_the_workflow_can_only_read_and_pins_its_actions() -> None:
    """A read-only token, actions by major version, and no credentials left in the checkout."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]

    assert workflow["permissions"] == {"contents": "read"}
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used), used
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_hooks_need_no_other_host() -> None:
    """Every pre-commit hook is local and uses the tools of the workspace."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    entries = [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert all(entry.startswith(("uv run --no-sync ", "make ")) for entry in entries), entries
