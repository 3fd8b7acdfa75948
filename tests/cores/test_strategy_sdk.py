"""The strategy SDK: parameters are what they were declared to be, or one clear error says which is not."""

import math
from typing import ClassVar

import pytest

from tapeline_common.events import Parameters, ParameterValue
from tapeline_strategy import catalogue
from tapeline_strategy.catalogue import StrategyUnknown
from tapeline_strategy.ema_cross import STRATEGY as EMA_CROSS
from tapeline_strategy.sdk import Bar, Parameter, ParameterInvalid, from_class, validate
from tapeline_strategy.trend_follow import STRATEGY as TREND_FOLLOW


class Countdown:
    """Goes long after so many rising bars in a row."""

    name: ClassVar[str] = "countdown"
    description: ClassVar[str] = "Long after a run of rising closes."
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("run", int, 2, 1, 9, "rising closes in a row"),
        Parameter("share", float, 1.0, 0.0, 1.0, "exposure to take"),
    )

    def __init__(self, run: int, share: float) -> None:
        self.run = run
        self.share = share
        self.rising = 0
        self.close = math.inf

    def on_bar(self, bar: Bar) -> float:
        self.rising = self.rising + 1 if bar.close > self.close else 0
        self.close = bar.close
        return self.share if self.rising >= self.run else 0.0


def test_missing_parameters_get_their_defaults_in_declared_order() -> None:
    """What is given stands, what is not given is the default, in the order of the declaration."""
    values = validate(EMA_CROSS, {"slow": 50})

    assert list(values.items()) == [("fast", 10), ("slow", 50)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"trend": "50"}, 50),
        ({"trend": " 50 "}, 50),
        ({"trend": 50.0}, 50),
        ({"entry_atr": "0.5"}, 0.5),
        ({"entry_atr": 2}, 2.0),
        ({"short": "true"}, True),
        ({"short": "off"}, False),
        ({"short": True}, True),
    ],
)
def test_text_and_numbers_become_the_declared_type(given: Parameters, expected: ParameterValue) -> None:
    """A command line gives text; a file may give 50.0 for 50; the strategy gets the type it declared."""
    (name,) = given
    value = validate(TREND_FOLLOW, given)[name]

    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fast": 1}, ["'ema_cross'", "'fast'", " 1,", "from 2 to 500"]),
        ({"slow": 2001}, ["'slow'", "2001", "from 3 to 2000"]),
        ({"fast": "ten"}, ["'fast'", "'ten'", "a whole number"]),
        ({"fast": 2.5}, ["'fast'", "2.5", "a whole number"]),
        ({"fast": True}, ["'fast'", "True", "a whole number"]),
        ({"fast": "1e400"}, ["'fast'", "'1e400'"]),
        ({"fast": math.nan}, ["'fast'", "nan"]),
        ({"fsat": 10}, ["'fsat'", "did you mean 'fast'?", "fast, slow"]),
        ({"fast": 30, "slow": 30}, ["'ema_cross'", "fast is 30 and slow is 30", "less than"]),
    ],
)
def test_a_parameter_it_cannot_run_with_is_refused_by_name(given: Parameters, words: list[str]) -> None:
    """One error names the strategy, the parameter, the value and what would be right."""
    with pytest.raises(ParameterInvalid) as caught:
        validate(EMA_CROSS, given)

    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("given", [{"short": "maybe"}, {"short": 1}, {"entry_atr": math.inf}, {"entry_atr": "nan"}])
def test_switches_and_numbers_are_not_guessed(given: Parameters) -> None:
    """A number is no switch, and infinity and not-a-number are no numbers to trade by."""
    with pytest.raises(ParameterInvalid):
        validate(TREND_FOLLOW, given)


def test_built_in_strategies_are_installed() -> None:
    """The three built-in strategies are found by entry point, each under its own name, with valid defaults."""
    found = catalogue.installed()

    assert [name for name in ("ema_cross", "momentum_breakout", "trend_follow") if name not in found] == []
    for name, strategy in found.items():
        assert strategy.name == name
        assert strategy.description.endswith(".")
        assert tuple(validate(strategy, {})) == tuple(parameter.name for parameter in strategy.parameters)


def test_an_unknown_kind_lists_what_there_is() -> None:
    """Asking for a strategy that is not installed says what is, and what was probably meant."""
    with pytest.raises(StrategyUnknown, match=r"'ema_cros'; did you mean 'ema_cross'\? \(installed: .*ema_cross, "):
        catalogue.find("ema_cros")


def test_a_class_becomes_a_strategy() -> None:
    """Each start makes a fresh object with the parameters; each step hands it one bar."""
    strategy = from_class(Countdown)
    values = validate(strategy, {"share": "0.5"})
    memory, other = strategy.start(values), strategy.start(values)

    answers = [strategy.step(memory, *values.values(), 1.0, 9.0, 0.5, close, 3.0) for close in (1.0, 2.0, 3.0, 2.0)]

    assert answers == [0.0, 0.0, 0.5, 0.0]
    assert not strategy.is_numeric
    assert vars(other) == {"run": 2, "share": 0.5, "rising": 0, "close": math.inf}


def test_a_class_that_does_not_take_its_parameters_is_refused() -> None:
    """Declared parameters and __init__ must agree; the error shows both."""

    class Forgetful(Countdown):
        parameters = (Parameter("run", int, 2, 1, 9, "rising closes in a row"),)
        name = "forgetful"
        description = "Forgets."

    with pytest.raises(TypeError, match=r"Forgetful declares the parameters \('run',\).*\('run', 'share'\)"):
        from_class(Forgetful)


def test_a_class_without_what_a_strategy_needs_is_refused() -> None:
    """The error names the attribute that is missing."""

    class Silent:
        name = "silent"
        description = "Says nothing."
        parameters = ()

    with pytest.raises(TypeError, match="Silent has no 'on_bar'"):
        from_class(Silent)


def test_a_name_is_given_once() -> None:
    """A strategy added by hand cannot take the name of another; adding the same one twice is fine."""
    strategy = from_class(Countdown)
    catalogue.add(strategy)
    catalogue.add(strategy)
    assert catalogue.find("countdown") is strategy

    with pytest.raises(ValueError, match="'countdown' exists already"):
        catalogue.add(from_class(Countdown))
