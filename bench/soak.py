"""``python -m bench.soak``: the embedded stack at a brisk pace for a while, and what of it grows.

Runs ``tapeline up`` as a user does, samples every process and every metrics page from outside, fits how fast memory
grows once it is warm, takes off what the recorded facts explain (``folding``), and ends with a burst: the consumers are
frozen for some seconds while bars go on, and must catch up. Exit code 1 if a program grows with statistical confidence,
loses descriptors, was started again, does not catch up, or if the chain does not verify.

A slope is judged by its 95 % interval: above the limit as a whole it fails, below it as a whole it passes, else nothing
is known and nothing fails. In twenty minutes a step of one page more or less is 0.01 MiB/h, and one arena of Python's
allocator (1 MiB) 3 MiB/h: so single steps are the error, and a leak is what climbs step after step.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import click
import msgspec
import numpy as np

from bench.folding import held_mib, read_tape
from bench.slope import Slope, fit, levels
from bench.watching import SERVERS, SUPERVISOR, Usage, pids_of, programs, scraped, usage
from tapeline_common.embedded import Running, running_stack
from tapeline_common.wiring import installed_services

LIMIT_MIB_PER_HOUR = 1.0
WARM_UP_SHARE = 0.4
"""Until then interpreters load their last modules, caches fill, and allocators find their size."""

SAMPLE_S = 0.5
SCRAPE_EVERY_S = 5.0
TELL_EVERY_S = 15.0
FOLDED_POSITIONS = 120
FROZEN_S = 4.0
CATCH_UP_S = 60.0
START_S, STOP_S = 120.0, 120.0
SPARE_DESCRIPTORS = 1
"""A connection that happens to be open when somebody looks."""

LAG, POSITION, LOOP_LAG = "tapeline_lag_facts", "tapeline_position", "tapeline_event_loop_lag_seconds"
FEED, LEDGER = "marketdata", "ledger"

CONFIG = """
[run]
name = "soak"
seed = 11
cash = "100000000"
[feed]
interval_ms = {interval_ms}
[risk]
max_price_age_ms = 60000
[regime]
train_bars = 300
refit_bars = 5000
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
lot_size = "0.00001"
[[instrument]]
name = "ETH/USDT"
tick_size = "0.01"
lot_size = "0.0001"
[[instrument]]
name = "SOL/USDT"
tick_size = "0.001"
lot_size = "0.01"
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "0.1"
parameters = {{ fast = 10, slow = 30 }}
[[strategy]]
name = "breakout"
kind = "momentum_breakout"
instruments = ["ETH/USDT"]
size = "2"
[[strategy.preset]]
name = "quick"
parameters = {{ lookback = 20, exit_lookback = 10 }}
[[strategy.preset]]
name = "slow"
parameters = {{ lookback = 55, exit_lookback = 20 }}
[[strategy]]
name = "trend"
kind = "trend_follow"
instruments = ["SOL/USDT"]
size = "4"
regimes = ["BULL", "CHOP"]
"""
"""Three instruments; at the default interval 60 bars a second, which is a thousand times the pace of minute bars, and
slow enough that a busy machine still keeps up: a service that lags keeps what it has not heard, and grows by it."""

Say = Callable[[str], None]


class Sample(msgspec.Struct, frozen=True):
    """One look at everything, ``time_s`` after the stack was up."""

    time_s: float
    usage: dict[str, Usage]
    metrics: dict[str, dict[str, float]]


class Finding(msgspec.Struct, frozen=True):
    """What was found of one program.

    Attributes:
        grown: MiB/h of its memory as it is, at the pace of this run.
        unexplained: the same without what the facts explain; what is judged.
        bytes_per_fact: of the explained growth; NaN for programs that fold nothing.
        faults: why it fails; empty if it does not.
    """

    program: str
    start_mib: float
    end_mib: float
    grown: Slope
    unexplained: Slope
    bytes_per_fact: float
    descriptors: tuple[int, int]
    threads: int
    cpu_percent: float
    lag_facts: float
    loop_lag_s: float
    faults: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if self.faults:
            return "; ".join(self.faults)
        if not self.unexplained.is_known:
            return "too short to tell"
        return "steady" if self.unexplained.high < LIMIT_MIB_PER_HOUR else "no proof of growth"


class Report(msgspec.Struct, frozen=True):
    minutes: float
    window_minutes: float
    facts: int
    facts_per_s: float
    caught_up_s: float
    findings: tuple[Finding, ...]
    faults: tuple[str, ...]
    samples: tuple[Sample, ...] = ()


# ---- watching ------------------------------------------------------------------------------------------------------


@contextmanager
def stack(folder: Path, interval_ms: int) -> Iterator[tuple[subprocess.Popen[bytes], Running]]:
    """``tapeline up`` on a folder of its own; ended at the latest when the block ends."""
    folder.chmod(0o755)
    config = folder / "tapeline.toml"
    config.write_text(CONFIG.format(interval_ms=interval_ms))
    command = [sys.executable, "-m", "tapeline_common.cli", "up", "--data", str(folder / "data")]
    process = subprocess.Popen(
        [*command, "--config", str(config), "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        yield process, _until_up(process, folder / "data")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_up(process: subprocess.Popen[bytes], data: Path) -> Running:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise click.ClickException(f"the stack ended at once with exit code {process.returncode}")
        running = running_stack(data)
        if running is not None and all(scraped(port, (POSITION,)) for port in running.metrics.values()):
            return running
        time.sleep(0.2)
    raise click.ClickException(f"the stack was not up within {START_S:.0f} s")


def watch(process: subprocess.Popen[bytes], running: Running, seconds: float, say: Say) -> list[Sample]:
    """Look at everything until ``seconds`` are over, or the stack is."""
    started_s = next_scrape_s = time.monotonic()
    next_word_s = started_s + TELL_EVERY_S
    found = programs(running)
    samples: list[Sample] = []
    while (now_s := time.monotonic()) - started_s < seconds and process.poll() is None:
        metrics: dict[str, dict[str, float]] = {}
        if now_s >= next_scrape_s:
            next_scrape_s = now_s + SCRAPE_EVERY_S
            found = programs(running)  # Postgres starts and ends processes as it likes
            metrics = {name: scraped(port, (POSITION, LAG, LOOP_LAG)) for name, port in running.metrics.items()}
        used = {name: one for name, members in found.items() if (one := usage(members)) is not None}
        samples.append(Sample(round(now_s - started_s, 3), used, metrics))
        if now_s >= next_word_s:
            next_word_s = now_s + TELL_EVERY_S
            say(_word(samples, seconds))
        time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - now_s)))
    return samples


def _word(samples: list[Sample], seconds: float) -> str:
    last = samples[-1]
    heads = [sample.metrics[LEDGER][POSITION] for sample in samples if POSITION in sample.metrics.get(LEDGER, {})]
    lags = [max((of.get(LAG, 0) for of in sample.metrics.values()), default=0) for sample in samples if sample.metrics]
    services = sum(one.rss_mib for name, one in last.usage.items() if name not in SERVERS)
    phase = "warming up" if last.time_s < WARM_UP_SHARE * seconds else "measuring"
    return (
        f"{phase}, {last.time_s / 60:4.1f} of {seconds / 60:.1f} min: {heads[-1] if heads else 0:,.0f} facts, "
        f"services {services:.0f} MiB, lag {lags[-1] if lags else 0:.0f}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def burst(running: Running, say: Say) -> float:
    """Freeze everybody who consumes for a while, let them go, and return after how long no lag was left; NaN: never."""
    consumers = [name for name in running.services if name not in (FEED, LEDGER)]
    say(f"burst: {', '.join(consumers)} frozen for {FROZEN_S:.0f} s")
    for name in consumers:
        os.kill(running.services[name], signal.SIGSTOP)
    try:
        time.sleep(FROZEN_S)
    finally:
        for name in consumers:
            os.kill(running.services[name], signal.SIGCONT)
    freed_s = time.monotonic()
    behind = set(consumers)
    while behind and time.monotonic() - freed_s < CATCH_UP_S:
        for name in sorted(behind):
            seen = scraped(running.metrics[name], (LAG,))
            if seen.get(LAG) == 0:
                behind.discard(name)
        time.sleep(0.1)
    return math.nan if behind else time.monotonic() - freed_s


# ---- judging -------------------------------------------------------------------------------------------------------


def judged(samples: list[Sample], held: dict[str, tuple[list[float], list[float]]], warm_s: float) -> list[Finding]:
    """A finding for each program.

    Args:
        held: service → (times in s, MiB that its facts explain at these times).
    """
    window = [sample for sample in samples if sample.time_s >= warm_s]
    names = sorted({name for sample in window for name in sample.usage}, key=_order)
    return [_finding(name, window, held.get(name)) for name in names]


def _order(name: str) -> tuple[bool, str]:
    return name in (*SERVERS, SUPERVISOR), name


def _finding(name: str, window: list[Sample], held: tuple[list[float], list[float]] | None) -> Finding:
    seen = [(sample.time_s, sample.usage[name]) for sample in window if name in sample.usage]
    times = [time_s for time_s, _ in seen]
    memory = [_memory_mib(name, one) for _, one in seen]
    at, level = levels(times, memory)
    grown = fit(at / 3600, level)
    explained = np.zeros(len(seen)) if held is None else np.interp(times, *held)
    at, level = levels(times, np.array(memory) - explained)
    unexplained = fit(at / 3600, level)
    third = max(1, len(seen) // 3)
    descriptors = (_middle(seen[:third]), _middle(seen[-third:]))
    pages = [sample.metrics[name] for sample in window if name in sample.metrics]
    return Finding(
        program=name,
        start_mib=memory[0],
        end_mib=memory[-1],
        grown=grown,
        unexplained=unexplained,
        bytes_per_fact=math.nan if held is None else _bytes_per_fact(window, float(explained[-1] - explained[0])),
        descriptors=descriptors,
        threads=seen[-1][1].threads,
        cpu_percent=100 * (seen[-1][1].cpu_s - seen[0][1].cpu_s) / max(times[-1] - times[0], 1e-9),
        lag_facts=max((page[LAG] for page in pages if LAG in page), default=math.nan),
        loop_lag_s=max((page[LOOP_LAG] for page in pages if LOOP_LAG in page), default=math.nan),
        faults=tuple(_faults(unexplained, descriptors)),
    )


def _memory_mib(name: str, one: Usage) -> float:
    """A service's resident memory; of a server what is its processes' own."""
    return one.own_mib if name in SERVERS and not math.isnan(one.own_mib) else one.rss_mib


def _middle(seen: list[tuple[float, Usage]]) -> int:
    counts = sorted(one.descriptors for _, one in seen)
    return counts[len(counts) // 2]


def _bytes_per_fact(window: list[Sample], explained_mib: float) -> float:
    _, heads = _heads(window)
    facts = heads[-1] - heads[0] if heads else 0.0
    return explained_mib * 2**20 / facts if facts else math.nan


def _heads(samples: list[Sample]) -> tuple[list[float], list[float]]:
    pairs = [(one.time_s, one.metrics[LEDGER][POSITION]) for one in samples if POSITION in one.metrics.get(LEDGER, {})]
    return [time_s for time_s, _ in pairs], [head for _, head in pairs]


def _head_at(samples: list[Sample], time_s: float) -> float:
    return float(np.interp(time_s, *_heads(samples)))


def _faults(slope: Slope, descriptors: tuple[int, int]) -> Iterator[str]:
    if slope.is_known and slope.low > LIMIT_MIB_PER_HOUR:
        yield f"grows by {slope.low:.1f} MiB/h at least"
    before, after = descriptors
    if after > before + SPARE_DESCRIPTORS:
        yield f"{before} descriptors became {after}"


def explained_growth(
    samples: list[Sample], payloads: list[bytes], say: Say
) -> dict[str, tuple[list[float], list[float]]]:
    """Service → times and the MiB that the facts recorded until then made it need.

    The most that it has needed so far: what a process no longer needs it keeps for the next time.
    """
    times, heads = _heads(samples)
    at = np.linspace(times[0], times[-1], FOLDED_POSITIONS)
    positions = [min(int(position), len(payloads)) for position in np.interp(at, times, heads)]
    held = {}
    for name, service in installed_services().items():
        say(f"folding {positions[-1]:,} facts as {name} does")
        held[name] = (at.tolist(), list(accumulate(held_mib(service, payloads, positions), max)))
    return held


# ---- command -------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--minutes", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Warm-up included.")
@click.option("--interval-ms", type=click.IntRange(1), default=50, show_default=True, help="Between two bars.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object with every sample, for programs.")
def main(minutes: float, interval_ms: int, to_json: bool) -> None:
    """Run the stack for MINUTES and judge what grows. Exit code 1 if something does, with confidence."""
    report = soak(minutes, interval_ms, lambda text: click.echo(f"  {text}", err=True))
    click.echo(msgspec.json.encode(report) if to_json else shown(report))
    sys.exit(1 if report.faults else 0)


def soak(minutes: float, interval_ms: int, say: Say) -> Report:
    """The whole of it."""
    with tempfile.TemporaryDirectory(prefix="tapeline-soak-") as name:
        folder = Path(name)
        say("starting the stack")
        with stack(folder, interval_ms) as (process, running):
            born = {program: pids_of(programs(running), program) for program in running.services}
            samples = watch(process, running, minutes * 60, say)
            ended = process.poll() is not None
            caught_up_s = math.nan if ended else burst(running, say)
            again = running_stack(folder / "data")
            restarted = [name for name in born if again is None or again.services[name] not in born[name]]
            dsn = (folder / "data" / "secrets" / "ledger-dsn").read_text().strip()
            payloads = [] if ended else asyncio.run(read_tape(dsn))
            say("stopping the stack; the chain is verified")
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
        faults = [f"{name} was started again" for name in restarted]
        if process.returncode:
            faults.append(f"the stack ended with exit code {process.returncode}")
        if math.isnan(caught_up_s):
            faults.append(f"a lag was left {CATCH_UP_S:.0f} s after the burst")
    return judge(samples, payloads, minutes, caught_up_s, faults, say)


def judge(
    samples: list[Sample], payloads: list[bytes], minutes: float, caught_up_s: float, faults: list[str], say: Say
) -> Report:
    warm_s = WARM_UP_SHARE * minutes * 60
    held = explained_growth(samples, payloads, say) if payloads else {}
    findings = judged(samples, held, warm_s)
    faults = [*faults, *(f"{finding.program} {fault}" for finding in findings for fault in finding.faults)]
    window_s = samples[-1].time_s - warm_s
    facts = len(payloads)
    rate = (_head_at(samples, samples[-1].time_s) - _head_at(samples, warm_s)) / window_s if payloads else math.nan
    return Report(minutes, window_s / 60, facts, rate, caught_up_s, tuple(findings), tuple(faults), tuple(samples))


HEADINGS = (
    *("program", "MiB", "MiB/h", "explained", "left +- 95 %", "B/fact", "fds", "threads", "CPU %", "lag", "loop ms"),
    "verdict",
)


def shown(report: Report) -> str:
    """For a terminal."""
    lines = [HEADINGS, *(_cells(finding) for finding in report.findings)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    table = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    known = [one.unexplained for one in report.findings if one.unexplained.is_known and one.program not in SERVERS]
    widest = max((slope.margin for slope in known), default=math.nan)
    ending = [f"failed: {fault}" for fault in report.faults] or ["nothing grows that can be told from noise"]
    return "\n".join(
        (
            f"\n{report.facts:,} facts in {report.minutes:g} minutes, {report.facts_per_s:.0f} a second; "
            f"slopes over the last {report.window_minutes:.1f} minutes\n",
            table,
            "",
            "explained: what the recorded facts make a service keep (order ids, counted fills, its latest facts); "
            "left: the rest, which is judged.",
            f"A growth of a service of less than about {LIMIT_MIB_PER_HOUR + 2 * widest:.1f} MiB/h could hide in this "
            "window.",
            f"After a burst of {FROZEN_S:.0f} s the lag was 0 again in {_number(report.caught_up_s)} s.",
            *ending,
        )
    )


def _cells(finding: Finding) -> tuple[str, ...]:
    grown, left = finding.grown, finding.unexplained
    before, after = finding.descriptors
    return (
        finding.program,
        f"{finding.start_mib:.0f} to {finding.end_mib:.0f}",
        _number(grown.value),
        _number(grown.value - left.value),
        f"{_number(left.value)} +- {_number(left.margin)}",
        _number(finding.bytes_per_fact),
        f"{before} to {after}" if before != after else str(after),
        str(finding.threads),
        f"{finding.cpu_percent:.0f}",
        _number(finding.lag_facts, 0),
        _number(finding.loop_lag_s * 1000, 0),
        finding.verdict,
    )


def _number(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
