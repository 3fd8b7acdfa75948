"""A panel colours where its alert fires: amber for alerts that open a ticket, red for alerts that page."""

import re
from collections.abc import Iterator

import pytest
import yaml
from deploy.grafana.board import Board, Colour, Level, Panel, Prom
from deploy.grafana.boards import BOARDS
from deploy.grafana.looks import steps_of
from tests.dashboards.reading import ROOT

RULES = ROOT / "deploy/prometheus/rules"
SEVERITY = {Colour.AMBER: "ticket", Colour.RED: "page"}


def rules() -> dict[str, tuple[str, str]]:
    """Alert → severity and expression."""
    return {
        rule["alert"]: (rule["labels"]["severity"], rule["expr"])
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def coloured() -> Iterator[tuple[Board, Panel, Level, Colour]]:
    for board in BOARDS:
        for panel in board.panels:
            for level, colour in ((panel.amber, Colour.AMBER), (panel.red, Colour.RED)):
                if level is not None and level.alert:
                    yield board, panel, level, colour


def numbers_in(expr: str) -> set[float]:
    """Numbers of an expression, and products of two of them; the number 1 where a flag or a count is compared."""
    bare = re.sub(r"\[[^]]*\]", "", expr)
    found = {float(number) for number in re.findall(r"(?<![\w.$])\d+(?:\.\d+)?(?![\w.])", bare)}
    found |= {float(a) * float(b) for a, b in re.findall(r"(\d+(?:\.\d+)?) \* (\d+(?:\.\d+)?)", bare)}
    if re.search(r"(> 0|== 0|== 1)(?![.\d])", bare):
        found.add(1.0)
    return found


def test_levels_are_those_of_the_rules() -> None:
    """The number at which a panel changes its colour stands in its alert's rule, and the colour is its severity's."""
    known = rules()
    for board, panel, level, colour in coloured():
        where = f"{board.name}: {panel.title}"
        assert level.alert in known, where
        severity, expr = known[level.alert]
        assert severity == SEVERITY[colour], where
        if level.alert == "FeedStale":
            # Drawn as a fraction of what is allowed: the rule's own numbers are in the query.
            queries = " ".join(query.expr for query in panel.queries if isinstance(query, Prom))
            assert numbers_in(expr) <= numbers_in(queries), where
        else:
            assert level.at in numbers_in(expr), f"{where}: {level.at} is not in {expr}"


def test_coloured_words_have_the_severity_of_their_alert() -> None:
    """A red word stands for an alert that pages, an amber one for a ticket."""
    known = rules()
    for board in BOARDS:
        for panel in board.panels:
            for word in panel.words:
                if word.colour in SEVERITY:
                    assert panel.alert, f"{board.name}: {panel.title}"
                    assert known[panel.alert][0] == SEVERITY[word.colour], f"{board.name}: {panel.title}: {word.text}"


def test_alerts_that_panels_link_are_rules() -> None:
    """No panel names an alert that nobody wrote."""
    known = rules()
    assert {alert for board in BOARDS for panel in board.panels for alert in panel.alerts} - known.keys() == set()


@pytest.mark.parametrize(
    ("expr", "numbers"),
    [
        ("tapeline_lag_seconds > 5", {5.0}),
        ("rate(x[10m]) / y < 0.15", {0.15}),
        ("time() - x > 30 * 86400", {30.0, 86400.0, 2592000.0}),
        ("tapeline_stopped == 1", {1.0}),
        ("up == 0", {0.0, 1.0}),
        ("x > 0.5", {0.5}),
    ],
)
def test_numbers_of_a_rule(expr: str, numbers: set[float]) -> None:
    """Windows are no levels; products and flags are."""
    assert numbers_in(expr) == numbers


def test_steps_run_from_good_to_bad_in_both_directions() -> None:
    """Rising: green, then amber, then red. Falling: red up to its number, amber up to its own, then green."""
    amber, red = Level("Ticket", 2), Level("Page", 5)
    rising = Panel(title="a", asks="?", show=BOARDS[0].panels[0].show, amber=amber, red=red)
    assert [(step.value, step.color) for step in steps_of(rising)] == [
        (None, "green"),
        (2, "orange"),
        (5, "red"),
    ]
    falling = Panel(
        title="a", asks="?", show=BOARDS[0].panels[0].show, amber=Level("Ticket", 5), red=Level("Page", 2), falling=True
    )
    assert [(step.value, step.color) for step in steps_of(falling)] == [
        (None, "red"),
        (2, "orange"),
        (5, "green"),
    ]
