"""``tapeline list-indicators`` shows the catalogue to people and to programs."""

from __future__ import annotations

import json

from click.testing import CliRunner

from tapeline_common.cli import tapeline
from tapeline_strategy.indicators import CATALOGUE


def test_every_indicator_is_listed_with_inputs_outputs_and_parameters() -> None:
    """One line each, then what it takes and gives, then its parameters with bounds."""
    done = CliRunner().invoke(tapeline, ["list-indicators"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == list(CATALOGUE)
    place = lines.index("apo: Absolute price oscillator: a fast average less a slow one.")
    assert lines[place + 1 : place + 4] == [
        "    takes close; gives apo",
        "    fast = 12  (1 to 5000)  length of the fast average",
        "    slow = 26  (2 to 5000)  length of the slow average",
    ]


def test_a_family_alone_as_json() -> None:
    """Everything that the documentation says, as data."""
    done = CliRunner().invoke(tapeline, ["list-indicators", "--family", "volume", "--json"])
    assert done.exit_code == 0
    listed = json.loads(done.output)
    assert list(listed) == [name for name, each in CATALOGUE.items() if each.family == "volume"]
    assert listed["cmf"] == {
        "family": "volume",
        "description": "Chaikin money flow: volume on the buyers' side as a share of all, -1 to 1.",
        "inputs": ["high", "low", "close", "volume"],
        "outputs": ["cmf"],
        "parameters": {"length": {"default": 20, "low": 1, "high": 5000, "about": "length of the window in bars"}},
        "warm_up_bars": 20,
        "recall": "window",
        "source": "M. Chaikin, in S. B. Achelis, Technical Analysis from A to Z, 1995",
        "difference_from_ta_lib": "",
    }


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    """Exit code 2 and the choice."""
    done = CliRunner().invoke(tapeline, ["list-indicators", "--family", "candles"])
    assert done.exit_code == 2
    assert "'average', 'momentum', 'volatility', 'trend', 'volume', 'series'" in done.output
