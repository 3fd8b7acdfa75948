"""The bandit: which preset a strategy uses on an instrument, learnt from the trades made under each choice.

There is one learner per (strategy, instrument). Its arms are the strategy's presets in the order of registration, its
context is ``[1, P(BULL), P(BEAR), P(CHOP)]`` of the instrument at the moment of choosing, one third each while the
regime is unknown. A choice holds from its ``PresetChosen`` until the next one, which follows every closed trade.

A trade rewards the decision it was opened under, whatever has been chosen since, and a decision is rewarded once. The
reward is net profit in units of planned risk, clipped to three of them. Strategies do not state their stops, so the
planned risk of a trade is fixed at 1 % of its entry notional.

What it deliberately does not do: the arithmetic (posterior.py, lints.py); judge a preset's parameters, which only its
strategy understands; say anything when a trade's decision is unknown (it was opened before there were presets).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec

from tapeline_bandit import lints
from tapeline_bandit.posterior import (
    Posteriors,
    add_arm,
    context_refusal,
    new_posteriors,
    outcome_refusal,
    update,
)
from tapeline_common.core import FOREVER, NEVER, Core, Quiet, Stamp
from tapeline_common.events import (
    BanditConfigured,
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
from tapeline_common.values import InstrumentId, PresetRefusal, StrategyId

DIMENSION: Final = 4
REGIME_UNKNOWN: Final = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
PLANNED_RISK: Final = Decimal("0.01")  # of entry notional; replaced by stop distance x size once strategies state stops
REWARD_CLIP: Final = 3.0
WIDEST: Final = 1e6  # no reward, which lies within the clip, calls for settings further from 1 than this
OPEN_DECISIONS: Final = 16  # a position and the order turning it need two; the rest bounds what is never traded


class OpenDecision(msgspec.Struct, frozen=True):
    """A choice that has not been rewarded yet, as it was recorded."""

    number: int
    arm: int
    context: tuple[float, ...]


class Learner(msgspec.Struct):
    """One strategy on one instrument. Decisions are numbered 0, 1, 2, ...; outcomes age in that unit.

    Attributes:
        open: decision id → decision, oldest first.
        made: how many decisions have been made; the number of the next one.
        due: whether a choice is owed: nothing chosen yet, or a trade closed since.
    """

    posteriors: Posteriors
    open: dict[str, OpenDecision]
    made: int = 0
    due: bool = True


@dataclass(slots=True)
class State:
    """``settings`` stays ``None`` while the configured ones are out of range: then nothing is chosen.

    ``instruments`` are those a strategy is bound to now, none if it does not use presets. ``learners`` also keep what
    was learnt on instruments that a strategy has left, whose last trade may still close.
    """

    seed: int | None = None
    settings: BanditConfigured | None = None
    instruments: dict[StrategyId, tuple[InstrumentId, ...]] = field(default_factory=dict)
    presets: dict[StrategyId, dict[str, Parameters]] = field(default_factory=dict)
    learners: dict[StrategyId, dict[InstrumentId, Learner]] = field(default_factory=dict)
    regimes: dict[InstrumentId, tuple[float, ...]] = field(default_factory=dict)


# ---- what is concluded -------------------------------------------------------------------------------------------


def register(state: State, event: PresetRequested, _stamp: Stamp) -> Sequence[Event]:
    """Register a preset once; the first one is chosen at once, a later one waits for the next choice."""
    refused = _refusal(state, event)
    if refused is not None:
        return (refused,)
    known = state.presets.get(event.strategy, {})
    if event.preset in known:
        return ()
    presets = (*known, event.preset)
    decisions: list[Event] = [PresetRegistered(event.strategy, event.preset, event.parameters)]
    for instrument, learner in state.learners[event.strategy].items():
        if not _owes_choice(state, event.strategy, instrument, learner):
            continue
        posteriors = _copy(learner.posteriors)
        add_arm(posteriors)
        decisions.append(_choice(state, event.strategy, instrument, posteriors, presets, learner.made))
    return decisions


def close(state: State, event: TradeClosed, _stamp: Stamp) -> Sequence[Event]:
    """Reward the decision the trade was opened under, then choose the preset of the next trade."""
    learner = state.learners.get(event.strategy, {}).get(event.instrument)
    if learner is None:
        return ()
    presets = tuple(state.presets.get(event.strategy, ()))
    posteriors = learner.posteriors
    decisions: list[Event] = []
    rewarded = _reward(learner, presets, event)
    if rewarded is not None:
        decisions.append(rewarded)
        # The choice must know this reward, which the state learns only after it has been decided.
        posteriors = _copy(posteriors)
        _count(posteriors, learner.open[event.decision], rewarded.reward)
    if presets and _owes_choice(state, event.strategy, event.instrument, learner):
        decisions.append(_choice(state, event.strategy, event.instrument, posteriors, presets, learner.made))
    return decisions


def choose_for_strategy(state: State, event: StrategyConfigured, _stamp: Stamp) -> Sequence[Event]:
    """An instrument added to a strategy whose presets are known has no choice yet."""
    return _owed(state, event.strategy)


def choose_for_all(state: State, _event: BanditConfigured, _stamp: Stamp) -> Sequence[Event]:
    """Choices that had to wait for settings in range."""
    return [choice for strategy in state.learners for choice in _owed(state, strategy)]


def _refusal(state: State, event: PresetRequested) -> PresetRefused | None:
    strategy, preset = event.strategy, event.preset
    bound = state.instruments.get(strategy)
    if bound is None:
        detail = f"strategy {strategy!r} is not configured; configure it first"
        return PresetRefused(strategy, preset, PresetRefusal.STRATEGY_UNKNOWN, detail)
    if not bound:
        detail = f"strategy {strategy!r} uses no presets; configure it with uses_presets and an instrument"
        return PresetRefused(strategy, preset, PresetRefusal.PRESETS_NOT_USED, detail)
    known = state.presets.get(strategy, {}).get(preset)
    if known is not None and known != event.parameters:
        detail = f"preset {preset!r} has the parameters {known}, not {event.parameters}; choose another name"
        return PresetRefused(strategy, preset, PresetRefusal.PRESET_NAME_USED, detail)
    return None


def _reward(learner: Learner, presets: Sequence[str], trade: TradeClosed) -> PresetRewarded | None:
    """The reward of the trade's decision, or None: it is not open, or the trade cannot be measured."""
    decision = learner.open.get(trade.decision)
    if decision is None:
        return None
    planned_risk = abs(trade.quantity * trade.entry_price) * PLANNED_RISK
    value = lints.reward(trade.pnl - trade.fees, planned_risk, REWARD_CLIP)
    if not isinstance(value, float):
        return None
    refusal = outcome_refusal(
        learner.posteriors, decision=decision.number, arm=decision.arm, context=decision.context, reward=value
    )
    if refusal is not None:
        return None
    return PresetRewarded(trade.decision, trade.strategy, presets[decision.arm], trade.trade, value)


def _owed(state: State, strategy: StrategyId) -> list[PresetChosen]:
    presets = tuple(state.presets.get(strategy, ()))
    if not presets:
        return []
    return [
        _choice(state, strategy, instrument, learner.posteriors, presets, learner.made)
        for instrument, learner in state.learners.get(strategy, {}).items()
        if _owes_choice(state, strategy, instrument, learner)
    ]


def _owes_choice(state: State, strategy: StrategyId, instrument: InstrumentId, learner: Learner) -> bool:
    """Whether a choice is due that can be made: never before run and bandit are configured."""
    configured = state.seed is not None and state.settings is not None
    return configured and learner.due and instrument in state.instruments.get(strategy, ())


def _choice(
    state: State,
    strategy: StrategyId,
    instrument: InstrumentId,
    posteriors: Posteriors,
    presets: tuple[str, ...],
    number: int,
) -> PresetChosen:
    """Draw decision `number` from these beliefs; there is one arm per preset."""
    seed, settings = state.seed, state.settings
    assert seed is not None  # `_owes_choice` has been asked
    assert settings is not None
    context = _context(state, instrument, posteriors)
    choice = lints.choose(
        posteriors,
        context,
        decision=number,
        seed=seed,
        position=number,  # not the tape's: other instruments' traffic must not change what is drawn here
        salt=f"preset:{strategy}:{instrument}",
        scale=settings.scale,
        floor=min(settings.floor, 1.0 / len(presets)),  # more presets than the floor has room for: uniform
    )
    assert isinstance(choice, lints.Choice), f"decision {number} of {strategy} on {instrument}: {choice}"
    return PresetChosen(
        decision=f"{strategy}-{instrument}-{number}",
        strategy=strategy,
        instrument=instrument,
        preset=presets[choice.arm],
        presets=presets,
        means=choice.means,
        deviations=choice.deviations,
        propensities=choice.propensities,
        context=context,
    )


def _context(state: State, instrument: InstrumentId, posteriors: Posteriors) -> tuple[float, ...]:
    """The context of a choice; probabilities that are missing or no finite triple count as unknown."""
    context = (1.0, *state.regimes.get(instrument, REGIME_UNKNOWN))
    return (1.0, *REGIME_UNKNOWN) if context_refusal(posteriors, context) is not None else context


def _copy(posteriors: Posteriors) -> Posteriors:
    """Beliefs that can be moved on without touching the state; `update` replaces an arm's lists, never writes them."""
    return msgspec.structs.replace(
        posteriors, arms=[copy.copy(arm) for arm in posteriors.arms], rewarded=list(posteriors.rewarded)
    )


# ---- what is learnt ----------------------------------------------------------------------------------------------


def start(state: State, event: RunStarted, _stamp: Stamp) -> None:
    state.seed = event.seed


def configure(state: State, event: BanditConfigured, _stamp: Stamp) -> None:
    state.settings = event if _in_range(event) else None
    for learners in state.learners.values():
        for learner in learners.values():
            _apply(state.settings, learner.posteriors)


def bind(state: State, event: StrategyConfigured, _stamp: Stamp) -> None:
    state.instruments[event.strategy] = event.instruments if event.uses_presets else ()
    if not event.uses_presets:
        return
    learners = state.learners.setdefault(event.strategy, {})
    for instrument in event.instruments:
        if instrument not in learners:
            posteriors = new_posteriors(len(state.presets.get(event.strategy, ())), DIMENSION)
            _apply(state.settings, posteriors)
            learners[instrument] = Learner(posteriors, {})


def hear_regime(state: State, event: RegimeUpdated, _stamp: Stamp) -> None:
    state.regimes[event.instrument] = event.probabilities


def hear_close(state: State, event: TradeClosed, _stamp: Stamp) -> None:
    learner = state.learners.get(event.strategy, {}).get(event.instrument)
    if learner is not None:
        learner.due = True


def learn_preset(state: State, event: PresetRegistered, _stamp: Stamp) -> None:
    state.presets.setdefault(event.strategy, {})[event.preset] = event.parameters
    for learner in state.learners[event.strategy].values():
        add_arm(learner.posteriors)


def learn_choice(state: State, event: PresetChosen, _stamp: Stamp) -> None:
    """The recorded choice counts, with the context it was made in."""
    learner = state.learners[event.strategy][event.instrument]
    arm = list(state.presets[event.strategy]).index(event.preset)
    learner.open[event.decision] = OpenDecision(learner.made, arm, event.context)
    if len(learner.open) > OPEN_DECISIONS:
        del learner.open[next(iter(learner.open))]
    learner.made += 1
    learner.due = False


def learn_reward(state: State, event: PresetRewarded, _stamp: Stamp) -> None:
    # A number holds no "-", so among one strategy's decisions an id belongs to one instrument only.
    for learner in state.learners[event.strategy].values():
        decision = learner.open.pop(event.decision, None)
        if decision is not None:
            _count(learner.posteriors, decision, event.reward)
            return


def _count(posteriors: Posteriors, decision: OpenDecision, reward: float) -> None:
    update(posteriors, decision=decision.number, arm=decision.arm, context=decision.context, reward=reward)


def _apply(settings: BanditConfigured | None, posteriors: Posteriors) -> None:
    """The sums hold neither prior nor future discounts, so new settings hold from the next choice on."""
    if settings is not None:
        posteriors.prior_precision = settings.prior_precision
        posteriors.discount = settings.discount


def _in_range(settings: BanditConfigured) -> bool:
    """Whether every choice can be computed with these settings; a NaN is in none of the ranges."""
    return (
        1.0 / WIDEST <= settings.prior_precision <= WIDEST
        and 0.0 < settings.discount <= 1.0
        and 1.0 / WIDEST <= settings.scale <= WIDEST
        and 0.0 <= settings.floor <= 1.0
    )


def quiet_about_trades(state: State) -> int:
    """Without presets nothing was chosen, so nothing is rewarded and there is nothing to choose from."""
    return NEVER if state.presets else FOREVER


CORE: Final = Core(
    name="bandit",
    initial=State,
    evolves={
        RunStarted: start,
        BanditConfigured: configure,
        StrategyConfigured: bind,
        RegimeUpdated: hear_regime,
        TradeClosed: hear_close,
        PresetRegistered: learn_preset,
        PresetChosen: learn_choice,
        PresetRewarded: learn_reward,
    },
    decides={
        BanditConfigured: choose_for_all,
        StrategyConfigured: choose_for_strategy,
        PresetRequested: register,
        TradeClosed: close,
    },
    quiet={TradeClosed: (Quiet(quiet_about_trades, ended_by=frozenset({PresetRequested})),)},
)
