"""The simulated world finds nothing wrong with right cores in 200 seeds, and finds every deliberately broken one."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from tapeline_common import control
from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    BarClosed,
    Event,
    FlattenRequested,
    HaltRequested,
    OrderAccepted,
    OrderApproved,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    PositionChanged,
    ResumeRequested,
    RunStarted,
    TradingResumed,
    TrainingFailed,
    TrainingRequested,
)
from tapeline_common.simulation import Outcome, Saying, Violation, World
from tapeline_common.simulation_faults import Dice, Fault
from tapeline_common.simulation_invariants import ORDERS
from tapeline_common.values import (
    DecimalText,
    InstrumentId,
    Liquidity,
    OrderId,
    Realm,
    Refusal,
    Regime,
    Side,
    StrategyId,
    TradingState,
    TrainingFault,
    Withheld,
)
from tapeline_common.wire import Fact
from tapeline_common.wiring import Worker

SEEDS = 200
CHUNK = 50
STEPS = 2500
MUTANT_SEEDS = 20

TOY = StrategyId("toy")
INSTRUMENTS = (InstrumentId("BTC-USDT_paper"), InstrumentId("ETH-USDT_paper"), InstrumentId("SOL-USDT_paper"))
MINUTE_NS = 60_000_000_000


# ---- toy cores: the shape of the platform, small enough to be read at once ----


@dataclass(slots=True)
class Signals:
    """strategy: bars counted per instrument, and the open order of each."""

    bars: dict[InstrumentId, int] = field(default_factory=dict)
    open: dict[InstrumentId, OrderId] = field(default_factory=dict)


def count_bar(state: Signals, bar: BarClosed, _stamp: Stamp) -> None:
    state.bars[bar.instrument] = state.bars.get(bar.instrument, 0) + 1


def propose(state: Signals, bar: BarClosed, stamp: Stamp) -> Sequence[Event]:
    if state.bars[bar.instrument] % 3 or bar.instrument in state.open:
        return ()
    # The quantity depends on everything counted, in the order in which instruments were first seen.
    weights = sum(place * count for place, count in enumerate(state.bars.values(), 1))
    terms = OrderTerms(TOY, bar.instrument, Side.BUY, Decimal(weights))
    order = OrderId(f"toy-{stamp.pos}")
    return [OrderProposed(order, terms, stamp.time_ns, bar.open_ns, terms.quantity, Regime.UNKNOWN)]


def open_order(state: Signals, event: OrderProposed, _stamp: Stamp) -> None:
    state.open[event.terms.instrument] = event.order


def close_order(state: Signals, event: OrderFilled | OrderRefused | OrderWithheld, _stamp: Stamp) -> None:
    for instrument, order in list(state.open.items()):
        if order == event.order:
            del state.open[instrument]


STRATEGY = Core(
    "strategy",
    Signals,
    {
        BarClosed: count_bar,
        OrderProposed: open_order,
        OrderFilled: close_order,
        OrderRefused: close_order,
        OrderWithheld: close_order,
    },
    {BarClosed: propose},
)


@dataclass(slots=True)
class Gate:
    """risk, execution: the trading state, and what was decided under it."""

    trading: TradingState = TradingState.HALTED
    orders: dict[OrderId, int] = field(default_factory=dict)


def learn_control(state: Gate, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]


def note_order(state: Gate, event: Any, stamp: Stamp) -> None:
    state.orders[event.order] = stamp.pos


def approve(state: Gate, event: OrderProposed, stamp: Stamp) -> Sequence[Event]:
    terms = event.terms
    if not control.may_trade(state.trading, terms):
        return [OrderRefused(event.order, TOY, terms.instrument, Refusal.TRADING_HALTED, state.trading, "RUNNING")]
    return [OrderApproved(event.order, terms, stamp.time_ns + MINUTE_NS)]


def resume(state: Gate, _event: ResumeRequested, _stamp: Stamp) -> Sequence[Event]:
    return () if state.trading is TradingState.RUNNING else [TradingResumed("asked for")]


RISK = Core(
    "risk",
    Gate,
    {**dict.fromkeys(control.AFTER, learn_control), OrderApproved: note_order, OrderRefused: note_order},
    {OrderProposed: approve, ResumeRequested: resume},
)


def submit(state: Gate, event: OrderApproved, stamp: Stamp) -> Sequence[Event]:
    client = f"c-{stamp.pos}"
    if not control.may_trade(state.trading, event.terms):
        return [OrderWithheld(event.order, client, Withheld.TRADING_HALTED)]
    return [OrderSubmitted(event.order, client, event.terms, stamp.pos, event.valid_until_ns)]


def withhold(state: Gate, event: OrderSubmitted, _stamp: Stamp) -> Sequence[Event]:
    if control.may_trade(state.trading, event.terms):
        return ()
    return [OrderWithheld(event.order, event.client_order_id, Withheld.TRADING_HALTED)]


EXECUTION = Core(
    "execution",
    Gate,
    {**dict.fromkeys(control.AFTER, learn_control), OrderSubmitted: note_order, OrderWithheld: note_order},
    {OrderApproved: submit},
    {OrderSubmitted: withhold},
)


@dataclass(slots=True)
class Book:
    """venue: working orders; nothing is accepted while halted, because nothing would have been sent."""

    trading: TradingState = TradingState.HALTED
    working: dict[OrderId, OrderSubmitted] = field(default_factory=dict)
    fills: int = 0


def book_control(state: Book, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]


def book_order(state: Book, event: OrderSubmitted, _stamp: Stamp) -> None:
    if control.may_trade(state.trading, event.terms):
        state.working[event.order] = event


def accept(state: Book, event: OrderSubmitted, _stamp: Stamp) -> Sequence[Event]:
    if event.order not in state.working:
        return ()
    return [OrderAccepted(event.order, event.client_order_id, f"v-{event.order}")]


def fill(state: Book, bar: BarClosed, _stamp: Stamp) -> Sequence[Event]:
    zero = Decimal(0)
    return [
        OrderFilled(
            order.order,
            order.client_order_id,
            TOY,
            bar.instrument,
            f"t-{state.fills + index}",
            order.terms.side,
            order.terms.quantity,
            Decimal(bar.open),
            zero,
            "USDT",
            Liquidity.TAKER,
            zero,
        )
        for index, order in enumerate(state.working.values())
        if order.terms.instrument == bar.instrument
    ]


def book_fill(state: Book, event: OrderFilled, _stamp: Stamp) -> None:
    del state.working[event.order]
    state.fills += 1


VENUE = Core(
    "venue",
    Book,
    {**dict.fromkeys(control.AFTER, book_control), OrderSubmitted: book_order, OrderFilled: book_fill},
    {OrderSubmitted: accept, BarClosed: fill},
)


@dataclass(slots=True)
class Holdings:
    """ledger: quantity held per instrument."""

    held: dict[InstrumentId, Decimal] = field(default_factory=dict)


def hold(state: Holdings, event: OrderFilled, _stamp: Stamp) -> None:
    state.held[event.instrument] = state.held.get(event.instrument, Decimal(0)) + event.quantity


def report_position(state: Holdings, event: OrderFilled, _stamp: Stamp) -> Sequence[Event]:
    zero = Decimal(0)
    return [PositionChanged(TOY, event.instrument, state.held[event.instrument], event.price, zero, zero)]


LEDGER = Core("ledger", Holdings, {OrderFilled: hold}, {OrderFilled: report_position})


@dataclass(slots=True)
class Window:
    """regime: the closes a model would be fitted on, and what the trainer said about them."""

    closes: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


def learn_close(state: Window, bar: BarClosed, _stamp: Stamp) -> None:
    state.closes.append(bar.close)


def ask_training(state: Window, bar: BarClosed, _stamp: Stamp) -> Sequence[Event]:
    return [] if len(state.closes) % 20 else [TrainingRequested(bar.instrument, len(state.closes))]


def learn_result(state: Window, event: TrainingFailed, _stamp: Stamp) -> None:
    state.results.append(event.detail)


def take_window(state: Window, event: TrainingRequested) -> Any:
    return event.instrument, tuple(state.closes)


def train(job: Any) -> Sequence[Event]:
    instrument, closes = job
    return [TrainingFailed(instrument, TrainingFault.TOO_FEW_BARS, str(sum(map(Decimal, closes))))]


REGIME = Core(
    "regime",
    Window,
    {BarClosed: learn_close, TrainingFailed: learn_result},
    {BarClosed: ask_training},
)
TRAINER = Worker("trainer", TrainingRequested, "regime", take_window, train)

CORES: dict[str, Core[Any]] = {core.name: core for core in (STRATEGY, RISK, EXECUTION, VENUE, LEDGER, REGIME)}


# ---- what comes from outside ----


def bars(seed: int, instrument: InstrumentId, count: int) -> list[Saying]:
    """A random walk of one-minute bars."""
    dice = Dice(seed, instrument)
    close = 100_000
    sayings = []
    for index in range(count):
        opened = close
        close = max(1000, close + dice.below(1001) - 500)
        low, high = sorted((opened, close))
        first, highest, lowest, last = (DecimalText(f"{cents / 100:.2f}") for cents in (opened, high, low, close))
        end_ns = (index + 1) * MINUTE_NS
        bar = BarClosed(instrument, "1m", end_ns - MINUTE_NS, end_ns, first, highest, lowest, last, DecimalText("10"))
        sayings.append(Saying("marketdata", bar, f"{instrument}:{index}", end_ns))
    return sayings


def requests(seed: int, count: int) -> list[Saying]:
    """The start of a run, then an operator who halts, flattens and resumes as the mood takes them."""
    started = RunStarted("toy", f"tape-{seed}", Realm.LIVE, seed, "USDT", "1")
    sayings = [Saying("operator", started, "run#1")]
    dice = Dice(seed, "operator")
    for index in range(count):
        draw = dice.below(5)
        event: Event
        if draw == 0:
            event = HaltRequested("operator", "nervous")
        elif draw == 1:
            event = FlattenRequested("operator", "very nervous")
        else:
            event = ResumeRequested("operator", "calm again", index + 1, "signed")
        sayings.append(Saying("operator", event, f"request#{index}"))
    return sayings


def one_open_order(facts: list[Fact]) -> str | None:
    """The toy strategy has at most one open order per instrument."""
    open_orders: dict[OrderId, InstrumentId] = {}
    for fact in facts:
        event = fact.event
        if isinstance(event, OrderProposed):
            if event.terms.instrument in open_orders.values():
                return f"{event.order} at {fact.pos}, while {open_orders} are open"
            open_orders[event.order] = event.terms.instrument
        elif isinstance(event, OrderFilled | OrderRefused | OrderWithheld):
            open_orders.pop(event.order, None)
    return None


def struck_text(struck: dict[Fault, int]) -> str:
    return ", ".join(f"{fault} {count}" for fault, count in struck.items())


def run_world(seed: int, cores: dict[str, Core[Any]], worker: Worker = TRAINER, *, steps: int = STEPS) -> Outcome:
    feeds = [requests(seed, 20), *(bars(seed, instrument, 40) for instrument in INSTRUMENTS)]
    world = World(seed, list(cores.values()), feeds, workers=[worker], invariants=[*ORDERS, one_open_order])
    return world.run(steps)


# ---- right cores ----


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_violation(first: int) -> None:
    """Whatever goes wrong, the tape is whole, equals a clean replay, and every service comes to rest at its head."""
    struck = dict.fromkeys(Fault, 0)
    said: dict[str, int] = {}
    for seed in range(first, first + CHUNK):
        outcome = run_world(seed, CORES)
        for fault, count in outcome.faults.items():
            struck[fault] += count
        for fact in outcome.facts:
            name = type(fact.event).__name__
            said[name] = said.get(name, 0) + 1
    print(f"seeds {first} to {first + CHUNK - 1}: {sum(said.values())} facts; {struck_text(struck)}")
    assert [fault for fault, count in struck.items() if count == 0] == []
    for event in (OrderApproved, OrderRefused, OrderSubmitted, OrderWithheld, OrderFilled, TrainingFailed):
        assert said.get(event.__name__, 0) > 0, f"no {event.__name__}: this chunk of worlds is too quiet to mean much"


@pytest.mark.parametrize("seed", [3, 14, 159])
def test_same_seed_same_tape(seed: int) -> None:
    """A seed is a full description: twice the same world gives the same bytes and strikes the same faults."""
    assert run_world(seed, CORES) == run_world(seed, CORES)


def test_seeds_differ() -> None:
    """Another seed is another world."""
    assert run_world(1, CORES).head_hash != run_world(2, CORES).head_hash


def test_quiet_world() -> None:
    """A world without a feed comes to rest with an empty tape."""
    assert World(1, list(CORES.values()), []).run(100).facts == []


# ---- broken cores ----


def violation_of(make: Callable[[], Core[Any]], worker: Worker = TRAINER, others: dict[str, Core[Any]] = CORES) -> str:
    """What the world finds wrong with a platform in which one core is broken; empty if it finds nothing."""
    for seed in range(MUTANT_SEEDS):
        core = make()
        try:
            run_world(seed, {**others, core.name: core}, worker)
        except Violation as violation:
            return str(violation)
    return ""


def test_state_written_in_decide() -> None:
    """A decider that writes is found: a restored copy does not repeat the write."""

    def forgetful_propose(state: Signals, bar: BarClosed, stamp: Stamp) -> Sequence[Event]:
        said = propose(state, bar, stamp)
        state.bars[bar.instrument] += len(said)
        return said

    found = violation_of(lambda: replace(STRATEGY, decides={BarClosed: forgetful_propose}))
    assert "strategy" in found


def test_own_fact_forgotten() -> None:
    """A core without a row for its own fact is found by what it says again."""
    evolves = dict(STRATEGY.evolves)
    del evolves[OrderProposed]
    found = violation_of(lambda: replace(STRATEGY, evolves=evolves))
    assert "one_open_order" in found


def test_hidden_counter() -> None:
    """A core that counts outside its state is found: the count is not on the tape."""
    counter = itertools.count()

    def counted(state: Holdings, event: OrderFilled, stamp: Stamp) -> Sequence[Event]:
        return [
            replace_fees(said, Decimal(next(counter)))
            for said in report_position(state, event, stamp)
            if isinstance(said, PositionChanged)
        ]

    found = violation_of(lambda: replace(LEDGER, decides={OrderFilled: counted}))
    assert "ledger" in found


def replace_fees(event: PositionChanged, fees: Decimal) -> PositionChanged:
    return PositionChanged(
        event.strategy, event.instrument, event.quantity, event.average_price, event.realised_pnl, fees
    )


def test_wall_clock_read() -> None:
    """A core that reads the machine's clock is found."""

    def approve_by_clock(state: Gate, event: OrderProposed, stamp: Stamp) -> Sequence[Event]:
        return approve(state, event, Stamp(stamp.pos, time.perf_counter_ns()))

    decides: dict[type[Event], Any] = {**RISK.decides, OrderProposed: approve_by_clock}
    assert "risk" in violation_of(lambda: replace(RISK, decides=decides))


def test_other_order_after_restore() -> None:
    """A core whose iteration order differs from process to process is found, as a set's would."""
    incarnations = itertools.count()

    def unordered() -> Signals:
        turned = INSTRUMENTS if next(incarnations) % 2 else INSTRUMENTS[::-1]
        return Signals(dict.fromkeys(turned, 0))

    assert "strategy" in violation_of(lambda: replace(STRATEGY, initial=unordered))


def test_answers_twice() -> None:
    """A core that uses one approval for two submissions is found."""

    def submit_again(state: Gate, event: OrderSubmitted, stamp: Stamp) -> Sequence[Event]:
        withheld = withhold(state, event, stamp)
        if withheld or event.client_order_id.startswith("again"):
            return withheld
        client = f"again-{event.client_order_id}"
        return [OrderSubmitted(event.order, client, event.terms, event.approval, event.valid_until_ns)]

    found = violation_of(lambda: replace(EXECUTION, confirms={OrderSubmitted: submit_again}))
    assert "submitted_once" in found


def test_never_finished() -> None:
    """A core that always has an answer to its own answer is found: the world never comes to rest."""

    def chatter(_state: Gate, event: OrderSubmitted | OrderWithheld, _stamp: Stamp) -> Sequence[Event]:
        return [OrderWithheld(event.order, event.client_order_id, Withheld.APPROVAL_EXPIRED)]

    core = replace(EXECUTION, confirms={OrderSubmitted: chatter, OrderWithheld: chatter})
    with pytest.raises(Violation, match="not at rest"):
        World(5, [STRATEGY, RISK, core], [requests(5, 30), bars(5, INSTRUMENTS[0], 60)]).run(STEPS)


def test_sends_after_halt() -> None:
    """A venue that takes orders while halted is found."""
    ungated: dict[type[Event], Any] = {**VENUE.evolves, **dict.fromkeys(control.AFTER, lambda _s, _e, _t: None)}

    def deaf() -> Core[Any]:
        return replace(VENUE, initial=lambda: Book(TradingState.RUNNING), evolves=ungated)

    others = {**CORES, "execution": replace(EXECUTION, confirms={})}
    assert "nothing_sent_after_halt" in violation_of(deaf, others=others)


def test_exception_is_found() -> None:
    """A core that raises stops its service, and the world names the service and the exception."""

    def stumble(_state: Any, _event: Any, _stamp: Stamp) -> Sequence[Event]:
        raise ZeroDivisionError("stumbled")

    found = violation_of(lambda: replace(RISK, decides={**RISK.decides, OrderProposed: stumble}))
    assert "risk" in found
    assert "ZeroDivisionError: stumbled" in found


def test_worker_that_sees_live_state() -> None:
    """A worker whose job is the live list, not a copy of it, is found: the list grows before the job runs."""

    def hand_over(state: Window, event: TrainingRequested) -> Any:
        return event.instrument, state.closes

    worker = replace(TRAINER, prepare=hand_over)
    assert "trainer" in violation_of(lambda: REGIME, worker)
