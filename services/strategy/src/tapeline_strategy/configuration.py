"""Checks the strategies of a configuration before anything starts: kinds exist, parameters are typed and in bounds.

The core declines what is wrong on a tape; this is for the person at the keyboard, who should hear of it at once.
"""

from __future__ import annotations

import msgspec

from tapeline_common.settings import ConfigurationInvalid, Settings, StrategyTable
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import ParameterInvalid, validate


def checked(settings: Settings) -> Settings:
    """The settings with every strategy's parameters complete and typed. Raises ``ConfigurationInvalid``."""
    tables = tuple(_checked_table(table) for table in settings.strategy)
    return msgspec.structs.replace(settings, strategy=tables)


def _checked_table(table: StrategyTable) -> StrategyTable:
    try:
        kind = catalogue.find(table.kind)
        presets = tuple(
            msgspec.structs.replace(preset, parameters=validate(kind, {**table.parameters, **preset.parameters}))
            for preset in table.preset
        )
        return msgspec.structs.replace(table, parameters=validate(kind, table.parameters), preset=presets)
    except (catalogue.StrategyUnknown, ParameterInvalid) as trouble:
        raise ConfigurationInvalid(f"[[strategy]] {table.name}: {trouble}") from trouble
