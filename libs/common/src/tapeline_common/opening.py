"""The first facts of a tape: run, code, instruments, money, limits, strategies, presets.

Configuration becomes facts here, so that cores need no files and a tape replays by itself. Said again at every start,
it is compared with what the tape says last, and only what changed is recorded. This module records nothing itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tapeline_common.events import (
    AUTHOR_OF,
    AccountFunded,
    BanditConfigured,
    CodeDeployed,
    CostsConfigured,
    Event,
    FeeTier,
    InstrumentCosts,
    InstrumentLimits,
    InstrumentListed,
    LimitsSet,
    PresetRequested,
    RegimeConfigured,
    RunStarted,
    SessionsScheduled,
    StrategyConfigured,
    VenueConfigured,
)
from tapeline_common.settings import ConfigurationInvalid, InstrumentTable, Settings, VenueTable
from tapeline_common.values import InstrumentId, IntrabarPath, Realm, StrategyId
from tapeline_common.wire import encode

ACCOUNT = "main"


@dataclass(frozen=True, slots=True)
class Opening:
    """One configuration fact and the slot it fills; a later fact in the same slot replaces an earlier one."""

    slot: str
    event: Event

    @property
    def author(self) -> str:
        return AUTHOR_OF[type(self.event)]


def instrument_id(instrument: InstrumentTable) -> InstrumentId:
    """Token of a configured instrument: name and venue with everything a subject cannot hold turned into ``-``."""
    return InstrumentId(f"{re.sub('[^A-Za-z0-9]+', '-', instrument.name).strip('-')}_{instrument.venue}")


def opening_facts(settings: Settings, *, realm: Realm, code_version: str, tape: str = "") -> list[Opening]:
    """What the configuration says, as facts, in the order in which a new tape begins.

    Args:
        tape: name that makes client order ids unique among all tapes that ever trade; a live tape has a drawn one, a
            replay (empty) gets one from its configuration so that it is the same every time.
    """
    tokens = {instrument.name: instrument_id(instrument) for instrument in settings.instrument}
    started = RunStarted(
        run=settings.run.name,
        tape=tape or hashlib.sha256(encode([settings.run.name, settings.run.seed, realm])).hexdigest()[:16],
        realm=realm,
        seed=settings.run.seed,
        currency=settings.run.currency,
        code_version=code_version,
    )
    openings = [Opening("run", started)]
    openings += [_listed(instrument, tokens[instrument.name]) for instrument in settings.instrument]
    openings += [
        Opening(f"venue:{venue}", _venue(settings, venue))
        for venue in dict.fromkeys(instrument.venue for instrument in settings.instrument)
    ]
    openings += _costs(settings, tokens)
    openings.append(Opening("account", AccountFunded(ACCOUNT, settings.run.currency, settings.run.cash)))
    openings.append(Opening("limits", _limits(settings, tokens)))
    if settings.regime.enabled:
        openings += [
            Opening(
                f"regime:{tokens[instrument.name]}",
                RegimeConfigured(
                    tokens[instrument.name],
                    settings.regime.train_bars,
                    settings.regime.refit_bars,
                    settings.regime.promote_first,
                    settings.feed.timeframe if instrument.detail else "",
                ),
            )
            for instrument in settings.instrument
        ]
    bandit = settings.bandit
    openings.append(
        Opening("bandit", BanditConfigured(bandit.prior_precision, bandit.scale, bandit.discount, bandit.floor))
    )
    for strategy in settings.strategy:
        name = StrategyId(strategy.name)
        openings.append(
            Opening(
                f"strategy:{name}",
                StrategyConfigured(
                    strategy=name,
                    kind=strategy.kind,
                    instruments=tuple(tokens[instrument] for instrument in strategy.instruments),
                    timeframe=settings.feed.timeframe,
                    size=strategy.size,
                    parameters=strategy.parameters,
                    regimes=strategy.regimes,
                    uses_presets=bool(strategy.preset),
                ),
            )
        )
        openings += [
            Opening(f"preset:{name}:{preset.name}", PresetRequested(name, preset.name, preset.parameters))
            for preset in strategy.preset
        ]
    return openings


def changed(wanted: Sequence[Opening], recorded: Iterable[tuple[str, Event]]) -> list[tuple[str, str, Event]]:
    """What must be said so that the tape agrees with the configuration.

    Args:
        recorded: (id, event) of the configuration facts on the tape, in position order.

    Returns:
        (author, id, event) to record, in order.

    Raises:
        ConfigurationInvalid: the configuration contradicts what a tape cannot change: its seed, currency or realm.
    """
    last: dict[str, Event] = {}
    times: dict[str, int] = {}
    for identity, event in recorded:
        slot, _, number = identity.rpartition("#")
        last[slot] = event
        times[slot] = int(number)
    missing: list[tuple[str, str, Event]] = []
    for opening in wanted:
        before = last.get(opening.slot)
        event = opening.event
        if isinstance(event, RunStarted) and isinstance(before, RunStarted):
            _same_tape(event, before)
            deployed = last.get("code")
            version = deployed.code_version if isinstance(deployed, CodeDeployed) else before.code_version
            if version != event.code_version:
                missing.append(("operator", f"code#{times.get('code', 0) + 1}", CodeDeployed(event.code_version)))
        elif isinstance(before, AccountFunded):
            continue  # money is paid in once; a changed `run.cash` on a running tape is not a deposit
        elif before != event:
            missing.append((opening.author, f"{opening.slot}#{times.get(opening.slot, 0) + 1}", event))
    wanted_slots = {opening.slot for opening in wanted}
    for slot, before in last.items():
        without = _without(before)
        if without is not None and slot not in wanted_slots and before != without:
            missing.append(("operator", f"{slot}#{times[slot] + 1}", without))
    return missing


def _without(event: Event) -> Event | None:
    """What takes back a fact that is only said where something is configured: no costs, always open."""
    if isinstance(event, CostsConfigured):
        return CostsConfigured(event.venue)
    if isinstance(event, SessionsScheduled):
        return SessionsScheduled(event.instrument, "UTC", ((0, 7 * 1_440),), ((0, 0),))
    return None


CONFIGURATION: tuple[type[Event], ...] = (
    RunStarted,
    CodeDeployed,
    InstrumentListed,
    VenueConfigured,
    CostsConfigured,
    SessionsScheduled,
    AccountFunded,
    LimitsSet,
    RegimeConfigured,
    BanditConfigured,
    StrategyConfigured,
    PresetRequested,
)
"""The types that ``changed`` has to be shown."""


def _same_tape(wanted: RunStarted, recorded: RunStarted) -> None:
    for field in ("seed", "currency", "realm"):
        ours, theirs = getattr(wanted, field), getattr(recorded, field)
        if ours != theirs:
            raise ConfigurationInvalid(
                f"run.{field} is {ours}, but this tape was started with {theirs}: "
                f"put it back, or start a new tape in another data folder"
            )


def _listed(instrument: InstrumentTable, token: InstrumentId) -> Opening:
    base, _, quote = instrument.name.partition("/")
    return Opening(
        f"instrument:{token}",
        InstrumentListed(
            instrument=token,
            name=instrument.name,
            venue=instrument.venue,
            base=base,
            quote=quote.partition(":")[0],
            tick_size=instrument.tick_size,
            lot_size=instrument.lot_size,
            min_notional=instrument.min_notional,
            calendar=instrument.calendar,
        ),
    )


def _venue(settings: Settings, venue: str) -> VenueConfigured:
    table = settings.venue
    return VenueConfigured(venue, table.maker_fee, table.taker_fee, table.slippage_bps, table.participation)


def _costs(settings: Settings, tokens: dict[str, InstrumentId]) -> list[Opening]:
    """What each venue costs beyond ``VenueConfigured``; nothing is said of a venue where nothing more is configured."""
    table = settings.venue
    tiers = tuple(FeeTier(tier.traded, tier.maker_fee, tier.taker_fee) for tier in table.fee_tier)
    said = []
    for venue in dict.fromkeys(instrument.venue for instrument in settings.instrument):
        listed = [instrument for instrument in settings.instrument if instrument.venue == venue]
        own = {tokens[instrument.name]: _instrument_costs(table, instrument) for instrument in listed}
        plain = InstrumentCosts(slippage_bps=table.slippage_bps, root_window_bars=table.root_window_bars)
        path_matters = table.latency_ms or table.intrabar is not IntrabarPath.WORST
        if not path_matters and all(costs == plain for costs in own.values()):
            own = {}
        configured = CostsConfigured(venue, tiers, table.latency_ms, table.intrabar, own)
        if configured != CostsConfigured(venue):
            said.append(Opening(f"costs:{venue}", configured))
    return said


def _instrument_costs(table: VenueTable, instrument: InstrumentTable) -> InstrumentCosts:
    """The instrument's own costs where it has them, else the venue's."""
    own = instrument.costs
    chosen = {
        name: getattr(table, name) if getattr(own, name) is None else getattr(own, name)
        for name in InstrumentCosts.__struct_fields__
    }
    return InstrumentCosts(**chosen)


def _limits(settings: Settings, tokens: dict[str, InstrumentId]) -> LimitsSet:
    risk = settings.risk
    return LimitsSet(
        max_order_notional=risk.max_order_notional,
        max_position=risk.max_position,
        max_gross_exposure=risk.max_gross_exposure,
        max_open_positions=risk.max_open_positions,
        max_daily_loss=risk.max_daily_loss,
        max_price_age_ms=risk.max_price_age_ms,
        max_input_age_ms=risk.max_input_age_ms,
        price_collar_bps=risk.price_collar_bps,
        approval_valid_ms=risk.approval_valid_ms,
        instruments={
            tokens[limit.name]: InstrumentLimits(limit.max_order_notional, limit.max_position)
            for limit in risk.instrument
        },
        max_drawdown=risk.max_drawdown,
        cool_down_ms=risk.cool_down_ms,
    )
