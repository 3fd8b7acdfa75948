"""The example notebook runs, and what it shows is what it says. ``tests.reports.notebook`` writes it anew."""

from __future__ import annotations

from pathlib import Path

import nbformat
from tests.reports.notebook import executed, outputs

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/examples/first_backtest.ipynb"


def test_the_example_notebook_shows_what_it_computes() -> None:
    """Executed anew in a fresh kernel, every output is the stored one."""
    stored = outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert len(stored) >= 9
    assert outputs(executed(NOTEBOOK)) == stored
    assert NOTEBOOK.stat().st_size < 30_000
