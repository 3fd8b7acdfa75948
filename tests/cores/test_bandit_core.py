"""The bandit's core: who is registered, what is chosen when, and which decision a trade rewards."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tapeline_bandit import core as bandit
from tapeline_bandit.core import CORE, DIMENSION, OPEN_DECISIONS
from tapeline_bandit.lints import Choice, choose
from tapeline_bandit.posterior import Posteriors, new_posteriors, update
from tapeline_bandit.service import SERVICE
from tapeline_common.events import (
    AUTHOR_OF,
    BanditConfigured,
    BarClosed,
    Event,
    Parameters,
    PresetChosen,
    PresetRefused,
    PresetRegistered,
    PresetRequested,
    PresetRewarded,
    RegimeUpdated,
    RunStarted,
    StrategyConfigured,
    TradeClosed,
)
from tapeline_common.loop import Loop
from tapeline_common.restore import restore
from tapeline_common.sequencer import Recorded
from tapeline_common.testing import StateWritten, fingerprint, given
from tapeline_common.values import InstrumentId, PositionSide, PresetRefusal, Realm, Regime, StrategyId
from tapeline_common.wire import decode_fact

BITCOIN, ETHER, SOLANA = InstrumentId("BTC-USDT"), InstrumentId("ETH-USDT"), InstrumentId("SOL-USDT")
CROSS, TREND = StrategyId("cross"), StrategyId("trend")
SEED = 20260101
QUICK: Parameters = {"fast": 5, "slow": 20}
STEADY: Parameters = {"fast": 20, "slow": 100}
UNKNOWN_CONTEXT = (1.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
BULL_CONTEXT = (1.0, 0.75, 0.125, 0.125)

SETTINGS = BanditConfigured(prior_precision=1.0, scale=0.25, discount=0.99, floor=0.01)
BOUND = StrategyConfigured(CROSS, "ema_cross", (BITCOIN,), "1m", Decimal(1), {}, uses_presets=True)
QUICK_WANTED = PresetRequested(CROSS, "quick", QUICK)
STEADY_WANTED = PresetRequested(CROSS, "steady", STEADY)
QUICK_KNOWN = PresetRegistered(CROSS, "quick", QUICK)
STEADY_KNOWN = PresetRegistered(CROSS, "steady", STEADY)
BULLISH = RegimeUpdated(BITCOIN, 0, Regime.BULL, (0.75, 0.125, 0.125), None, None)
CALM = RegimeUpdated(BITCOIN, 60, Regime.UNKNOWN, (), None, None)


def started(seed: int = SEED) -> RunStarted:
    return RunStarted("test", "tape", Realm.REPLAY, seed, "USDT", "1")


READY = (started(), SETTINGS, BOUND)


def trade(decision: str, pnl: str = "12", fees: str = "2", **changes: Any) -> TradeClosed:
    """A long of 2 at 100, so 2.0 of planned risk; by default it earned 10 net, which is 5 risks."""
    fields: dict[str, Any] = {
        "trade": "trade-1",
        "strategy": CROSS,
        "instrument": BITCOIN,
        "side": PositionSide.LONG,
        "quantity": Decimal(2),
        "entry_price": Decimal(100),
        "exit_price": Decimal(100),
        "opened_ns": 0,
        "closed_ns": 1,
        "pnl": Decimal(pnl),
        "fees": Decimal(fees),
        "decision": decision,
    }
    return TradeClosed(**(fields | changes))


def chosen(
    number: int,
    *,
    presets: tuple[str, ...] = ("quick",),
    outcomes: Sequence[tuple[int, int, tuple[float, ...], float]] = (),
    context: tuple[float, ...] = UNKNOWN_CONTEXT,
    instrument: InstrumentId = BITCOIN,
    settings: BanditConfigured = SETTINGS,
) -> PresetChosen:
    """What must be said, from the posterior of these outcomes (decision, arm, context, reward) and nothing else."""
    beliefs = new_posteriors(
        len(presets), DIMENSION, prior_precision=settings.prior_precision, discount=settings.discount
    )
    for decision, arm, at_choice, value in outcomes:
        update(beliefs, decision=decision, arm=arm, context=at_choice, reward=value)
    choice = choose(
        beliefs,
        context,
        decision=number,
        seed=SEED,
        position=number,
        salt=f"preset:cross:{instrument}",
        scale=settings.scale,
        floor=settings.floor,
    )
    assert isinstance(choice, Choice)
    return PresetChosen(
        decision=f"cross-{instrument}-{number}",
        strategy=CROSS,
        instrument=instrument,
        preset=presets[choice.arm],
        presets=presets,
        means=choice.means,
        deviations=choice.deviations,
        propensities=choice.propensities,
        context=context,
    )


def rewarded(number: int, reward: float, preset: str = "quick", name: str = "trade-1") -> PresetRewarded:
    return PresetRewarded(f"cross-{BITCOIN}-{number}", CROSS, preset, name, reward)


def recorded_choice(number: int, preset: str = "quick", context: tuple[float, ...] = UNKNOWN_CONTEXT) -> PresetChosen:
    """A choice as it lies on the tape; its numbers do not matter to what is learnt from it."""
    return PresetChosen(f"cross-{BITCOIN}-{number}", CROSS, BITCOIN, preset, (), (), (), (), context)


# ---- registration ------------------------------------------------------------------------------------------------


def test_a_first_preset_is_registered_and_chosen_at_once() -> None:
    """With one arm there is nothing to wait for: the strategy can trade from here on."""
    given(CORE, *READY).when(QUICK_WANTED).then(QUICK_KNOWN, chosen(0))


def test_a_first_preset_is_chosen_for_every_instrument_of_its_strategy() -> None:
    """Each instrument has its own decision, in the order in which the strategy is bound to them."""
    bound = msgspec.structs.replace(BOUND, instruments=(ETHER, BITCOIN))
    given(CORE, started(), SETTINGS, bound).when(QUICK_WANTED).then(
        QUICK_KNOWN, chosen(0, instrument=ETHER), chosen(0, instrument=BITCOIN)
    )


def test_a_later_preset_is_registered_and_waits_for_the_next_choice() -> None:
    """A strategy in the middle of a decision keeps it; the new arm takes part after the next trade."""
    history = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(STEADY_WANTED).then(STEADY_KNOWN)
    outcome = history.when(trade(f"cross-{BITCOIN}-0"))
    outcome.then(
        rewarded(0, 3.0),
        chosen(1, presets=("quick", "steady"), outcomes=[(0, 0, UNKNOWN_CONTEXT, 3.0)]),
    )


def test_a_preset_of_an_unknown_strategy_is_refused() -> None:
    """Nothing is kept for a strategy that nobody configured."""
    given(CORE, started(), SETTINGS).when(QUICK_WANTED).then(
        PresetRefused(
            CROSS,
            "quick",
            PresetRefusal.STRATEGY_UNKNOWN,
            "strategy 'cross' is not configured; configure it first",
        )
    )


def test_a_preset_of_a_strategy_without_presets_is_refused() -> None:
    """A strategy that takes its parameters from its configuration would never hear of the preset."""
    given(CORE, started(), SETTINGS, msgspec.structs.replace(BOUND, uses_presets=False)).when(QUICK_WANTED).then(
        PresetRefused(
            CROSS,
            "quick",
            PresetRefusal.PRESETS_NOT_USED,
            "strategy 'cross' uses no presets; configure it with uses_presets and an instrument",
        )
    )


def test_a_name_in_use_with_other_parameters_is_refused() -> None:
    """What was learnt under a name stays true: a preset never changes its parameters."""
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(PresetRequested(CROSS, "quick", STEADY)).then(
        PresetRefused(
            CROSS,
            "quick",
            PresetRefusal.PRESET_NAME_USED,
            f"preset 'quick' has the parameters {QUICK}, not {STEADY}; choose another name",
        )
    )


def test_the_same_request_twice_is_quiet() -> None:
    """Configuration said again changes nothing, whatever the order of its keys."""
    again = PresetRequested(CROSS, "quick", {"slow": 20, "fast": 5})
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(again).then_nothing()


def test_two_strategies_may_use_one_preset_name() -> None:
    """Names belong to a strategy; the other strategy's choice is left alone."""
    other = msgspec.structs.replace(BOUND, strategy=TREND)
    outcome = given(CORE, *READY, other, QUICK_KNOWN, recorded_choice(0)).when(PresetRequested(TREND, "quick", STEADY))
    assert outcome.decisions[0] == PresetRegistered(TREND, "quick", STEADY)
    assert [decision.decision for decision in outcome.decisions[1:]] == [f"trend-{BITCOIN}-0"]  # type: ignore[attr-defined]


# ---- configuration -----------------------------------------------------------------------------------------------


def test_choices_that_waited_for_settings_are_made_when_they_come() -> None:
    """Without settings a preset is registered and nothing is chosen; the settings bring the choice."""
    given(CORE, started(), BOUND).when(QUICK_WANTED).then(QUICK_KNOWN).when(SETTINGS).then(chosen(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior_precision": 0.0},
        {"prior_precision": float("nan")},
        {"prior_precision": 1e300},
        {"discount": 0.0},
        {"discount": 1.5},
        {"scale": 0.0},
        {"scale": float("inf")},
        {"floor": -0.1},
        {"floor": 1.1},
    ],
)
def test_settings_out_of_range_choose_nothing(wrong: dict[str, float]) -> None:
    """A choice that could not be computed is not attempted; trades still teach, and settings in range go on."""
    history = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0), msgspec.structs.replace(SETTINGS, **wrong))
    after = history.when(trade(f"cross-{BITCOIN}-0")).then(rewarded(0, 3.0))
    after.when(SETTINGS).then(chosen(1, outcomes=[(0, 0, UNKNOWN_CONTEXT, 3.0)]))


def test_new_settings_hold_from_the_next_choice() -> None:
    """A choice that stands is not drawn again; the next one uses the new prior, scale, discount and floor."""
    bold = BanditConfigured(prior_precision=4.0, scale=1.0, discount=0.5, floor=0.1)
    history = given(CORE, *READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0)).when(bold).then_nothing()
    history.when(trade(f"cross-{BITCOIN}-0")).then(
        rewarded(0, 3.0),
        chosen(1, presets=("quick", "steady"), outcomes=[(0, 0, UNKNOWN_CONTEXT, 3.0)], settings=bold),
    )


def test_more_presets_than_the_floor_has_room_for_are_drawn_evenly() -> None:
    """A floor of 0.4 for three presets asks for more than all probability: each gets a third."""
    greedy = BanditConfigured(prior_precision=1.0, scale=0.25, discount=0.99, floor=0.4)
    names = ("quick", "steady", "slow")
    known = [PresetRegistered(CROSS, name, {}) for name in names]
    outcome = given(CORE, started(), greedy, BOUND, *known, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0"))
    choice = outcome.decisions[1]
    assert isinstance(choice, PresetChosen)
    assert choice.propensities == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-15)


def test_an_instrument_added_later_gets_its_first_choice_among_all_presets() -> None:
    """A strategy bound to one more instrument can trade there at once; the old instrument keeps its choice."""
    wider = msgspec.structs.replace(BOUND, instruments=(BITCOIN, ETHER))
    given(CORE, *READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0)).when(wider).then(
        chosen(0, presets=("quick", "steady"), instrument=ETHER)
    )


def test_a_strategy_configured_again_unchanged_is_quiet() -> None:
    """Neither beliefs nor the choice that stands are touched."""
    history = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0))
    before = fingerprint(history.state)
    assert fingerprint(history.when(BOUND).then_nothing().state) == before


def test_an_instrument_that_was_left_is_rewarded_and_chooses_no_more() -> None:
    """The last trade there still teaches; there is no next trade to choose for."""
    moved = msgspec.structs.replace(BOUND, instruments=(ETHER,))
    history = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(moved).then(chosen(0, instrument=ETHER))
    history.when(trade(f"cross-{BITCOIN}-0")).then(rewarded(0, 3.0))


# ---- context -----------------------------------------------------------------------------------------------------


def test_the_latest_regime_of_the_instrument_is_the_context() -> None:
    """Probabilities of BULL, BEAR and CHOP stand behind a constant one."""
    given(CORE, *READY, CALM, BULLISH).when(QUICK_WANTED).then(QUICK_KNOWN, chosen(0, context=BULL_CONTEXT))


@pytest.mark.parametrize("probabilities", [(), (0.5, 0.5), (float("nan"), 0.5, 0.5), (1e9, 0.0, 0.0)])
def test_a_regime_without_a_triple_of_probabilities_is_unknown(probabilities: tuple[float, ...]) -> None:
    """No model, or numbers that are none, leave a third each; what was known before is not used any more."""
    update_now = msgspec.structs.replace(BULLISH, probabilities=probabilities)
    given(CORE, *READY, BULLISH, update_now).when(QUICK_WANTED).then(QUICK_KNOWN, chosen(0))


def test_a_regime_of_another_instrument_is_not_the_context() -> None:
    """Each instrument is judged by its own regime."""
    elsewhere = msgspec.structs.replace(BULLISH, instrument=ETHER)
    given(CORE, *READY, elsewhere).when(QUICK_WANTED).then(QUICK_KNOWN, chosen(0))


def test_a_regime_alone_says_nothing() -> None:
    """A choice that stands is kept until its trade has closed."""
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(BULLISH).then_nothing()


def test_bars_do_not_reach_the_bandit() -> None:
    """The hot path is empty."""
    assert BarClosed not in CORE.hears


# ---- reward and the next choice ----------------------------------------------------------------------------------


def test_a_closed_trade_rewards_its_decision_and_brings_the_next_choice() -> None:
    """1 net on 2.0 of planned risk is a reward of one half, and the next choice knows it."""
    both = ("quick", "steady")
    given(CORE, *READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0, "steady", BULL_CONTEXT)).when(
        trade(f"cross-{BITCOIN}-0", pnl="3", fees="2")
    ).then(
        rewarded(0, 0.5, "steady"),
        chosen(1, presets=both, outcomes=[(0, 1, BULL_CONTEXT, 0.5)]),
    )


@pytest.mark.parametrize(
    ("pnl", "fees", "reward"),
    [("-1", "1", -1.0), ("0", "0", 0.0), ("0.30", "0.10", 0.1), ("100", "1", 3.0), ("-100", "1", -3.0)],
)
def test_the_reward_is_net_profit_in_planned_risks_within_three(pnl: str, fees: str, reward: float) -> None:
    """Fees count against the preset, and one wild trade counts as three risks."""
    outcome = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0", pnl, fees))
    assert outcome.decisions[0] == rewarded(0, reward)


def test_a_negative_entry_price_still_has_a_positive_risk() -> None:
    """Futures have traded below zero; a loss there must not turn into a reward."""
    outcome = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(
        trade(f"cross-{BITCOIN}-0", "-1", "1", entry_price=Decimal(-100))
    )
    assert outcome.decisions[0] == rewarded(0, -1.0)


def test_a_trade_whose_risk_cannot_be_measured_is_not_rewarded() -> None:
    """An entry at zero has no risk to measure profit in: the next choice is made without it."""
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0", entry_price=Decimal(0))).then(
        chosen(1)
    )


@pytest.mark.parametrize("decision", ["", "cross-BTC-USDT-7", "cross-ETH-USDT-0"])
def test_a_trade_of_an_unknown_decision_brings_the_next_choice_only(decision: str) -> None:
    """A trade made before there were presets says nothing about any of them."""
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(decision)).then(chosen(1))


def test_a_decision_of_another_instrument_is_not_rewarded_by_this_trade() -> None:
    """The trade's own instrument must have made the decision; the decision stays open for its own trade."""
    wider = msgspec.structs.replace(BOUND, instruments=(BITCOIN, ETHER))
    history = given(CORE, started(), SETTINGS, wider, QUICK_KNOWN, recorded_choice(0), chosen(0, instrument=ETHER))
    after = history.when(trade(f"cross-{BITCOIN}-0", instrument=ETHER)).then(chosen(1, instrument=ETHER))
    assert after.when(trade(f"cross-{BITCOIN}-0")).decisions[0] == rewarded(0, 3.0)


@pytest.mark.parametrize("stranger", [{"strategy": TREND}, {"instrument": ETHER}])
def test_a_trade_that_no_learner_belongs_to_is_quiet(stranger: dict[str, str]) -> None:
    """Strategies without presets trade beside the bandit."""
    given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0", **stranger)).then_nothing()


def test_a_trade_before_any_preset_is_quiet() -> None:
    """There is nothing to choose from, and the first preset is still chosen when it comes."""
    given(CORE, *READY).when(trade("")).then_nothing().when(QUICK_WANTED).then(QUICK_KNOWN, chosen(0))


def test_the_choice_is_drawn_by_its_number() -> None:
    """The same beliefs choose alike wherever on the tape, and unlike over thirty choices: chance is named, not held."""
    both = ("quick", "steady")
    history = given(CORE, *READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0))
    choices = []
    for position in range(7, 37):
        (choice,) = replace(history, pos=position - 1).when(trade("")).decisions
        assert isinstance(choice, PresetChosen)
        number = position - 6
        assert choice == chosen(number, presets=both)
        choices.append(choice.preset)
    assert set(choices) == set(both)


# ---- attribution -------------------------------------------------------------------------------------------------


def test_a_trade_rewards_the_decision_it_was_opened_under() -> None:
    """Another choice has been made since, of another preset in another regime: both are left out of it."""
    both = ("quick", "steady")
    given(
        CORE,
        *READY,
        QUICK_KNOWN,
        STEADY_KNOWN,
        recorded_choice(0, "steady", BULL_CONTEXT),
        recorded_choice(1, "quick"),
    ).when(trade(f"cross-{BITCOIN}-0", pnl="3", fees="2")).then(
        rewarded(0, 0.5, "steady"),
        chosen(2, presets=both, outcomes=[(0, 1, BULL_CONTEXT, 0.5)]),
    )


def test_a_second_trade_under_one_decision_is_not_rewarded() -> None:
    """A turned position closes twice under one decision: it is one outcome, and each closing brings a choice."""
    first = given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0"))
    learnt = [(0, 0, UNKNOWN_CONTEXT, 3.0)]
    history = first.then(rewarded(0, 3.0), chosen(1, outcomes=learnt))
    history.when(trade(f"cross-{BITCOIN}-0", "-9", trade="trade-2")).then(chosen(2, outcomes=learnt))


def test_late_rewards_give_the_same_beliefs() -> None:
    """Outcomes are weighed by the age of their decision: in which order two trades close does not matter."""
    opening = (*READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0), recorded_choice(1, "steady", BULL_CONTEXT))
    in_order = given(CORE, *opening, rewarded(0, 3.0), rewarded(1, -1.0, "steady"))
    late = given(CORE, *opening, rewarded(1, -1.0, "steady"), rewarded(0, 3.0))
    assert fingerprint(in_order.state) == fingerprint(late.state)
    assert in_order.state.learners[CROSS][BITCOIN].open == {}


def test_decisions_that_nobody_traded_are_forgotten_in_the_end() -> None:
    """Memory is bounded: the oldest open decision makes room, and its trade would count as unknown."""
    choices = [recorded_choice(number) for number in range(OPEN_DECISIONS + 1)]
    history = given(CORE, *READY, QUICK_KNOWN, *choices)
    learner = history.state.learners[CROSS][BITCOIN]
    assert list(learner.open) == [choice.decision for choice in choices[1:]]
    assert history.when(trade(choices[0].decision)).decisions == (chosen(17),)


def test_the_recorded_choice_counts() -> None:
    """Restored from a tape that says "steady" where today's code would draw another: "steady" gets the reward."""
    drawn = chosen(1, presets=("quick", "steady"))
    other = "steady" if drawn.preset == "quick" else "quick"
    history = given(CORE, *READY, QUICK_KNOWN, STEADY_KNOWN, recorded_choice(0), trade(""), recorded_choice(1, other))
    assert history.when(trade(drawn.decision)).decisions[0] == rewarded(1, 3.0, other)


def test_own_facts_reached_on_the_tape_say_nothing() -> None:
    """They were learnt when they were decided; reaching them changes nothing and is answered by nothing."""
    assert dict(CORE.confirms) == {}
    assert (SERVICE.name, SERVICE.cores, SERVICE.authors) == ("bandit", (CORE,), ("bandit",))


# ---- the whole core in a loop ------------------------------------------------------------------------------------

NEWS: tuple[RegimeUpdated, ...] = tuple(
    msgspec.structs.replace(BULLISH, instrument=instrument, probabilities=probabilities)
    for instrument in (BITCOIN, ETHER)
    for probabilities in ((0.75, 0.125, 0.125), (0.125, 0.75, 0.125), ())
)


def run(seed: int, *, rounds: int = 30) -> tuple[Loop, list[Recorded]]:
    """A market where "steady" earns and "quick" loses: each round trades what is chosen, on two instruments."""
    kept: list[Recorded] = []
    loop = Loop([CORE], keep=kept.append)
    latest: dict[InstrumentId, PresetChosen] = {}

    def say(event: Event) -> None:
        position = loop.sequencer.pos + 1
        loop.say(AUTHOR_OF[type(event)], event, f"fact-{position}", position)
        for recorded in kept[position - 1 :]:
            if isinstance(recorded.fact.event, PresetChosen):
                latest[recorded.fact.event.instrument] = recorded.fact.event

    bound = msgspec.structs.replace(BOUND, instruments=(BITCOIN, ETHER))
    for event in (started(seed), SETTINGS, bound, QUICK_WANTED, STEADY_WANTED):
        say(event)
    for number in range(rounds):
        say(NEWS[number % len(NEWS)])
        for instrument in (BITCOIN, ETHER):
            choice = latest[instrument]
            pnl = "3" if choice.preset == "steady" else "1"
            say(trade(choice.decision, pnl, instrument=instrument, trade=f"{instrument}-{number}"))
    return loop, kept


def choices_of(kept: Sequence[Recorded]) -> list[str]:
    return [recorded.fact.event.preset for recorded in kept if isinstance(recorded.fact.event, PresetChosen)]


def test_the_same_facts_give_the_same_tape() -> None:
    """Run twice, every choice, number and byte is the same."""
    first, second = run(SEED)[0], run(SEED)[0]
    assert first.sequencer.hash == second.sequencer.hash
    assert fingerprint(first.states) == fingerprint(second.states)


def test_another_seed_gives_other_choices() -> None:
    """Chance comes from the run's seed, and from nowhere else."""
    assert choices_of(run(SEED)[1]) != choices_of(run(SEED + 1)[1])


def test_the_better_preset_is_found() -> None:
    """Half a risk gained against half a risk lost: in the end the better preset is chosen nearly always."""
    choices = choices_of(run(SEED, rounds=60)[1])
    assert choices[-60:].count("steady") >= 54
    assert choices[:10].count("quick") > 0


def test_a_restored_core_is_the_live_core() -> None:
    """Folding the tape's bytes gives the state of the running core, wherever the process was stopped."""
    loop, kept = run(SEED)
    facts = [decode_fact(recorded.payload) for recorded in kept]
    follower, owed = restore(CORE, facts)
    assert owed == []
    assert fingerprint(follower.state) == fingerprint(loop.states["bandit"])


def test_an_answer_lost_in_a_crash_is_decided_again_alike() -> None:
    """Stopped after any outside fact and before its answer was recorded, the core owes exactly that answer."""
    facts = [recorded.fact for recorded in run(SEED, rounds=8)[1]]
    for stopped_at in [fact.pos for fact in facts if not fact.cause]:
        answer = [fact.event for fact in facts if fact.cause == stopped_at]
        _, owed = restore(CORE, facts[:stopped_at])
        assert [(pos, list(decisions)) for pos, decisions in owed] == ([(stopped_at, answer)] if answer else [])


def test_a_core_that_writes_while_deciding_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were beliefs not copied before the reward is counted for the next choice, the specification would fail."""
    monkeypatch.setattr(bandit, "_copy", lambda posteriors: posteriors)
    with pytest.raises(StateWritten):
        given(CORE, *READY, QUICK_KNOWN, recorded_choice(0)).when(trade(f"cross-{BITCOIN}-0"))


# ---- properties --------------------------------------------------------------------------------------------------


def beliefs(state: bandit.State) -> dict[InstrumentId, Posteriors]:
    return {instrument: learner.posteriors for instrument, learner in state.learners[CROSS].items()}


@for_all(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_interleaving_recorded_histories_of_instruments_leaves_beliefs_equal(data: st.DataObject) -> None:
    """Trades and choices of three instruments, each in its own order, teach the same however they are mixed."""
    instruments = (BITCOIN, ETHER, SOLANA)
    bound = msgspec.structs.replace(BOUND, instruments=instruments)
    histories = {instrument: data.draw(_history(instrument), label=instrument) for instrument in instruments}
    turns = [instrument for instrument in instruments for _ in histories[instrument]]
    mixed = data.draw(st.permutations(turns))
    remaining = {instrument: iter(facts) for instrument, facts in histories.items()}
    opening = (started(), SETTINGS, bound, QUICK_KNOWN, STEADY_KNOWN)
    one_by_one = given(CORE, *opening, *(fact for facts in histories.values() for fact in facts))
    interleaved = given(CORE, *opening, *(next(remaining[instrument]) for instrument in mixed))
    assert fingerprint(interleaved.state) == fingerprint(one_by_one.state)


@st.composite
def _history(draw: st.DrawFn, instrument: InstrumentId) -> list[Event]:
    """Choices, then for each the trade, its reward if it is given one, and the next choice."""
    facts: list[Event] = []
    rewards = draw(st.lists(st.none() | st.floats(-3.0, 3.0), max_size=6))
    for number, reward in enumerate([*rewards, None]):
        decision = f"cross-{instrument}-{number}"
        preset = draw(st.sampled_from(["quick", "steady"]))
        bull = draw(st.floats(0.0, 1.0))
        context = (1.0, bull, 1.0 - bull, 0.0)
        facts.append(PresetChosen(decision, CROSS, instrument, preset, (), (), (), (), context))
        facts.append(trade(decision, instrument=instrument))
        if reward is not None:
            facts.append(PresetRewarded(decision, CROSS, preset, "trade", reward))
    return facts


def test_interleaving_trades_of_instruments_leaves_beliefs_equal_when_deciding() -> None:
    """The running core, with one preset to choose from, learns the same from every order of six trades."""
    found: dict[str, list[str]] = {}
    for order in sorted(set(permutations([BITCOIN, BITCOIN, ETHER, ETHER, SOLANA, SOLANA]))):
        loop = Loop([CORE])
        bound = msgspec.structs.replace(BOUND, instruments=(BITCOIN, ETHER, SOLANA))
        traded = dict.fromkeys(order, 0)
        closing: list[Event] = []
        for instrument in order:
            pnl = str(len(instrument) + traded[instrument])
            closing.append(trade(f"cross-{instrument}-{traded[instrument]}", pnl, instrument=instrument))
            traded[instrument] += 1
        for event in (started(), SETTINGS, bound, QUICK_WANTED, *closing):
            loop.say(AUTHOR_OF[type(event)], event, f"fact-{loop.sequencer.pos + 1}", 0)
        found.setdefault(fingerprint(beliefs(loop.states["bandit"])), []).append("".join(order))
    assert len(found) == 1, found
