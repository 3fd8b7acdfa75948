"""Everything that is exposed to Prometheus, as a list: for the documentation, and for whoever checks a name by it.

Made of the same tables that are exposed (``metrics_common`` and each installed service's measures), so nothing can be
exposed that is not in it, apart from ``service``, the label that every sample has.
"""

from __future__ import annotations

import msgspec

from tapeline_common.measures import Kind, unit_of
from tapeline_common.metrics_common import COMMON
from tapeline_common.wiring import installed_services

EVERY_SERVICE = "every service"


class Measured(msgspec.Struct, frozen=True):
    """One exposed name.

    Attributes:
        service: who exposes it; ``EVERY_SERVICE`` for what all of them do.
        name: as it is exposed; a histogram adds ``_bucket``, ``_sum`` and ``_count``.
        labels: beside ``service``.
        values: label → all its values, where these are a closed list.
        text: what it means.
        appears: when it has samples, if not from the start.
    """

    service: str
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    text: str
    appears: str

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that stand in queries."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def catalogue() -> tuple[Measured, ...]:
    """What every service exposes, then what each installed service does, by their names."""
    tables = {EVERY_SERVICE: COMMON}
    tables.update({name: service.measures.all for name, service in installed_services().items()})
    return tuple(
        Measured(
            service=service,
            name=measure.name,
            kind=measure.kind,
            unit=unit_of(measure),
            labels=measure.labels,
            values={label: tuple(map(str, values)) for label, values in measure.values.items()},
            text=measure.text,
            appears=measure.appears,
        )
        for service, measures in tables.items()
        for measure in measures
    )
