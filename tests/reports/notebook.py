"""Runs a notebook in a kernel of this environment and drops what differs between runs.

``python -m tests.reports.notebook docs/examples/first_backtest.ipynb`` writes the outputs into the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

STORED = ("stream", "execute_result")


def executed(path: Path) -> Any:
    """The notebook with fresh outputs as text. Raises nbclient.exceptions.CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"] = {"text/plain": output["data"]["text/plain"]}
    return notebook


def outputs(notebook: Any) -> list[str]:
    """Text of every output, in order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output["output_type"] in STORED, f"{cell['id']} wrote {output}"
            text = output["text"] if "text" in output else output["data"]["text/plain"]
            found.append("".join(text))
    return found


if __name__ == "__main__":
    wanted = Path(sys.argv[1])
    nbformat.write(executed(wanted), wanted)
