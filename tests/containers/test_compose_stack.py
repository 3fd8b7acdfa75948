"""``docker compose up`` as a user runs it: built, healthy, trading; whatever dies comes back; nothing is left behind.

In the order of the file: each test goes on with the stack of the one before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest
import yaml
from deploy.grafana.board import WHAT_HAPPENED
from deploy.grafana.boards.ledger import NO_DESTINATION
from deploy.grafana.boards.market_data import NO_EXCHANGE
from tests.containers.compose import PATIENCE_S, ROOT, LiveStack, Project, eventually, say, unhealthy
from tests.dashboards.prometheus import Prometheus
from tests.dashboards.reading import QUIET, committed, queries_of
from tests.dashboards.test_queries import empty, refused
from tests.dashboards.test_running_stack import HAPPENED

from tapeline_common.wiring import installed_services

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

FILE = "docker-compose.yml"
OURS = tuple(installed_services())
SERVICES: dict[str, dict[str, object]] = yaml.safe_load((ROOT / FILE).read_text())["services"]
RUNNING = tuple(
    name for name, service in SERVICES.items() if service.get("restart") != "no" and "profiles" not in service
)
HEALTHY_S = float(os.environ.get("TAPELINE_HEALTHY_S", "120"))
"""Within how many seconds of `up` all must be healthy; a very busy machine may need more."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """Built and not yet started; gone at the end, whatever happens."""
    stack = LiveStack(FILE, "tapeline-compose-test", keys=tmp_path_factory.mktemp("keys"))
    stack.down()
    say(f"building {len(OURS) + 1} images")
    begun_s = time.monotonic()
    stack.run("--profile", "*", "build")
    say(f"built in {time.monotonic() - begun_s:.0f} s")
    yield stack
    stack.down()


@pytest.fixture(autouse=True)
def told(stack: LiveStack, request: pytest.FixtureRequest) -> Iterator[None]:
    """What the containers said last, where a test failed."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        say(stack.last_words())


def all_go_on(stack: LiveStack) -> None:
    """Every service has heard a fact that was recorded after this was called."""
    goal = 0

    def is_recorded() -> bool:
        nonlocal goal
        goal = stack.head()
        return goal > 0

    eventually(is_recorded, "the ledger to answer")
    eventually(lambda: min(stack.heard(OURS).get(name, 0) for name in OURS) > goal, f"all to hear beyond {goal}")


def test_everything_is_healthy_soon(stack: LiveStack) -> None:
    """Health checks of all containers pass within two minutes of `up`; the one-shot containers ended well."""
    begun_s = time.monotonic()
    stack.run("up", "--detach", "--wait", "--wait-timeout", str(int(HEALTHY_S * 3)))
    took_s = time.monotonic() - begun_s
    say(f"all healthy in {took_s:.0f} s")
    containers = stack.containers()
    assert unhealthy(containers, RUNNING) == []
    assert {name: containers[name]["State"]["ExitCode"] for name in ("provision", "migrate")} == dict.fromkeys(
        ("provision", "migrate"), 0
    )
    assert took_s < HEALTHY_S
    stack.borrow_keys()


def test_it_paper_trades(stack: LiveStack) -> None:
    """Fills come onto the tape, and the operator's container shows them."""

    def filled() -> bool:
        return "OrderFilled" in stack.operator("tapeline", "tail", "--type", "OrderFilled", "--lines", "1")

    eventually(filled, "a first fill")
    status = json.loads(stack.operator("tapeline", "status", "--json"))
    say(f"{status['facts']} facts, {status['fills']} fills, equity {status['equity']}")
    assert status["fills"] > 0
    assert set(status["services"]) == set(OURS)


def test_every_target_is_up(stack: LiveStack) -> None:
    """Prometheus scrapes every service of ours, itself and Alertmanager, and has found no fault in its rules."""

    def up() -> bool:
        found = stack.prometheus("targets")
        return found is not None and all(target["health"] == "up" for target in found["activeTargets"])

    eventually(up, "every target to be up")
    hosts = {target["scrapeUrl"].split("/")[2].split(":")[0] for target in stack.prometheus("targets")["activeTargets"]}
    assert hosts == {*OURS, "localhost", "alertmanager"}
    groups = stack.prometheus("rules")["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    assert len(stack.prometheus("alertmanagers")["activeAlertmanagers"]) == 1


def test_every_panel_of_the_dashboards_has_data(stack: LiveStack) -> None:
    """On this stack's own Prometheus: understood, and at least one series, or listed as waiting for an event."""
    prometheus = Prometheus(f"http://127.0.0.1:{stack.settings['PROMETHEUS_PORT']}")
    for expr, why in {**HAPPENED, "max(tapeline_watchdog_time_seconds) > 0": "a Watchdog reached the notifier"}.items():
        prometheus.wait_for(expr, why, PATIENCE_S * 2)
    prometheus.wait_for("min(count_over_time(up[1m])) >= 4", "all were scraped")
    dashboards = committed()
    assert refused(dashboards, prometheus) == []
    nothing = empty(dashboards, prometheus, window="1m")
    marks = {expr for where, expr in queries_of(dashboards, "expr") if ": annotation " in where}
    quiet = {expr for expr, reason in QUIET.items() if reason in {NO_DESTINATION, NO_EXCHANGE, WHAT_HAPPENED}}
    assert {where: expr for expr, where in nothing.items() if expr not in marks | quiet} == {}
    say(f"{len(list(queries_of(dashboards, 'expr')))} queries of {len(dashboards)} dashboards answered")


def test_a_container_reaches_its_own_neighbours_only(stack: LiveStack) -> None:
    """The bus is reached by every service; Postgres by name not even found, but for the ledger."""
    look = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
    for name, place, port, reaches in (
        ("risk", "nats", "4222", True),
        ("risk", "postgres", "5432", False),
        ("marketdata", "postgres", "5432", False),
        ("ledger", "postgres", "5432", True),
        ("risk", "grafana", "3000", False),
    ):
        done = stack.try_run("exec", "-T", name, "python", "-c", look, place, port)
        assert (done.returncode == 0) is reaches, (name, place, done.stderr)


def test_the_reading_role_reads_and_nothing_else(stack: LiveStack) -> None:
    """What Grafana and the operator's container are: a user who sees tape and tables, and can change neither."""
    script = """
import asyncio, asyncpg, os, sys
async def main():
    connection = await asyncpg.connect(open(os.environ["TAPELINE_DSN_FILE"]).read().strip())
    assert await connection.fetchval("SELECT count(*) FROM tape") > 0
    assert await connection.fetchval("SELECT count(*) FROM fills") > 0
    await connection.execute("SET default_transaction_read_only = off")
    refused = 0
    for statement in ("DELETE FROM fills", "UPDATE orders SET status = 'x'", "INSERT INTO trades (pos) VALUES (1)",
                      "TRUNCATE tape", "CREATE TABLE mine (x int)", "DROP TABLE fills"):
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            refused += 1
    print("refused", refused)
asyncio.run(main())
"""
    assert stack.operator("python", "-c", script).strip() == "refused 6"


@pytest.mark.parametrize("service", RUNNING)
def test_what_dies_is_started_again(stack: LiveStack, service: str) -> None:
    """SIGKILL to every process in a container, which is what the OOM killer does: it comes back and all goes on."""
    before = stack.containers()[service]["RestartCount"]
    # -1: every process but the container's init, which then ends with the process it started.
    stack.try_run("exec", "-T", service, "sh", "-c", "kill -KILL -1")
    eventually(lambda: stack.containers()[service]["RestartCount"] > before, f"the engine to start {service} again")
    begun_s = time.monotonic()
    all_go_on(stack)
    say(f"{service} died; {time.monotonic() - begun_s:.0f} s after its new start everybody went on")


def test_what_a_person_kills_comes_back_with_the_restarter(stack: LiveStack) -> None:
    """`docker compose kill` of each service in turn: it runs again by itself, and all goes on. `stop` is obeyed."""
    stack.run("--profile", "restarter", "up", "--detach", "--no-deps", "restarter")
    for service in RUNNING:
        started = stack.containers()[service]["State"]["StartedAt"]
        begun_s = time.monotonic()
        stack.run("kill", service)

        def runs_again(service: str = service, started: str = started) -> bool:
            state = stack.containers()[service]["State"]
            return state["Running"] and state["StartedAt"] != started

        eventually(runs_again, f"{service} to be started again")
        started_s = time.monotonic()
        all_go_on(stack)
        say(
            f"{service} killed; started again after {started_s - begun_s:.0f} s, and "
            f"{time.monotonic() - started_s:.0f} s later everybody went on"
        )
    stack.run("stop", "bandit")
    stack.run("kill", "risk")
    eventually(lambda: stack.containers()["risk"]["State"]["Running"], "risk to be started again")
    assert not stack.containers()["bandit"]["State"]["Running"]
    stack.run("--profile", "restarter", "rm", "--stop", "--force", "restarter")
    stack.run("up", "--detach", "--no-deps", "bandit")
    all_go_on(stack)


def test_what_a_person_kills_comes_back_with_up(stack: LiveStack) -> None:
    """Without the restarter `docker compose kill` is obeyed. `up` starts what is missing, and all goes on."""
    stack.run("kill", "risk")
    time.sleep(5)
    assert not stack.containers()["risk"]["State"]["Running"]
    stack.run("up", "--detach", "--no-deps", "risk")
    all_go_on(stack)
    stack.run("kill")
    say("everything killed at once")
    stack.run("up", "--detach", "--wait", "--wait-timeout", str(int(HEALTHY_S * 3)))
    all_go_on(stack)
    eventually(lambda: unhealthy(stack.containers(), RUNNING) == [], "all to be healthy again")


def test_the_operator_halts_and_resumes(stack: LiveStack) -> None:
    """From the operator's container: recorded, and acknowledged by every service, however busy the machine is."""
    for command in ("halt", "resume"):

        def all_acknowledge(command: str = command) -> bool:
            reply = json.loads(stack.operator("tapeline", command, "--reason", "drill", "--json"))
            assert reply["refusal"] is None
            return sorted(reply["acknowledged"]) == sorted(OURS)

        eventually(all_acknowledge, f"all to acknowledge {command}")


def test_the_tape_holds(stack: LiveStack) -> None:
    """After all of it the chain verifies, the tables are the fold of the tape, and every decision is made again."""
    verified = json.loads(stack.operator("tapeline", "verify", "--json"))
    assert verified["fault"] is None
    assert verified["facts"] > 0
    rebuilt = json.loads(stack.operator("tapeline", "rebuild", "--json"))
    assert rebuilt["differences"] == []
    assert rebuilt["rows"]["fills"] > 0
    checked = json.loads(stack.operator("tapeline", "replay", "--check", "--json"))
    assert [one for one in checked["authors"] if one["difference"] is not None] == []
    assert {one["code_version"] for one in checked["written_by"]} == {checked["code_version"]}, "one code everywhere"
    say(f"{verified['facts']} facts verified, refolded and decided again")


def test_down_leaves_nothing(stack: LiveStack) -> None:
    """No container, no volume and no network of the project is there after `down --volumes`."""
    assert stack.remains()
    stack.down()
    assert stack.remains() == []


def test_a_backtest_over_the_wire_leaves_report_and_tape() -> None:
    """Without any argument it ends well, and both gears have the same tape; its volume keeps report and tape."""
    backtest = Project("compose.backtest.yml", "tapeline-backtest-test", {"TAPELINE_VERSION": "compose-test"})
    backtest.down()
    try:
        say(f"backtest: {backtest.run('run', '--rm', 'backtest').strip().splitlines()[-1]}")
        report = json.loads(backtest.run("run", "--rm", "--no-deps", "backtest", "cat", "report.json"))
        assert report["gear"] == "wire"
        assert report["orders"] > 0
        verify = ("tapeline", "verify", "--tape", "backtest.tape", "--json")
        verified = json.loads(backtest.run("run", "--rm", "--no-deps", "backtest", *verify))
        assert verified["fault"] is None
        assert (verified["facts"], verified["head_hash"]) == (report["facts"], report["tape_hash"])

        backtest.run("run", "--rm", "backtest", settings={"GEAR": "loop"})
        loop = json.loads(backtest.run("run", "--rm", "--no-deps", "backtest", "cat", "report.json"))
        assert loop["gear"] == "loop"
        assert loop["tape_hash"] == report["tape_hash"]
    finally:
        backtest.down()
    assert backtest.remains() == []
