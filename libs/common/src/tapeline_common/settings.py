"""One configuration file, ``tapeline.toml``: the same for live, paper and backtest.

Read once, checked whole; a wrong value ends with one message that names the key, the value and the fix. What services
need to know about trading reaches them as facts (``opening``), not through this file. Connection details and secrets
are not configuration: they come from the environment of a process (``Environment``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from tapeline_common.events import Parameters
from tapeline_common.subjects import is_token
from tapeline_common.values import IntrabarPath, Realm, Regime

CONFIG_NAME = "tapeline.toml"

LEAST_TRAIN_BARS = 250
"""A fit needs two hundred observations after the features have warmed up."""


class ConfigurationInvalid(Exception):
    """The configuration cannot be used. The message names the key, the value and the fix."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all configuration tables: a misspelt key is an error, not a default."""


class RunTable(Table, frozen=True):
    name: str = "paper"
    seed: int = 7
    currency: str = "USDT"
    cash: Decimal = Decimal(100_000)


class FeedTable(Table, frozen=True):
    """Where bars come from.

    Attributes:
        interval_ms: synthetic market only: real time between two bars; the market's own clock moves one timeframe.
        break_bar: synthetic market only: the bar from which on volatility is ``break_volatility`` times as large.
        exchange: ccxt id, for ``kind = "exchange"``.
        base_url: other address for the exchange's REST API (a test server, a proxy); empty for the exchange's own.
        poll_ms: how often a REST feed asks for closed bars.
        history_bars: how many closed bars of the past a REST feed says first, on a tape that has none.
    """

    kind: Literal["synthetic", "exchange", "files"] = "synthetic"
    timeframe: str = "1m"
    interval_ms: int = 250
    break_bar: int = 0
    break_volatility: float = 1.0
    exchange: str = "binance"
    base_url: str = ""
    poll_ms: int = 2_000
    history_bars: int = 500


class CostsTable(Table, frozen=True):
    """Costs of one instrument; a key that is left out is the venue's."""

    slippage_bps: Decimal | None = None
    half_spread_bps: Decimal | None = None
    half_spread_ticks: Decimal | None = None
    volume_impact: Decimal | None = None
    root_impact: Decimal | None = None
    root_window_bars: int | None = None
    borrow_rate: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    liquidation_fee: Decimal | None = None
    short_selling: bool | None = None


class CalendarTable(Table, frozen=True):
    """A market's hours in its local time, such as ``sessions = ["Mon-Fri 09:30-16:00"]``."""

    name: str
    zone: str
    sessions: tuple[str, ...]
    closed: tuple[str, ...] = ()


class InstrumentTable(Table, frozen=True):
    """What is traded. ``data`` and ``detail`` are files of bars, ``funding`` is one of rates; both for backtests."""

    name: str
    venue: str = "sim"
    tick_size: Decimal | None = None
    lot_size: Decimal | None = None
    min_notional: Decimal | None = None
    calendar: str = "24/7"
    data: str = ""
    detail: str = ""
    funding: str = ""
    costs: CostsTable = CostsTable()


class FeeTierTable(Table, frozen=True):
    traded: Decimal
    maker_fee: Decimal
    taker_fee: Decimal


class VenueTable(Table, frozen=True):
    """Costs and fill rules of the simulated venue. Fees below zero are rebates."""

    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    slippage_bps: Decimal = Decimal(1)
    participation: Decimal | None = Decimal("0.1")
    half_spread_bps: Decimal = Decimal(0)
    half_spread_ticks: Decimal = Decimal(0)
    volume_impact: Decimal = Decimal(0)
    root_impact: Decimal = Decimal(0)
    root_window_bars: int = 1_440
    borrow_rate: Decimal = Decimal(0)
    initial_margin: Decimal = Decimal(0)
    maintenance_margin: Decimal = Decimal(0)
    liquidation_fee: Decimal = Decimal(0)
    short_selling: bool = True
    latency_ms: int = 0
    intrabar: IntrabarPath = IntrabarPath.WORST
    fee_tier: tuple[FeeTierTable, ...] = ()


class RiskInstrumentTable(Table, frozen=True):
    name: str
    max_order_notional: Decimal | None = None
    max_position: Decimal | None = None


class RiskTable(Table, frozen=True):
    """Limits; a key that is left out is not limited."""

    max_order_notional: Decimal | None = None
    max_position: Decimal | None = None
    max_gross_exposure: Decimal | None = None
    max_open_positions: int | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown: Decimal | None = None
    cool_down_ms: int | None = None
    max_price_age_ms: int | None = None
    max_input_age_ms: int | None = None
    price_collar_bps: Decimal | None = None
    approval_valid_ms: int = 60_000
    instrument: tuple[RiskInstrumentTable, ...] = ()


class PresetTable(Table, frozen=True):
    name: str
    parameters: Parameters


class StrategyTable(Table, frozen=True):
    """One strategy instance. ``regimes`` empty: it trades in every regime and does not wait for one."""

    name: str
    kind: str
    instruments: tuple[str, ...]
    size: Decimal
    parameters: Parameters = {}
    regimes: tuple[Regime, ...] = ()
    preset: tuple[PresetTable, ...] = ()


class StrategiesTable(Table, frozen=True):
    """Where kinds of strategies come from, besides installed packages: folders of Python files."""

    paths: tuple[str, ...] = ()


class RegimeTable(Table, frozen=True):
    enabled: bool = True
    train_bars: int = 300
    refit_bars: int = 250
    promote_first: bool = True


class BanditTable(Table, frozen=True):
    prior_precision: float = 1.0
    scale: float = 0.25
    discount: float = 0.998
    floor: float = 0.005


class RetentionTable(Table, frozen=True):
    """How much is kept of what is not the tape. The tape itself is kept whole, always.

    Attributes:
        log_size_mib: a service's log is moved aside once it is larger; ``log_files`` of those are kept.
        mirror_size_mib: the JetStream mirror forgets its oldest facts beyond this.
        mirror_age_days: and those older than this; 0 means any age.
    """

    log_size_mib: int = 10
    log_files: int = 5
    mirror_size_mib: int = 1_024
    mirror_age_days: int = 0


class Settings(Table, frozen=True):
    run: RunTable = RunTable()
    feed: FeedTable = FeedTable()
    venue: VenueTable = VenueTable()
    risk: RiskTable = RiskTable()
    regime: RegimeTable = RegimeTable()
    bandit: BanditTable = BanditTable()
    retention: RetentionTable = RetentionTable()
    strategies: StrategiesTable = StrategiesTable()
    instrument: tuple[InstrumentTable, ...] = ()
    calendar: tuple[CalendarTable, ...] = ()
    strategy: tuple[StrategyTable, ...] = ()


def load(path: Path) -> Settings:
    """Read and check a configuration file. Raises ``ConfigurationInvalid``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as trouble:
        raise ConfigurationInvalid(
            f"{path.name}: cannot be read ({trouble.strerror}); write one with `tapeline new-config`"
        ) from trouble
    return parse(text, path.name)


def parse(text: str, name: str = CONFIG_NAME) -> Settings:
    """The same, from text. ``name`` appears in messages."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as trouble:
        raise ConfigurationInvalid(f"{name}: not valid TOML: {trouble}") from trouble
    try:
        settings = msgspec.convert(tables, Settings, strict=False)
    except msgspec.ValidationError as trouble:
        raise ConfigurationInvalid(f"{name}: {_explain(str(trouble), tables)}") from trouble
    _check(settings, name)
    return settings


def _explain(message: str, tables: dict[str, Any]) -> str:
    """msgspec says where (`$.risk.max_position`); add what stands there."""
    if " - at `$" not in message:
        return message
    what, _, where = message.rpartition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    value: Any = tables
    for part in path.replace("[", ".[").split("."):
        if part.startswith("["):
            value = value[int(part.strip("[]"))] if isinstance(value, list) and part != "[...]" else None
        elif isinstance(value, dict):
            value = value.get(part)
    shown = f" (it is {value!r})" if value is not None and not isinstance(value, dict | list) else ""
    return f"key {path or 'at the top'}{shown}: {what}"


def _check(settings: Settings, name: str) -> None:
    """What types cannot say: references between tables, signs, and names that become subjects."""
    for key, value, fix in (
        *_wrong_numbers(settings),
        *_wrong_costs(settings),
        *_wrong_instruments(settings),
        *_wrong_strategies(settings),
    ):
        raise ConfigurationInvalid(f"{name}: key {key} is {value!s}: {fix}")


Wrong = tuple[str, object, str]
"""A key, what it is, and how to mend it."""


def _wrong_numbers(settings: Settings) -> Iterator[Wrong]:
    amounts: list[tuple[str, Decimal | None]] = [("run.cash", settings.run.cash)]
    for table in ("venue", "risk"):
        values = msgspec.structs.asdict(getattr(settings, table))
        amounts += [
            (f"{table}.{key}", value)
            for key, value in values.items()
            if isinstance(value, Decimal) and not key.endswith("_fee")
        ]
    for key, value in amounts:
        if value is not None and not (value.is_finite() and value >= 0):
            yield key, value, "use zero or more"
    for key in ("max_open_positions", "max_price_age_ms", "max_input_age_ms", "approval_valid_ms", "cool_down_ms"):
        count = getattr(settings.risk, key)
        if count is not None and count < 0:
            yield f"risk.{key}", count, "use zero or more"
    for key, least in (("train_bars", LEAST_TRAIN_BARS), ("refit_bars", 1)):
        if getattr(settings.regime, key) < least:
            yield f"regime.{key}", getattr(settings.regime, key), f"use {least} or more"
    bandit = settings.bandit
    for key, low, high in (
        ("prior_precision", 1e-6, 1e6),
        ("scale", 1e-6, 1e6),
        ("discount", 1e-6, 1.0),
        ("floor", 0.0, 1.0),
    ):
        if not low <= getattr(bandit, key) <= high:
            yield f"bandit.{key}", getattr(bandit, key), f"use a number from {low:g} to {high:g}"
    for key, least in (("log_size_mib", 1), ("log_files", 1), ("mirror_size_mib", 16), ("mirror_age_days", 0)):
        if getattr(settings.retention, key) < least:
            yield f"retention.{key}", getattr(settings.retention, key), f"use {least} or more"


def _wrong_costs(settings: Settings) -> Iterator[Wrong]:
    """Fees may be rebates; impact that takes the whole price away, or a window of nothing, is no cost model."""
    venue = settings.venue
    fees: list[tuple[str, Decimal]] = [("venue.maker_fee", venue.maker_fee), ("venue.taker_fee", venue.taker_fee)]
    before = Decimal(-1)
    for index, tier in enumerate(venue.fee_tier):
        key = f"venue.fee_tier[{index}]"
        fees += [(f"{key}.maker_fee", tier.maker_fee), (f"{key}.taker_fee", tier.taker_fee)]
        if not (tier.traded.is_finite() and tier.traded >= 0 and tier.traded > before):
            yield f"{key}.traded", tier.traded, "use notionals from zero up, each above the one before"
        before = tier.traded
    for key, fee in fees:
        if not (fee.is_finite() and -1 < fee < 1):
            yield key, fee, "use a fraction of notional between -1 (a rebate) and 1, such as 0.0005"
    if venue.latency_ms < 0:
        yield "venue.latency_ms", venue.latency_ms, "use zero or more"
    if venue.root_window_bars < 1:
        yield "venue.root_window_bars", venue.root_window_bars, "use 1 or more"
    yield from _wrong_margin("venue", venue.initial_margin, venue.maintenance_margin)
    for index, instrument in enumerate(settings.instrument):
        key = f"instrument[{index}].costs"
        own = instrument.costs
        initial = venue.initial_margin if own.initial_margin is None else own.initial_margin
        maintenance = venue.maintenance_margin if own.maintenance_margin is None else own.maintenance_margin
        yield from _wrong_margin(key, initial, maintenance)
        for name, value in msgspec.structs.asdict(instrument.costs).items():
            least = 1 if name == "root_window_bars" else 0
            if value is not None and not (Decimal(value).is_finite() and value >= least):
                yield f"{key}.{name}", value, f"use {least} or more"
        ticks = instrument.costs.half_spread_ticks
        if instrument.tick_size is None and (venue.half_spread_ticks if ticks is None else ticks):
            yield f"instrument[{index}].tick_size", "not set", "set it: half_spread_ticks counts in it"


def _wrong_margin(key: str, initial: Decimal, maintenance: Decimal) -> Iterator[Wrong]:
    if maintenance >= 1:
        yield f"{key}.maintenance_margin", maintenance, "use a fraction of the position's value below 1, such as 0.005"
    elif initial < maintenance:
        yield f"{key}.initial_margin", initial, f"use at least the maintenance margin of {maintenance}"


def _wrong_instruments(settings: Settings) -> Iterator[Wrong]:
    if not settings.instrument:
        yield "instrument", "empty", "list at least one [[instrument]] with a name such as 'BTC/USDT'"
    names = [instrument.name for instrument in settings.instrument]
    for index, instrument in enumerate(settings.instrument):
        key = f"instrument[{index}]"
        if names.count(instrument.name) > 1:
            yield f"{key}.name", instrument.name, "list each instrument once"
        base, separator, quote = instrument.name.partition("/")
        if not (base and separator and quote):
            yield f"{key}.name", instrument.name, "write base/quote, such as 'BTC/USDT'"
        elif quote.partition(":")[0] != settings.run.currency:
            yield f"{key}.name", instrument.name, f"quote it in the account currency {settings.run.currency}"
        if not is_token(instrument.venue):
            yield f"{key}.venue", repr(instrument.venue), "use letters, digits, - and _"
        for field in ("tick_size", "lot_size", "min_notional"):
            value = getattr(instrument, field)
            if value is not None and not (value.is_finite() and value > 0):
                yield f"{key}.{field}", value, "use a number above zero, or leave the key out"
        if settings.feed.kind == "files" and not instrument.data:
            yield f"{key}.data", "missing", "name the Parquet or CSV file of its bars"
    for index, limit in enumerate(settings.risk.instrument):
        if limit.name not in names:
            yield f"risk.instrument[{index}].name", limit.name, f"use one of {', '.join(names)}"


def _wrong_strategies(settings: Settings) -> Iterator[Wrong]:
    names = [instrument.name for instrument in settings.instrument]
    seen: set[str] = set()
    for index, strategy in enumerate(settings.strategy):
        key = f"strategy[{index}]"
        if strategy.name in seen:
            yield f"{key}.name", strategy.name, "give each strategy instance its own name"
        seen.add(strategy.name)
        for place, token in ((key, strategy.name), *((f"{key}.preset", preset.name) for preset in strategy.preset)):
            if not is_token(token):
                yield f"{place}.name", repr(token), "use letters, digits, - and _"
        if not (strategy.size.is_finite() and strategy.size > 0):
            yield f"{key}.size", strategy.size, "use a quantity above zero"
        for instrument_name in strategy.instruments:
            if instrument_name not in names:
                yield f"{key}.instruments", instrument_name, f"use one of {', '.join(names)}"
        if not strategy.instruments:
            yield f"{key}.instruments", "empty", f"bind it to at least one of {', '.join(names)}"


class Environment(msgspec.Struct, frozen=True):
    """Where one process finds its servers and secrets. Set by the launcher or by compose, never by hand.

    Attributes:
        nats_seed_file: file with this service's NATS nkey seed, mode 0600.
        dsn_file: file with the Postgres connection string (the ledger's; the operator's reads only).
        signer_seed_file: file with the key that signs control requests (the operator only).
        tape: the name that makes this tape's client order ids unique; drawn once by the launcher.
        parent: pid of a launcher with which this process ends, 0 if it has none.
        plan_file: JSON of who hears and may answer what in a replay (ledger only).
        nats_monitor_url: where the NATS server tells how it is, such as ``http://127.0.0.1:8222`` (ledger only); empty:
            it is not asked.
        disks: volumes whose free space is watched, as ``name=path,name=path`` (ledger only).
        notifier_port: where the notifier takes Alertmanager's alerts; 0 if it takes none.
        notifier_token_file: file with the bearer token that whoever sends alerts must show.
        notifier_folder: where the notifier keeps its messages and how far it is.
        destinations_file: TOML file of who is told what (``destinations``); a secret, its URLs hold passwords.
        watchdog_s: how long the alert that always fires may be missing before the notifier says so; 0: for ever.
        log_file: file that standard error goes to, if somebody moves it aside when it is large.
    """

    config: str = CONFIG_NAME
    nats_url: str = "nats://127.0.0.1:4222"
    nats_seed_file: str = ""
    dsn_file: str = ""
    operator_public_file: str = ""
    signer_seed_file: str = ""
    plan_file: str = ""
    models: str = ""
    tape: str = ""
    parent: int = 0
    realm: Realm = Realm.LIVE
    metrics_port: int = 0
    nats_monitor_url: str = ""
    disks: str = ""
    log_level: str = "info"
    notifier_port: int = 0
    notifier_host: str = "127.0.0.1"
    notifier_token_file: str = ""
    notifier_folder: str = "notifier"
    destinations_file: str = ""
    watchdog_s: float = 0.0
    log_file: str = ""


def environment(variables: dict[str, str]) -> Environment:
    """Read ``TAPELINE_*`` variables. Raises ``ConfigurationInvalid`` naming the variable."""
    given = {
        field: variables[f"TAPELINE_{field.upper()}"]
        for field in Environment.__struct_fields__
        if f"TAPELINE_{field.upper()}" in variables
    }
    try:
        return msgspec.convert(given, Environment, strict=False)
    except msgspec.ValidationError as trouble:
        field = str(trouble).rpartition("`$.")[2].rstrip("`")
        variable = f"TAPELINE_{field.upper()}"
        raise ConfigurationInvalid(f"{variable}={given.get(field)!r}: {trouble}") from trouble


def volumes(disks: str) -> dict[str, Path]:
    """``Environment.disks`` as name → path. Raises ``ConfigurationInvalid``."""
    found: dict[str, Path] = {}
    for part in filter(None, disks.split(",")):
        name, separator, path = part.strip().partition("=")
        if not (name and separator and path) or name in found:
            raise ConfigurationInvalid(
                f"TAPELINE_DISKS={disks!r}: {part!r} is not one of name=path, each name once; such as data=/"
            )
        found[name] = Path(path)
    return found
