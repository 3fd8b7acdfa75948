"""The dashboards on the stack that users start: every panel has data, or waits for an event and says which."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.dashboards.prometheus import Target, running_prometheus
from tests.dashboards.reading import QUIET, committed, queries_of
from tests.dashboards.test_queries import SCRAPES, WATCHDOG, empty, refused

import tapeline_common
from tapeline_common.embedded import Stack, running_stack

pytestmark = [pytest.mark.servers, pytest.mark.monitoring, pytest.mark.slow, pytest.mark.timeout(300)]

FASTER = ("interval_ms = 100", "interval_ms = 20")
"""The default market with five times as many bars: trades and a first model come sooner."""

HAPPENED = {
    "max(tapeline_regime_probability) > 0": "a model was promoted",
    "sum(tapeline_trades_closed_total) > 0": "a trade was closed",
    "sum(tapeline_preset_rewards_total) > 0": "a preset was rewarded",
    "max(tapeline_verified_time_seconds) > 0": "the log was verified once",
}


@asynccontextmanager
async def stack_on(folder: Path) -> AsyncIterator[Stack]:
    for each in (folder, folder.parent):
        each.chmod(0o755)
    text = (Path(tapeline_common.__file__).parent / "default.toml").read_text()
    assert FASTER[0] in text
    (folder / "tapeline.toml").write_text(text.replace(*FASTER))
    stack = Stack(folder / "data", folder / "tapeline.toml")
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def test_every_panel_has_data_on_a_running_stack(tmp_path: Path) -> None:
    """Parsed, and at least one series each; what returns nothing is listed as waiting for an event."""
    (tmp_path / "rules.yml").write_text(WATCHDOG)
    async with stack_on(tmp_path) as stack:
        running = running_stack(stack.folder)
        assert running is not None
        targets = [Target(name, f"127.0.0.1:{port}") for name, port in running.metrics.items()]
        # In a thread: the stack's supervision runs in this event loop.
        await asyncio.to_thread(_check, tmp_path, targets)


def _check(folder: Path, targets: list[Target]) -> None:
    dashboards = committed()
    with running_prometheus(folder, targets, [folder / "rules.yml"]) as prometheus:
        for expr, why in HAPPENED.items():
            prometheus.wait_for(expr, why)
        prometheus.wait_for(f"count(count_over_time(up[1m]) >= {SCRAPES}) == {len(targets)}", "all were scraped")
        assert refused(dashboards, prometheus) == []
        nothing = empty(dashboards, prometheus)
    marks = {expr for where, expr in queries_of(dashboards, "expr") if ": annotation " in where}
    assert {where: expr for expr, where in nothing.items() if expr not in marks and expr not in QUIET} == {}
