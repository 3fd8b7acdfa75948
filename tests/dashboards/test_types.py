"""The committed JSON has the types that Grafana publishes for it (npm's @grafana/schema), as TypeScript sees it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.dashboards.reading import Dashboards, Panel, committed, panels_of

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(170)]

PACKAGES = ("@grafana/schema@12.2.0", "typescript@5.9.3")
"""The schema of the Grafana in docker-compose.yml."""

PLUGINS = ("stat", "bargauge", "timeseries", "statetimeline", "heatmap", "table", "text")
FILES = {"stat": "Stat", "bargauge": "BarGauge", "timeseries": "TimeSeries", "statetimeline": "StateTimeline"}
FILES |= {"heatmap": "Heatmap", "table": "Table", "text": "Text"}
WITH_FIELDS = ("timeseries", "statetimeline", "table")

OF_THE_DATA_SOURCE = ("expr", "titleFormat", "step")
"""Of an annotation: what belongs to Prometheus' own plugin, of which the schema knows nothing."""

HEAD = """\
import type { Dashboard } from '@grafana/schema';

// JSON has the values of enums, not their names: any enum may be given as its value.
type Written<T> = T extends string ? `${T}` : T extends object ? { [Key in keyof T]: Written<T[Key]> } : T;
"""

TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "types": [],
    },
    "files": ["dashboards.ts"],
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler and the schema in it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm on this machine: install Node.js")
    folder = tmp_path_factory.mktemp("schema")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    return folder


def source_of(dashboards: Dashboards) -> str:
    """A constant for each dashboard, and for the options and own fields of each panel, of the types they must have."""
    lines = [HEAD]
    for plugin in PLUGINS:
        path = f"@grafana/schema/dist/types/raw/composable/{plugin}/panelcfg/x/{FILES[plugin]}PanelCfg_types.gen.d.ts"
        names = f"Options as {plugin}Options"
        if plugin in WITH_FIELDS:
            names += f", FieldConfig as {plugin}FieldConfig"
        lines.append(f"import type {{ {names} }} from '{path}';")
    for name, dashboard in dashboards.items():
        for annotation in dashboard["annotations"].get("list", []):
            for key in OF_THE_DATA_SOURCE:
                annotation.pop(key, None)
        word = name.removesuffix(".json").replace("-", "_")
        lines.append(f"export const {word}: Written<Dashboard> = {json.dumps(dashboard)};")
        for panel in panels_of(dashboard):
            lines += _panel(word, panel)
    return "\n".join(lines) + "\n"


def _panel(dashboard: str, panel: Panel) -> list[str]:
    plugin = panel["type"].replace("-", "")
    word = f"{dashboard}_{panel['id']}"
    lines = [f"export const {word}: Written<Partial<{plugin}Options>> = {json.dumps(panel['options'])};"]
    own = panel["fieldConfig"]["defaults"].get("custom")
    if own is not None:
        assert plugin in WITH_FIELDS, plugin
        lines.append(f"export const {word}_own: Written<Partial<{plugin}FieldConfig>> = {json.dumps(own)};")
    return lines


def complaints(folder: Path, dashboards: Dashboards) -> list[str]:
    """What the compiler says."""
    (folder / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    (folder / "dashboards.ts").write_text(source_of(dashboards))
    done = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc", "--pretty", "false"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout.splitlines()


def test_dashboards_have_the_published_types(packages: Path) -> None:
    """Dashboards, and the options and own fields of each kind of panel: known names, right values."""
    assert complaints(packages, committed()) == []


def test_wrong_types_are_caught(packages: Path) -> None:
    """The check can fail: on an unknown name, on a word that is none of an enum, and on a number that is a text."""
    dashboards = {"overview.json": committed()["overview.json"]}
    first: dict[str, Any] = dashboards["overview.json"]["panels"][1]
    first["fieldConfig"]["defaults"]["color"]["mode"] = "rainbow"
    first["gridPos"]["w"] = "4"
    first["options"]["colourMode"] = "value"
    said = "\n".join(complaints(packages, dashboards))
    for wrong in ('"rainbow"', "Type 'string' is not assignable to type 'number'", "colourMode"):
        assert wrong in said
