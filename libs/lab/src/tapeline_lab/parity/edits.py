"""Changes of configuration: ``--set KEY=VALUE``, ``--config FILE``, ``--slippage-ticks``, ``--latency-ms``.

A tape knows its configuration as facts, not as the file they came from; so a key here names a field of a fact, with the
words of the file: ``risk.max_position``, ``venue.taker_fee``, ``strategy.NAME.fast``, ``preset.STRATEGY.NAME.fast``.
It changes facts and runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tapeline_common.calendars import session_openings
from tapeline_common.events import (
    AUTHOR_OF,
    AccountFunded,
    BanditConfigured,
    CostsConfigured,
    Event,
    InstrumentCosts,
    InstrumentLimits,
    LimitsSet,
    PresetRequested,
    RegimeConfigured,
    RunStarted,
    StrategyConfigured,
    VenueConfigured,
)
from tapeline_common.opening import opening_facts
from tapeline_common.settings import ConfigurationInvalid, load
from tapeline_common.values import Realm
from tapeline_common.version import code_version
from tapeline_common.wiring import checked
from tapeline_lab.parity.changes import Change, configured, end_of_opening, latest, listed, slippage_of
from tapeline_lab.parity.record import Record, Saying
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.sdk import ParameterInvalid, validate

Edit = tuple[str, Callable[[Any], Event]]
"""A slot of the configuration, and what becomes of the fact in it."""


class EditInvalid(Exception):
    """An option that cannot be applied to this tape. The message names it and what can."""


def edits_of(
    current: dict[str, Event], sets: Sequence[str], slippage_ticks: int = 0, latency_ms: int | None = None
) -> list[Edit]:
    """What the options do to the configuration in force. Raises ``EditInvalid``."""
    found = [_edit(current, text) for text in sets]
    for venue in _venues(current):
        if latency_ms is not None:
            found.append(_path_edit(current, venue, lambda it: msgspec.structs.replace(it, latency_ms=latency_ms)))
        if slippage_ticks:
            found.append(_ticks(current, venue, slippage_ticks))
    return [each for edit in found for each in (edit if isinstance(edit, list) else [edit])]


def edited(record: Record, edits: Sequence[Edit]) -> list[Change]:
    """The changes that edits make to a whole session."""
    known = configured(record)
    current = latest(known)
    after = {slot: _applied(event, slot, edits) for slot, event in current.items()}
    changes = []
    for each in known:
        today = _applied(each.saying.event, each.slot, edits)
        if today != each.saying.event:
            changes.append(_change(each.saying, today, current, after))
    present = {each.slot for each in known}
    for slot in dict.fromkeys(slot for slot, _ in edits):
        if slot not in present:
            changes.append(_added(slot, _applied(_base(slot), slot, edits), record, current, after))
    return changes


def added_at(record: Record, edits: Sequence[Edit], pos: int) -> list[Change]:
    """The changes that edits make when they are said just after a position; what was restated later is edited too."""
    known = configured(record, pos)
    current = latest(known)
    after = {slot: _applied(event, slot, edits) for slot, event in current.items()}
    time_ns = max(fact.time_ns for fact in record.facts[:pos])
    times = {each.slot: each.times for each in configured(record)}
    changes = []
    for slot in dict.fromkeys(slot for slot, _ in edits):
        before = current.get(slot) or _base(slot)
        today = _applied(before, slot, edits)
        if today != before:
            bps = _bps(today, current, after)
            identity = f"{slot}#{times.get(slot, 0) + 1}"
            changes.append(Change((pos, 2), AUTHOR_OF[type(today)], identity, time_ns, None, today, bps))
    for each in configured(record):
        today = _applied(each.saying.event, each.slot, edits)
        if each.saying.at[0] > pos and today != each.saying.event:
            changes.append(_change(each.saying, today, current, after))
    return changes


def configured_by(record: Record, path: Path) -> list[Change]:
    """The changes that make a session run under a configuration file from its first fact on.

    Raises ``ConfigurationInvalid``.
    """
    settings = checked(load(path))
    realm = Realm.LIVE if record.is_live else Realm.REPLAY
    wanted = {
        opening.slot: opening.event
        for opening in [
            *opening_facts(settings, realm=realm, code_version=code_version()),
            *session_openings(settings),
        ]
    }
    if record.started.currency != settings.run.currency:
        raise ConfigurationInvalid(
            f"{path.name}: key run.currency is {settings.run.currency}, the session was in {record.started.currency}"
        )
    known = configured(record)
    current = latest(known)
    changes = []
    for each in known:
        if isinstance(each.saying.event, RunStarted) or each.slot == "code":
            continue
        today = wanted.get(each.slot) if each.times == 1 else None
        if today != each.saying.event:
            changes.append(_change(each.saying, today, current, wanted))
    present = {each.slot for each in known}
    changes += [_added(slot, event, record, current, wanted) for slot, event in wanted.items() if slot not in present]
    return changes


def _change(saying: Saying, today: Event | None, current: dict[str, Event], after: dict[str, Event]) -> Change:
    bps = _bps(saying.event, current, after)
    return Change(saying.at, saying.author, saying.id, saying.time_ns, saying.event, today, bps)


def _added(slot: str, event: Event, record: Record, current: dict[str, Event], after: dict[str, Event]) -> Change:
    last = end_of_opening(record)
    bps = _bps(event, current, after)
    return Change((last.at[0], 2), AUTHOR_OF[type(event)], f"{slot}#1", last.time_ns, None, event, bps)


def _bps(event: Event, current: dict[str, Event], after: dict[str, Event]) -> tuple[Decimal, Decimal]:
    """The flat slippage of the venue that a fact is about, before and after."""
    venue = getattr(event, "venue", "")
    return slippage_of(current, venue), slippage_of(after, venue)


def _applied(event: Event, slot: str, edits: Iterable[Edit]) -> Event:
    for name, apply in edits:
        if name == slot:
            event = apply(event)
    return event


def _base(slot: str) -> Event:
    """What a slot holds that nothing was said of; only costs are like that."""
    kind, _, name = slot.partition(":")
    assert kind == "costs", f"{slot} is configured on every tape that it can be edited on"
    return CostsConfigured(name)


# ---- keys ----------------------------------------------------------------------------------------------------------


def _edit(current: dict[str, Event], text: str) -> Edit | list[Edit]:
    key, separator, value = text.partition("=")
    if not separator or not value:
        raise EditInvalid(f"--set {text}: write KEY=VALUE, such as risk.max_position=0.5")
    table, _, rest = key.strip().partition(".")
    makers: dict[str, Callable[[dict[str, Event], str, str, str], Edit | list[Edit]]] = {
        "risk": _risk,
        "venue": _venue,
        "strategy": _strategy,
        "preset": _preset,
        "regime": _regime,
        "bandit": _bandit,
        "run": _run,
    }
    if table not in makers or not rest:
        raise EditInvalid(f"--set {text}: no key {key!r}; keys begin with {', '.join(makers)}")
    return makers[table](current, rest, value.strip(), text)


def _risk(current: dict[str, Event], key: str, value: str, text: str) -> Edit:
    name, _, field = key.rpartition(".")
    if not name:
        return "limits", _setter(LimitsSet, key, value, text)
    token = next((token for token, each in listed(current).items() if name in (each.name, token)), None)
    if token is None:
        raise EditInvalid(f"--set {text}: no instrument {name!r}; the session has {_names(current)}")
    change = _setter(InstrumentLimits, field, value, text)

    def apply(limits: LimitsSet) -> Event:
        own = change(limits.instruments.get(token, InstrumentLimits()))
        return msgspec.structs.replace(limits, instruments={**limits.instruments, token: own})

    return "limits", apply


def _venue(current: dict[str, Event], key: str, value: str, text: str) -> list[Edit]:
    found: list[Edit] = []
    for venue in _venues(current):
        if key in VenueConfigured.__struct_fields__:
            found.append((f"venue:{venue}", _setter(VenueConfigured, key, value, text)))
        if key in ("latency_ms", "intrabar"):
            found += _path_edit(current, venue, _setter(CostsConfigured, key, value.upper(), text))
        elif key in InstrumentCosts.__struct_fields__:
            found.append(_instrument_edit(current, venue, _setter(InstrumentCosts, key, value, text)))
    if not found:
        fields = [*VenueConfigured.__struct_fields__[1:], "latency_ms", "intrabar", *InstrumentCosts.__struct_fields__]
        raise EditInvalid(f"--set {text}: no key venue.{key}; use one of {', '.join(dict.fromkeys(fields))}")
    return found


def _strategy(current: dict[str, Event], key: str, value: str, text: str) -> Edit:
    names = [event.strategy for event in current.values() if isinstance(event, StrategyConfigured)]
    name, _, field = key.rpartition(".")
    if not name and len(names) == 1:
        name = names[0]
    if name not in names:
        raise EditInvalid(f"--set {text}: write strategy.NAME.KEY=VALUE; the session has {', '.join(names) or 'none'}")
    if field in ("size", "kind", "timeframe", "regimes"):
        shown = f'["{value}"]' if field == "regimes" else value
        return f"strategy:{name}", _setter(StrategyConfigured, field, shown, text)

    def apply(strategy: StrategyConfigured) -> Event:
        parameters = {**strategy.parameters, field: _number(value)}
        try:
            validate(find(strategy.kind), parameters)
        except (ParameterInvalid, StrategyUnknown) as fault:
            raise EditInvalid(f"--set {text}: {fault}") from fault
        return msgspec.structs.replace(strategy, parameters=parameters)

    apply(_of_slot(current, f"strategy:{name}"))
    return f"strategy:{name}", apply


def _preset(current: dict[str, Event], key: str, value: str, text: str) -> Edit:
    parts = key.split(".")
    presets = {
        f"{event.strategy}.{event.preset}": event for event in current.values() if isinstance(event, PresetRequested)
    }
    if len(parts) != 3 or ".".join(parts[:2]) not in presets:
        have = ", ".join(presets) or "none"
        raise EditInvalid(f"--set {text}: write preset.STRATEGY.PRESET.KEY=VALUE; the session has {have}")

    def apply(preset: PresetRequested) -> Event:
        return msgspec.structs.replace(preset, parameters={**preset.parameters, parts[2]: _number(value)})

    return f"preset:{parts[0]}:{parts[1]}", apply


def _regime(current: dict[str, Event], key: str, value: str, text: str) -> list[Edit]:
    slots = [slot for slot, event in current.items() if isinstance(event, RegimeConfigured)]
    if not slots:
        raise EditInvalid(f"--set {text}: the session learnt no regimes")
    return [(slot, _setter(RegimeConfigured, key, value, text)) for slot in slots]


def _bandit(_current: dict[str, Event], key: str, value: str, text: str) -> Edit:
    return "bandit", _setter(BanditConfigured, key, value, text)


def _run(_current: dict[str, Event], key: str, value: str, text: str) -> Edit:
    if key != "cash":
        raise EditInvalid(f"--set {text}: of [run] only cash can be changed; name, seed and currency make the tape")
    return "account", _setter(AccountFunded, "amount", value, text)


def _setter(kind: type[msgspec.Struct], field: str, value: str, text: str) -> Callable[[Any], Any]:
    types = {each.name: each.type for each in msgspec.structs.fields(kind)}
    if field not in types or field in ("venue", "instruments", "instrument", "fee_tiers", "strategy"):
        raise EditInvalid(f"--set {text}: no key {field!r}; {kind.__name__} has {', '.join(types)}")
    plain: Any = None if value.lower() == "none" else value
    if value.startswith("["):
        plain = msgspec.json.decode(value)
    elif types[field] is bool:
        plain = {"true": True, "false": False}.get(value.lower(), value)
    try:
        converted = msgspec.convert(plain, types[field], strict=False)
    except msgspec.ValidationError as fault:
        raise EditInvalid(f"--set {text}: {fault}") from fault
    if isinstance(converted, Decimal) and not converted.is_finite():
        raise EditInvalid(f"--set {text}: use a finite number")
    return lambda event: msgspec.structs.replace(event, **{field: converted})


def _number(value: str) -> int | float | str | bool:
    try:
        plain = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    return plain if isinstance(plain, int | float | bool) else value


# ---- venues --------------------------------------------------------------------------------------------------------


def _venues(current: dict[str, Event]) -> list[str]:
    return [event.venue for event in current.values() if isinstance(event, VenueConfigured)]


def _instrument_edit(current: dict[str, Event], venue: str, apply: Callable[[Any], Any]) -> Edit:
    """Apply to the costs of every instrument; those without costs of their own have the venue's slippage."""
    plain = InstrumentCosts(slippage_bps=slippage_of(current, venue))
    tokens = [token for token, each in listed(current).items() if each.venue == venue]

    def to_all(costs: CostsConfigured) -> Event:
        own = {token: apply(costs.instruments.get(token, plain)) for token in tokens}
        return msgspec.structs.replace(costs, instruments=own)

    return f"costs:{venue}", to_all


def _path_edit(current: dict[str, Event], venue: str, apply: Callable[[Any], Event]) -> list[Edit]:
    """What concerns a bar's path holds for the instruments that have costs: here for all."""
    return [_instrument_edit(current, venue, lambda costs: costs), (f"costs:{venue}", apply)]


def _ticks(current: dict[str, Event], venue: str, ticks: int) -> Edit:
    coarse = [each.name for each in listed(current).values() if each.venue == venue and each.tick_size is None]
    if coarse:
        raise EditInvalid(f"--slippage-ticks {ticks}: {', '.join(coarse)} has no tick size; --set venue.slippage_bps")

    def apply(costs: InstrumentCosts) -> InstrumentCosts:
        return msgspec.structs.replace(costs, half_spread_ticks=costs.half_spread_ticks + ticks)

    return _instrument_edit(current, venue, apply)


def _of_slot(current: dict[str, Event], slot: str) -> Any:
    return current[slot]


def _names(current: dict[str, Event]) -> str:
    return ", ".join(each.name for each in listed(current).values())
