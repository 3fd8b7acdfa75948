"""The soak's judgement: how wide its intervals are, what it fails on, what it lets pass, and what facts explain."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from bench import soak
from bench.folding import held_mib
from bench.slope import UNKNOWN, Floats, Slope, fit, levels
from bench.soak import LAG, POSITION, Finding, Sample, judge, shown
from bench.watching import Usage, of_page
from msgspec.structs import replace
from tests.tape_files import numbered, payloads_of

from tapeline_common.wiring import installed_services

Make = Callable[[np.random.Generator, int], Floats]


def walk(chance: np.random.Generator, count: int) -> Floats:
    """A random walk: every step stays."""
    return chance.normal(size=count).cumsum()


def staircase(chance: np.random.Generator, count: int) -> Floats:
    """A step up now and then, less what that is on average."""
    return (chance.random(count) < 0.1).cumsum() - 0.1 * np.arange(count)


def sticky(chance: np.random.Generator, count: int) -> Floats:
    """Noise around a level in which neighbours are nearly the same."""
    noise = chance.normal(size=count)
    for place in range(1, count):
        noise[place] += 0.95 * noise[place - 1]
    return noise


@pytest.mark.parametrize(("make", "least"), [(walk, 0.92), (staircase, 0.90), (sticky, 0.98)])
@pytest.mark.parametrize("count", [144, 720])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(make: Make, least: float, count: int) -> None:
    """Simulated memory without any trend: a slope of zero lies in the 95 % interval nearly always, and it seldom lies
    below it, which is what would fail a program that does not leak."""
    chance = np.random.default_rng(7)
    times = np.arange(count, dtype=np.float64)
    found = [fit(*levels(times, make(chance, count))) for _ in range(400)]
    assert sum(slope.low <= 0 <= slope.high for slope in found) / 400 >= least
    assert sum(slope.low > 0 for slope in found) / 400 <= 0.05


def test_a_leak_is_found_in_the_noise() -> None:
    """A trend three times the scatter of its pieces is seen nearly always, with a slope that is about right."""
    chance = np.random.default_rng(7)
    times = np.arange(720, dtype=np.float64)
    found = [fit(*levels(times, walk(chance, 720) + 0.2 * times)) for _ in range(200)]
    assert sum(slope.low > 0 for slope in found) / 200 > 0.95
    assert np.mean([slope.value for slope in found]) == pytest.approx(0.2, abs=0.02)


def test_one_step_in_the_window_proves_nothing() -> None:
    """An allocator takes an arena once: the interval includes zero, however large the step."""
    times = np.arange(720, dtype=np.float64)
    slope = fit(*levels(times, np.where(times > 300, 50.0, 0.0)))
    assert slope.low <= 0 < slope.value


def test_what_is_there_when_the_window_ends_is_no_slope() -> None:
    """A buffer that happens to be there in the last seconds, and was there before: the other levels outvote two."""
    times = np.arange(720, dtype=np.float64)
    slope = fit(*levels(times, np.where((times > 300) & (times < 320) | (times > 710), 50.0, 0.0)))
    assert 0 < slope.value < 0.15 * 50.0 / 720
    assert slope.low < 0


def test_too_few_samples_say_nothing() -> None:
    """Less than a sample for each level: unknown, and not zero."""
    assert not fit(*levels([0.0, 1.0], [1.0, 2.0])).is_known
    assert not fit(*levels([], [])).is_known


def samples(growth_mib_per_hour: float, descriptors: Callable[[float], int] = lambda _: 10) -> list[Sample]:
    """Twenty minutes of one service that grows evenly, with a ledger that records 100 facts a second."""
    chance = np.random.default_rng(3)
    found = []
    for second in range(1200):
        rss_mib = 60 + growth_mib_per_hour * second / 3600 + 0.01 * chance.normal()
        used = Usage(rss_mib, math.nan, descriptors(second), 4, second * 0.1)
        flat = Usage(80.0, math.nan, 19, 4, second * 0.2)
        pages = {"ledger": {POSITION: second * 100.0, LAG: 0.0}, "risk": {POSITION: second * 100.0, LAG: 2.0}}
        found.append(Sample(float(second), {"risk": used, "ledger": flat}, pages if second % 5 == 0 else {}))
    return found


def judged(seen: list[Sample]) -> soak.Report:
    return judge(seen, [], 20.0, 0.5, [], lambda _: None)


def of(report: soak.Report, program: str) -> Finding:
    return next(finding for finding in report.findings if finding.program == program)


def test_what_grows_fails_and_what_does_not_passes() -> None:
    """Well above the limit: a fault that names the program. Well below: steady."""
    leaking, steady = judged(samples(8.0)), judged(samples(0.1))
    assert [fault.partition(" ")[0] for fault in leaking.faults] == ["risk"]
    assert of(leaking, "risk").grown.value == pytest.approx(8.0, abs=0.2)
    assert "grows by" in shown(leaking)
    assert steady.faults == ()
    assert of(steady, "risk").verdict == "steady"


def test_descriptors_that_grow_fail_and_one_more_does_not() -> None:
    """A descriptor lost every minute is named; one that happens to be open at the end is not."""
    assert any("descriptors" in fault for fault in judged(samples(0.0, lambda second: 10 + int(second / 60))).faults)
    assert judged(samples(0.0, lambda second: 10 + (second > 1100))).faults == ()


def test_what_the_facts_explain_is_not_held_against_a_service() -> None:
    """A service that grows exactly as its facts make it is steady; the growth is shown all the same."""
    seen = samples(20.0)
    times = np.linspace(480.0, 1200.0, 60)
    held = {"risk": (times.tolist(), (20 * times / 3600).tolist())}
    finding = next(one for one in soak.judged(seen, held, 480.0) if one.program == "risk")
    assert finding.grown.value == pytest.approx(20.0, abs=0.2)
    assert abs(finding.unexplained.value) < 0.2
    assert finding.unexplained.margin == pytest.approx(finding.grown.margin)
    assert finding.verdict == "steady"
    assert finding.bytes_per_fact == pytest.approx(20 / 3600 * 2**20 / 100, rel=0.02)


def test_a_leak_is_not_explained_away() -> None:
    """Facts that explain a part leave the rest."""
    times = np.linspace(480.0, 1200.0, 60)
    held = {"risk": (times.tolist(), (8 * times / 3600).tolist())}
    finding = next(one for one in soak.judged(samples(20.0), held, 480.0) if one.program == "risk")
    assert finding.unexplained.value == pytest.approx(12.0, abs=0.2)
    assert [fault.partition(" by ")[0] for fault in finding.faults] == ["grows"]


def test_what_fills_up_in_the_middle_is_taken_off_where_it_does() -> None:
    """A ring that is full after ten minutes explains the growth until then and none after it, without any doubt."""
    times = np.linspace(0.0, 1200.0, 120)
    filled = np.minimum(times, 600.0) * 12 / 3600
    seen = [
        replace(sample, usage={"risk": replace(used, rss_mib=used.rss_mib + min(sample.time_s, 600.0) * 12 / 3600)})
        for sample in samples(0.0)
        for used in [sample.usage["risk"]]
    ]
    finding = next(iter(soak.judged(seen, {"risk": (times.tolist(), filled.tolist())}, 480.0)))
    assert finding.grown.value == pytest.approx(0.89, abs=0.1), "a sixth of the window at 12 MiB/h, and its first"
    assert abs(finding.unexplained.value) < 0.1
    assert finding.unexplained.margin < 0.2 * finding.grown.margin


def test_what_was_needed_once_is_explained_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process does not give memory back: what is kept in it later finds room there."""
    needed = [1.0, 3.0, 2.0, 2.5, 4.0]
    monkeypatch.setattr(soak, "held_mib", lambda service, payloads, positions: needed)
    monkeypatch.setattr(soak, "FOLDED_POSITIONS", len(needed))
    held = soak.explained_growth(samples(0.0), [b""] * 120_000, lambda _: None)
    assert held["risk"][1] == [1.0, 3.0, 3.0, 3.0, 4.0]


def test_an_uncertain_slope_neither_passes_nor_fails() -> None:
    """An interval around the limit is called what it is."""
    finding = of(judged(samples(0.1)), "risk")
    wide = Slope(2.0, -1.0, 5.0)
    assert replace(finding, unexplained=wide).verdict == "no proof of growth"
    assert replace(finding, unexplained=UNKNOWN).verdict == "too short to tell"


def test_folding_measures_what_a_core_keeps() -> None:
    """Bars and halts leave nothing behind in a core, the ledger's latest facts stay until they are too many."""
    payloads = payloads_of(numbered(3_000))
    services = installed_services()
    risk = held_mib(services["risk"], payloads, [1_000, 2_000, 3_000])
    ledger = held_mib(services["ledger"], payloads, [800, 1_200, 1_600, 2_400, 2_800])
    assert max(risk) - min(risk) < 0.05
    assert ledger[1] - ledger[0] == pytest.approx(ledger[2] - ledger[1], rel=0.2)
    assert ledger[2] - ledger[1] > 0.12
    assert ledger[4] - ledger[3] < 0.05


def test_metrics_are_read_off_a_page() -> None:
    """The largest of several samples; names that only begin alike are others."""
    page = '# TYPE a gauge\na{service="x"} 1.0\na{service="y"} 3.0\nab{service="x"} 9.0\nb 2.5e-3\n'
    assert of_page(page, ("a", "b", "c")) == {"a": 3.0, "b": 0.0025}
