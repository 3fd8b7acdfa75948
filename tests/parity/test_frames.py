"""The platform's own services in frames give the loop gear's tape, byte for byte, in one process and without servers.

What NATS and Postgres add is in tests/e2e; generated cores are in tests/properties.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pytest

from tapeline_backtest.feed import Outside as Line
from tapeline_backtest.runner import SERVICES
from tapeline_common.commands_run import default_config
from tapeline_common.core import FOREVER, Core, Quiet
from tapeline_common.events import BarClosed
from tapeline_common.frame_follower import Forecaster, FrameFollower
from tapeline_common.frames import Frame, Reply, decode_for_service, plan_of
from tapeline_common.loop import Loop
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.settings import InstrumentTable, RegimeTable, RiskTable, Settings, StrategyTable, VenueTable, parse
from tapeline_common.values import Realm
from tapeline_common.wiring import Service, checked
from tapeline_execution import venue
from tapeline_ledger.frame_gate import FrameGate, ReplayBroken
from tapeline_ledger.service import SERVICE as LEDGER
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

ALL: tuple[Service, ...] = (LEDGER, *SERVICES)

TWO_STRATEGIES = Settings(
    venue=VenueTable(Decimal("0.001"), Decimal("0.001"), Decimal(2), None),
    risk=RiskTable(max_position=Decimal(3)),
    regime=RegimeTable(enabled=False),
    instrument=(InstrumentTable("BTC/USDT"), InstrumentTable("ETH/USDT")),
    strategy=(
        StrategyTable("ema", "ema_cross", ("BTC/USDT", "ETH/USDT"), Decimal(1), {"fast": 4, "slow": 9}),
        StrategyTable("breakout", "momentum_breakout", ("ETH/USDT",), Decimal(2)),
    ),
)
"""Orders that overlap: two strategies on one instrument, one strategy on two."""


def script_of(settings: Settings, bars: int) -> list[Line]:
    """Configuration and synthetic minutes of all instruments, in the order of the market."""
    specs = [
        SyntheticSpec(instrument=instrument_id(table), start_price=Decimal(900), tick_size=Decimal("0.01"))
        for table in settings.instrument
    ]
    market = SyntheticMarket(7, specs)
    minutes = list(bars_from(market, market.start(), bars))
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="test")
    start_ns = minutes[0].open_ns
    return [
        *(Line(each.author, f"{each.slot}#1", each.event, start_ns) for each in opening),
        *(Line("marketdata", f"bar:{bar.instrument}:{bar.open_ns}", bar, bar.close_ns) for bar in minutes),
    ]


def loop_hash(script: Sequence[Line]) -> tuple[int, str]:
    loop = Loop([core for each in ALL for core in each.cores], [worker for each in ALL for worker in each.workers])
    for line in script:
        loop.say(line.author, line.event, line.id, line.time_ns)
    return loop.sequencer.pos, loop.sequencer.hash.hex()


class Replay:
    """The gate with the services around it; ``frames`` counts what each was sent."""

    def __init__(self, services: Sequence[Service], *, most: int) -> None:
        plan = plan_of(services)
        self.gate = FrameGate(plan, most=most)
        self.frames: Counter[str] = Counter()
        ahead = {each.name for each in plan if each.goes_ahead}
        self.heard_by: dict[str, Any] = {
            each.name: Forecaster(each) if each.name in ahead else FrameFollower(each) for each in services
        }

    def run(self, script: Sequence[Line]) -> tuple[int, str]:
        lines = iter(script)
        while True:
            fed = [self.gate.feed(each.author, each.event, each.id, each.time_ns) for each in islice(lines, 300)]
            assert not any(fed), fed
            if not fed and self.gate.is_settled:
                return self.gate.sequencer.pos, self.gate.sequencer.hash.hex()
            self.go_on()

    def go_on(self) -> None:
        """Until nothing can be done before more is fed."""
        while True:
            previews = self.gate.previews()
            for name, _, payload in previews:
                self.gate.take_forecast(name, self.heard_by[name].hear(decode_for_service(payload)))
            requests = self.gate.requests()
            for request in requests:
                self.frames[request.service] += 1
                message = decode_for_service(request.encode())
                self.gate.take(request.service, self.heard_by[request.service].hear(message))
            self.gate.take_certain()
            if not previews and not requests:
                return


@pytest.mark.parametrize("most", [1, 2, 7, 256])
def test_frames_of_any_size_give_the_tape_of_the_loop(most: int) -> None:
    """Two strategies on two instruments, with fees, slippage and refusals: the same hash as in one process."""
    script = script_of(TWO_STRATEGIES, 1_500)
    facts, tape_hash = loop_hash(script)
    assert facts > 2_000
    assert Replay(ALL, most=most).run(script) == (facts, tape_hash)


def test_the_default_configuration_gives_the_tape_of_the_loop() -> None:
    """Limits on losses, models trained on the way and heard ahead, presets and a regime filter: the same hash."""
    settings = checked(parse(default_config()))
    script = script_of(settings, 1_000)
    assert Replay(ALL, most=256).run(script) == loop_hash(script)


def test_a_quiet_stretch_costs_few_frames_and_an_order_three_rounds() -> None:
    """No service is asked about bars that it has nothing to say to; an order is asked of each service once."""
    ema = StrategyTable("ema", "ema_cross", ("BTC/USDT",), Decimal(1), {"fast": 4, "slow": 9})
    settings = msgspec.structs.replace(
        TWO_STRATEGIES, instrument=TWO_STRATEGIES.instrument[:1], strategy=(ema,), risk=RiskTable()
    )
    script = script_of(settings, 3_000)
    replay = Replay(ALL, most=256)
    replay.run(script)
    orders = len(replay.heard_by["execution"].state("execution").finished)
    assert orders > 100
    assert replay.frames["risk"] <= orders + 20
    assert replay.frames["execution"] <= orders + 20
    assert replay.frames["strategy"] <= 2 * orders + 20
    assert replay.frames["regime"] == 0


def test_who_goes_ahead_is_read_off_the_tables() -> None:
    """Only the regime service hears nothing that another service says and looks at no position."""
    assert [each.name for each in plan_of(ALL) if each.goes_ahead] == ["regime"]


# ---- the checks can fail ---------------------------------------------------------------------------------------------


def with_core(service: Service, core: Core[Any]) -> Service:
    return replace(service, cores=tuple(core if each.name == core.name else each for each in service.cores))


def platform_with(core: Core[Any]) -> list[Service]:
    return [with_core(each, core) for each in ALL]


def test_a_promise_that_is_kept_too_long_is_caught() -> None:
    """A venue that says it will stay silent about bars although an order waits for them stops the replay."""
    rash = replace(venue.CORE, quiet={BarClosed: (Quiet(lambda _state: FOREVER),)})
    with pytest.raises(ReplayBroken, match=r"venue answered \d+, about which it had promised to be silent"):
        Replay(platform_with(rash), most=256).run(script_of(TWO_STRATEGIES, 1_500))


class Sloppy(FrameFollower):
    """Goes on behind its first answer, as if nobody else could say anything: its frame is cut one fact too late."""

    def hear(self, frame: Frame) -> Reply:
        return super().hear(msgspec.structs.replace(frame, certain=2**62))


class Hasty(FrameFollower):
    """Takes its own facts to stand where they would if nobody else answered anything."""

    def hear(self, frame: Frame) -> Reply:
        return super().hear(msgspec.structs.replace(frame, limits={} if frame.limits is not None else None))


class Late(FrameFollower):
    """Answers one frame late."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._kept: tuple[Any, ...] = ()

    def hear(self, frame: Frame) -> Reply:
        reply = super().hear(frame)
        kept, self._kept = self._kept, reply.said
        return msgspec.structs.replace(reply, said=kept)


@pytest.mark.parametrize(
    ("name", "mutant"), [("strategy", Sloppy), ("execution", Hasty), ("strategy", Late), ("risk", Late)]
)
def test_a_service_out_of_step_is_caught(name: str, mutant: Callable[[Service], FrameFollower]) -> None:
    """A frame cut too late, own facts at wrong positions, an answer one frame late: the replay stops."""
    replay = Replay(ALL, most=256)
    replay.heard_by[name] = mutant(next(each for each in ALL if each.name == name))
    with pytest.raises(ReplayBroken):
        replay.run(script_of(TWO_STRATEGIES, 1_500))


def test_a_core_that_reads_positions_after_all_is_caught() -> None:
    """A core that goes ahead has no positions to look at."""
    (core,) = next(each for each in ALL if each.name == "regime").cores
    curious = replace(core, evolves={**core.evolves, BarClosed: lambda _state, _event, stamp: print(stamp.pos)})
    with pytest.raises(AttributeError, match="pos"):
        Replay(platform_with(curious), most=256).run(script_of(TWO_STRATEGIES, 50))
