"""What a dashboard is made of, as data: boards of sections of panels, their queries, the levels at which they colour.

The boards themselves are in ``boards``; ``render`` turns them into Grafana's JSON and ``page`` into documentation.
Nothing here knows Grafana's schema, except for units and colours, which are Grafana's words.

One colour has one meaning everywhere: amber from where an alert asks for a ticket, red from where an alert pages
somebody, so red means act now. Levels therefore name their alert, and a test compares them with the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

COLUMNS = 24
"""Width of Grafana's grid."""

SCREEN_ROWS = 24
"""Rows of the grid that a screen of 1080 lines shows below Grafana's own bars."""


class Unit(StrEnum):
    """Units as Grafana calls them; the one place where they are chosen."""

    COUNT = "short"
    PLAIN = "none"
    MONEY = "locale"
    RATIO = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "cps"
    BASIS_POINTS = "suffix: bp"
    STAMP = "dateTimeAsIso"
    TEXT = "string"


class Colour(StrEnum):
    GREEN = "green"
    AMBER = "orange"
    RED = "red"
    BLUE = "blue"
    PURPLE = "purple"
    YELLOW = "yellow"
    GREY = "#808080"


class Show(StrEnum):
    """How a panel looks."""

    NUMBER = "number"
    GAUGES = "bar gauges"
    LINES = "lines"
    STACK = "stacked areas"
    BARS = "stacked bars"
    BAND = "state timeline"
    HEAT = "heat map"
    TABLE = "table"
    WORDS = "text"


WHAT_HAPPENED = "only what happened is drawn"
"""Why a query is quiet that leaves out the zeros of counters with many labels."""


@dataclass(frozen=True, slots=True)
class Prom:
    """A query to Prometheus.

    Attributes:
        legend: name of each series; ``{{label}}`` is replaced by the label's value.
        quiet: why this query may return nothing on a stack that is well; empty where it must return a series.
        table: the present value of each series as a row, instead of its course.
    """

    expr: str
    legend: str = ""
    quiet: str = ""
    table: bool = False


@dataclass(frozen=True, slots=True)
class Sql:
    """A query to Postgres, as a role that may only read.

    Attributes:
        series: the rows are a course in time (columns ``time``, and one for each line), not a table.
    """

    text: str
    series: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """From ``at`` on the alert of this name fires, if it stays so for as long as the rule says.

    No name: the panel counts alerts itself.
    """

    alert: str
    at: float


@dataclass(frozen=True, slots=True)
class Word:
    """A number that is shown as a word."""

    number: int
    text: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the name it has in the result, what is shown instead, and its unit."""

    name: str
    title: str = ""
    unit: Unit = Unit.PLAIN
    decimals: int | None = None


def money(name: str, title: str = "") -> Column:
    """A column of amounts in account currency."""
    return Column(name, title, Unit.MONEY, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        asks: the question it answers, in the page of the documentation and as the first words of its description.
        text: what is shown, where the question does not say it.
        act: what to do when it is amber or red; the runbooks of the levels' alerts are linked beside it.
        falling: low values are the bad ones.
        alert: the alert to be linked where there is no level, such as that behind a coloured word.
        calc: which number of a course a NUMBER shows (Grafana's name of a reducer); empty: the present one. What is not
            known now is then not shown as it was when it last was known.
        words: numbers shown as words.
        nothing: shown, in grey, where there is no number.
        colours: series (by name) that always have the same colour.
        repeat: the variable for each of whose values the panel is shown.
        link: (title, address) of a link that each row of a table has.
    """

    title: str
    asks: str
    show: Show
    queries: tuple[Prom | Sql, ...] = ()
    unit: Unit = Unit.COUNT
    width: int = 12
    height: int = 8
    text: str = ""
    act: str = ""
    amber: Level | None = None
    red: Level | None = None
    falling: bool = False
    alert: str = ""
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    calc: str = ""
    nothing: str = "NOT KNOWN"
    words: tuple[Word, ...] = ()
    colours: dict[str, Colour] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    repeat: str = ""
    link: tuple[str, str] | None = None

    @property
    def shows_present(self) -> bool:
        """Its numbers are those of now, not of a course."""
        return self.show in (Show.NUMBER, Show.GAUGES) and not self.calc

    @property
    def alerts(self) -> tuple[str, ...]:
        """Alerts whose runbooks belong to this panel, without repetition."""
        named = [self.alert, *(level.alert for level in (self.amber, self.red) if level is not None)]
        return tuple(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True, slots=True)
class Section:
    """A titled row of panels, set from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a board; ``query`` is Prometheus' list of values, or the type of a data source."""

    name: str
    label: str
    query: str


INSTRUMENT = Variable("instrument", "Instrument", "label_values(tapeline_price, instrument)")
STRATEGY = Variable("strategy", "Strategy", "label_values(tapeline_bars_judged_total, strategy)")
SERVICE = Variable("service", "Service", "label_values(tapeline_build_info, service)")


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard.

    Attributes:
        name: its file, and with ``tapeline-`` before it its uid.
        asks: the question it answers.
        hours: how much time it shows at first.
        refresh: how often it asks anew; empty for what does not change.
        tape: the variable that names the Postgres to ask, where that is to be chosen.
    """

    name: str
    title: str
    asks: str
    sections: tuple[Section, ...]
    variables: tuple[Variable, ...] = ()
    hours: int = 6
    refresh: str = "10s"
    tape: str = ""

    @property
    def uid(self) -> str:
        return f"tapeline-{self.name}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for section in self.sections for panel in section.panels)
