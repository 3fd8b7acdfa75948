"""Every query to Prometheus runs on a real one, and returns what its panel draws."""

import time
from collections.abc import Iterator

import pytest
from tests.dashboards.known import SERVICES, everything_exposed
from tests.dashboards.prometheus import Prometheus, QueryRefused, Target, running_prometheus
from tests.dashboards.reading import QUIET, Dashboards, committed, promql, queries_of

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(170)]

WINDOW = "10s"
SCRAPES = 4
"""A rate needs two; two more make sure of it whatever the moment at which it is asked."""

ASKED, SCRAPE_S = 3, 1.0
"""A scrape that took too long takes away all that a service has told, until the next one."""

WATCHDOG = """\
groups:
  - name: test
    rules:
      - alert: Watchdog
        expr: vector(1)
        labels: { severity: page }
"""


def refused(dashboards: Dashboards, prometheus: Prometheus) -> list[str]:
    """Queries that Prometheus does not understand."""
    found = []
    for where, expr in queries_of(dashboards, "expr"):
        try:
            prometheus.formatted(promql(expr, window=WINDOW))
        except QueryRefused as trouble:
            found.append(f"{where}: {trouble}")
    return found


def empty(dashboards: Dashboards, prometheus: Prometheus, window: str = WINDOW) -> dict[str, str]:
    """Queries that return nothing, however often they are asked: query → where it stands.

    Args:
        window: of rates, several scrapes long.
    """
    nothing = {expr: where for where, expr in queries_of(dashboards, "expr")}
    for asked in range(ASKED):
        if asked and nothing:
            time.sleep(SCRAPE_S)
        nothing = {expr: where for expr, where in nothing.items() if not prometheus.series(promql(expr, window=window))}
    return nothing


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes services on which everything that is measured has happened."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yml").write_text(WATCHDOG)
    with everything_exposed() as port:
        targets = [Target(service, f"127.0.0.1:{port}", f"/{service}") for service in SERVICES]
        with running_prometheus(folder, targets, [folder / "rules.yml"]) as server:
            server.wait_for(
                f"count(count_over_time(up[1m]) >= {SCRAPES}) == {len(SERVICES)}", "every service was scraped"
            )
            yield server


def test_every_query_is_understood(prometheus: Prometheus) -> None:
    """Prometheus parses each, with every variable filled in."""
    assert refused(committed(), prometheus) == []


def test_every_query_returns_something_once_everything_has_happened(prometheus: Prometheus) -> None:
    """Names, labels and joins fit together: on a stack that has seen every event, no panel is empty.

    Annotations mark changes, and nothing changes here but counters; what they read exists all the same.
    """
    marks = {expr for where, expr in queries_of(committed(), "expr") if ": annotation " in where}
    assert {expr: where for expr, where in empty(committed(), prometheus).items() if expr not in marks} == {}


def test_a_query_that_cannot_be_parsed_and_one_that_finds_nothing_are_caught(prometheus: Prometheus) -> None:
    """The checks can fail."""
    dashboards = committed()
    panel = dashboards["overview.json"]["panels"][1]
    panel["targets"][0]["expr"] = "max(tapeline_equity"
    assert [said.partition(":")[0] for said in refused(dashboards, prometheus)] == ["overview.json"]
    panel["targets"][0]["expr"] = "max(tapeline_equitty)"
    assert empty(dashboards, prometheus)["max(tapeline_equitty)"] == "overview.json: Trading"


def test_what_may_be_quiet_is_asked_somewhere() -> None:
    """The list of queries that wait for an event names only queries there are, each with its reason."""
    asked = {expr for _, expr in queries_of(committed(), "expr")}
    assert QUIET.keys() - asked == set()
    assert all(QUIET.values())
