"""The dashboards on the stack that users start: every panel has data, or waits for an event and says which."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from deploy.grafana.board import WHAT_HAPPENED
from deploy.grafana.boards.ledger import NO_ALERTMANAGER, NO_DESTINATION
from deploy.grafana.boards.market_data import NO_EXCHANGE
from tests.backtesting import tapeline
from tests.dashboards.prometheus import Prometheus, Target, running_prometheus
from tests.dashboards.reading import QUIET, committed, promql, queries_of
from tests.dashboards.test_queries import SCRAPES, WATCHDOG, WINDOW, empty, refused

import tapeline_common
from tapeline_common.embedded import Stack, running_stack

pytestmark = [pytest.mark.servers, pytest.mark.monitoring, pytest.mark.slow, pytest.mark.timeout(300)]

FASTER = ("interval_ms = 100", "interval_ms = 20")
"""The default market with five times as many bars: trades and a first model come sooner."""

HAPPENED = {
    "sum(tapeline_trades_closed_total) > 0": "a trade was closed",
    "sum(tapeline_preset_rewards_total) > 0": "a preset was rewarded",
    "max(tapeline_verified_time_seconds) > 0": "the log was verified once",
    "count(tapeline_books_differences) > 0": "a day of the market ended and the books were reconciled",
    "count(tapeline_drift_score) > 0": "a model was promoted and has seen bars",
}

STILL_QUIET = {NO_ALERTMANAGER, NO_DESTINATION, NO_EXCHANGE, WHAT_HAPPENED}
"""What this stack never does, and what only draws what happened within seconds."""

PATIENCE_S = 240.0
"""A first model is trained beside everything else, with whatever the machine has left."""


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
        await asyncio.to_thread(_check, tmp_path, targets, stack.folder)


def _check(folder: Path, targets: list[Target], data: Path) -> None:
    dashboards = committed()
    with running_prometheus(folder, targets, [folder / "rules.yml"]) as prometheus:
        for expr, why in HAPPENED.items():
            prometheus.wait_for(expr, why, PATIENCE_S)
        prometheus.wait_for(f"count(count_over_time(up[1m]) >= {SCRAPES}) == {len(targets)}", "all were scraped")
        assert refused(dashboards, prometheus) == []
        nothing = empty(dashboards, prometheus)
        _check_a_halt(prometheus, data)
    marks = {expr for where, expr in queries_of(dashboards, "expr") if ": annotation " in where}
    quiet = {expr for expr, reason in QUIET.items() if reason in STILL_QUIET}
    assert {where: expr for expr, where in nothing.items() if expr not in marks | quiet} == {}


def _check_a_halt(prometheus: Prometheus, data: Path) -> None:
    """An operator's halt is marked on the boards and drawn where it belongs: what waits for an event gets one."""
    asked = dict(queries_of(committed(), "expr"))
    halted = tapeline("halt", "--reason", "to be seen", "--data", str(data))
    assert halted.returncode == 0, halted.stderr
    for where in ("overview.json: annotation Not trading", "ledger.json: Control requests"):
        prometheus.wait_for(promql(asked[where], window=WINDOW), f"{where} shows the halt")
    prometheus.wait_for(f"({promql(asked['overview.json: Trading'], window=WINDOW)}) == 1", "the overview says HALTED")
