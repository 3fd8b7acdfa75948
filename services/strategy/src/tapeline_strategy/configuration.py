"""Checks the strategies of a configuration before anything starts: kinds exist, parameters are typed and in bounds.

The core declines what is wrong on a tape; this is for the person at the keyboard, who should hear of it at once.
"""

from __future__ import annotations

import msgspec

from tapeline_common.settings import ConfigurationInvalid, Settings, StrategyTable
from tapeline_strategy import catalogue, loading
from tapeline_strategy.pairs import check_legs
from tapeline_strategy.sdk import ParameterInvalid, check_bars, validate


def checked(settings: Settings) -> Settings:
    """The settings with every strategy's parameters complete and typed. Raises ``ConfigurationInvalid``."""
    loading.use(settings.strategies.paths)
    tables = tuple(_checked_table(table) for table in settings.strategy)
    found = msgspec.structs.replace(settings, strategy=tables)
    return found if settings.feed.kind == "files" else on_their_bars(found)  # files say themselves how long bars are


def on_their_bars(settings: Settings) -> Settings:
    """The same settings, if every strategy can decide on bars of their length. Raises ``ConfigurationInvalid``."""
    for table in settings.strategy:
        try:
            check_bars(catalogue.find(table.kind), settings.feed.timeframe)
        except ParameterInvalid as trouble:
            raise ConfigurationInvalid(f"[[strategy]] {table.name}: {trouble}") from trouble
    return settings


def _checked_table(table: StrategyTable) -> StrategyTable:
    try:
        kind = catalogue.find(table.kind)
        check_legs(kind, len(table.instruments), is_bound=bool(table.regimes or table.preset))
        presets = tuple(
            msgspec.structs.replace(preset, parameters=validate(kind, {**table.parameters, **preset.parameters}))
            for preset in table.preset
        )
        return msgspec.structs.replace(table, parameters=validate(kind, table.parameters), preset=presets)
    except (catalogue.StrategyUnknown, catalogue.StrategyClash, ParameterInvalid) as trouble:
        raise ConfigurationInvalid(f"[[strategy]] {table.name}: {trouble}") from trouble
