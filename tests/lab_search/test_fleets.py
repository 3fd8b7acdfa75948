"""A trial comes to the same whoever runs it: either gear, any number of workers, threads, processes or Ray."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.backtesting import synthetic_file
from tests.lab_search.studies import COSTS, facts_of, in_process, swept

from tapeline_backtest.batch_loop import LANES
from tapeline_common.events import TrialRefused
from tapeline_common.settings import Settings
from tapeline_common.values import TrialRefusal
from tapeline_lab.search import load
from tapeline_lab.search.bench import Gear, Ground, Recipe, Task
from tapeline_lab.search.fleet import LEAST_A_PIECE, MOST_A_PIECE, FleetFailed, pieces
from tapeline_lab.search.ray_fleet import TRIES, RayFleet
from tapeline_lab.search.sweep_command import sweep_command

LITTLE = ("-p", "fast=4,9", "-p", "slow=12..24:12")
GEARS = ("gear", "workers", "elapsed_s", "bars_per_s", "on", "study", "repeated")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "BTCUSD.parquet", 2000)


GROUNDS = (Ground(0, 0, 500_000), Ground(0, 0, 9_000))


def tasks_of(*runs: tuple[int, str, int]) -> list[Task]:
    """(ground, strategy, how many)"""
    return [Task(ground, strategy, {"fast": each}) for ground, strategy, count in runs for each in range(count)]


@given(
    runs=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["oak", "elm"]), st.integers(1, 150)), max_size=4),
    workers=st.integers(1, 9),
    gear=st.sampled_from(list(Gear)),
)
def test_pieces_are_every_task_once_in_order(runs: list[tuple[int, str, int]], workers: int, gear: Gear) -> None:
    """None left out, none twice, none too large, and what runs together is one strategy on one ground."""
    tasks = tasks_of(*runs)
    found = list(pieces(Recipe(Settings(), (), (), GROUNDS, gear, True, False), tasks, workers))
    assert [task for piece in found for task in piece] == tasks
    assert all(len({(task.ground, task.strategy) for task in piece}) == 1 for piece in found)
    assert max(map(len, found), default=1) <= (MOST_A_PIECE if gear is Gear.KERNEL else 1)


def test_the_last_pieces_are_small() -> None:
    """Two workers and a hundred long runs: neither waits long for the other. Short runs go by more at once."""
    recipe = Recipe(Settings(), (), (), GROUNDS, Gear.KERNEL, True, False)
    sizes = [len(piece) for piece in pieces(recipe, tasks_of((0, "oak", 100)), 2)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (LEAST_A_PIECE, LANES)
    assert len(next(pieces(recipe, tasks_of((1, "oak", 10_000)), 2))) == MOST_A_PIECE


def compared(printed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in printed.items() if name not in GEARS}


@pytest.mark.parametrize(
    ("strategy", "params"),
    [
        ("ema_cross", LITTLE),
        ("trend_follow", ("-p", "short=true,false", "-p", "trend=30")),
        ("momentum_breakout", ()),
    ],
)
@pytest.mark.parametrize("rank", ["sqn", "sharpe"])
def test_both_gears_come_to_the_same(
    tmp_path: Path, file: Path, rank: str, strategy: str, params: tuple[str, ...]
) -> None:
    """Every figure and every daily return to the last bit: the digests of the returns are compared.

    One rank needs the result of every trade, which the kernel gear lists run by run; the other is found side by side.
    """
    call = (*params, *COSTS, "--data", str(file), "--rank-by", rank)
    kernel = swept(*call, "--gear", "kernel", "--study", str(tmp_path / "kernel"), strategy=strategy)
    loop = swept(*call, "--gear", "loop", "--workers", "1", "--study", str(tmp_path / "loop"), strategy=strategy)
    assert (kernel["gear"], loop["gear"]) == ("kernel", "loop")
    assert compared(kernel) == compared(loop)
    digests = [[trial.returns for trial in load(tmp_path / gear).trials] for gear in ("kernel", "loop")]
    assert digests[0] == digests[1]


def test_a_python_strategy_runs_in_processes(tmp_path: Path, file: Path) -> None:
    """On the loop gear, without being asked for; one worker or two, the tape is the same."""
    call = ("-p", "bars=5,60", *COSTS, "--data", str(file))
    one = swept(*call, "--workers", "1", "--study", str(tmp_path / "one"), strategy="test_momentum")
    two = swept(*call, "--workers", "2", "--study", str(tmp_path / "two"), strategy="test_momentum")
    assert one["gear"] == "loop"
    assert compared(one) == compared(two)
    assert load(tmp_path / "one").tape_hash == load(tmp_path / "two").tape_hash


def test_a_strategy_that_raises_is_a_refused_trial(tmp_path: Path, file: Path) -> None:
    """The other trials go on; the fact says what was raised, and the trial counts as tried."""
    call = ("-p", "breaks=false,true", "-p", "bars=5", "--data", str(file), "--workers", "1")
    found = swept(*call, "--study", str(tmp_path / "study"), strategy="test_momentum")
    assert (found["runs"], found["done"], found["refused"]) == (2, 1, 1)
    study = load(tmp_path / "study")
    assert study.trial_count == 2
    (refused,) = [fact for fact in facts_of(study.folder) if isinstance(fact, TrialRefused)]
    assert (refused.number, refused.reason) == (1, TrialRefusal.FAILED)
    assert refused.detail == "strategy 'test_momentum': ZeroDivisionError: the hundredth bar"
    assert study.returns().shape == (study.grounds[0].days, 1)


def test_a_gear_that_was_demanded_is_not_replaced(file: Path) -> None:
    """Exit code 4 and the reason."""
    call = ["-s", "test_momentum", "--data", str(file), "--gear", "kernel"]
    done = CliRunner().invoke(sweep_command, call)
    assert done.exit_code == 4
    assert "cannot be compiled" in done.stderr


@pytest.mark.parametrize("method", ["random", "sobol", "bayesian"])
def test_searches_are_functions_of_their_seed(tmp_path: Path, file: Path, method: str) -> None:
    """Workers and interruptions change nothing, another seed changes the choice; every setting is of the grid."""
    call = ("-p", "fast=3..12", "-p", "slow=10..60:2", *COSTS, "--data", str(file), "--method", method)
    asked = (*call, "--trials", "20", "--rank-by", "sharpe")
    first = swept(*asked, "--workers", "1", "--study", str(tmp_path / "first"))
    again = swept(*asked, "--workers", "4", "--study", str(tmp_path / "again"))
    other = swept(*asked, "--seed", "1")
    assert first["done"] + first["refused"] == 20
    assert compared(first) == compared(again)
    assert load(tmp_path / "first").tape_hash == load(tmp_path / "again").tape_hash
    assert [row["parameters"] for row in first["results"]] != [row["parameters"] for row in other["results"]]
    for row in first["results"]:
        assert 3 <= row["parameters"]["fast"] <= 12
        assert row["parameters"]["slow"] in range(10, 61, 2)


def test_a_sampler_learns(file: Path) -> None:
    """Its later settings are better than its first, which were drawn."""
    call = ("-p", "fast=2..40", "-p", "slow=50..300", "--fee", "0.001", "--data", str(file))
    found = swept(*call, "--method", "bayesian", "--trials", "64", "--rank-by", "net_profit")
    by_number = sorted(found["results"], key=lambda row: int(row["number"]))
    profits = [float(row["net_profit"]) for row in by_number]
    assert sum(profits[32:]) / 32 > sum(profits[:16]) / 16


def test_a_missing_ray_is_said(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """With what to install; exit code 1."""
    import builtins

    real = builtins.__import__

    def without_ray(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    done = CliRunner().invoke(sweep_command, ["-s", "ema_cross", *LITTLE, "--data", str(file), "--on", "ray"])
    assert done.exit_code == 1
    assert "pip install 'tapeline-lab[ray]'" in done.stderr


class RayDouble(ModuleType):
    """Ray as far as a fleet is started with it; the first ``failures`` clusters do not come up."""

    def __init__(self, failures: int, *, answers: bool = True) -> None:
        super().__init__("ray")
        self.failures, self.answers = failures, answers
        self.calls: list[str] = []
        self.exceptions = SimpleNamespace(RayError=TimeoutError)

    def is_initialized(self) -> bool:
        return False

    def init(self, **how: Any) -> None:
        self.calls.append(f"init {how['address']}")
        if self.calls.count(self.calls[-1]) <= self.failures:
            raise RuntimeError("The current node timed out during startup")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def remote(self, work: Any) -> Any:
        return SimpleNamespace(remote=lambda: work)

    def get(self, later: Any, timeout: float) -> Any:
        if not self.answers:
            raise TimeoutError("no worker")
        return later()

    def put(self, packed: bytes) -> bytes:
        return packed

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}


def started(monkeypatch: pytest.MonkeyPatch, ray: RayDouble, address: str | None = None) -> RayFleet:
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    return RayFleet(Recipe(Settings(), (), (), GROUNDS, Gear.KERNEL, True, False), 2)


def test_a_cluster_that_comes_up_late_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of an attempt is let go of before the next; one that works at once is not tried twice."""
    late, prompt = RayDouble(2), RayDouble(0)
    started(monkeypatch, late)
    started(monkeypatch, prompt)
    assert late.calls == ["init local", "shutdown", "init local", "shutdown", "init local"]
    assert prompt.calls == ["init local"]


def test_a_cluster_that_never_comes_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of attempts, with what to do."""
    never = RayDouble(99)
    with pytest.raises(FleetFailed, match=r"no cluster could be started here.*timed out.*RAY_ADDRESS"):
        started(monkeypatch, never)
    assert never.calls == ["init local", "shutdown"] * TRIES


def test_workers_that_do_not_answer_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without workers would never give a result."""
    mute = RayDouble(0, answers=False)
    with pytest.raises(FleetFailed, match="no worker of the cluster answers"):
        started(monkeypatch, mute)
    assert mute.calls == ["init local", "shutdown"]


def test_a_named_cluster_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's cluster is not started, and nothing is started instead of it."""
    away = RayDouble(1)
    with pytest.raises(FleetFailed, match=r"no cluster answers at RAY_ADDRESS=10\.0\.0\.1:6379"):
        started(monkeypatch, away, "10.0.0.1:6379")
    assert away.calls == ["init 10.0.0.1:6379"]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_ray_comes_to_the_same(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster on this machine: the tape is that of local threads, to the last byte."""
    pytest.importorskip("ray", reason="the extra tapeline-lab[ray] is not installed")
    # Ray's helpers have fifteen seconds; where nobody may keep compiled modules, each would compile all of Ray anew.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    call = (*LITTLE, *COSTS, "--data", str(file), "--workers", "2", "--json")
    here = swept(*call, "--study", str(tmp_path / "here"))
    done = in_process(*call, "--study", str(tmp_path / "there"), "--on", "ray", timeout_s=360)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert (here["on"], there["on"]) == ("local", "ray")
    assert compared(here) == compared(there)
    assert (tmp_path / "here/returns-0.npy").read_bytes() == (tmp_path / "there/returns-0.npy").read_bytes()
    assert load(tmp_path / "here").tape_hash == load(tmp_path / "there").tape_hash
