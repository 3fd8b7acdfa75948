"""The configuration is checked whole: each mistake ends in one message that names the key, the value and the fix."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tapeline_common.commands_run import default_config
from tapeline_common.settings import ConfigurationInvalid, environment, load, parse
from tapeline_common.values import Realm
from tapeline_common.wiring import checked

BITCOIN = '[[instrument]]\nname = "BTC/USDT"\n'
CROSS = '[[strategy]]\nname = "cross"\nkind = "ema_cross"\ninstruments = ["BTC/USDT"]\nsize = 1\n'
UNSPLIT = '[[instrument]]\nname = "BTCUSDT"\n'
EURO = '[[instrument]]\nname = "SAP/EUR"\n'
TIER = "[[venue.fee_tier]]\ntraded = 0\nmaker_fee = -0.0001\ntaker_fee = 0.001\n"
ETHER_LIMIT = '[[risk.instrument]]\nname = "ETH/USDT"\n'


def message(text: str) -> str:
    with pytest.raises(ConfigurationInvalid) as refused:
        parse(text, "my.toml")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\ncash = -1\n", "my.toml: key run.cash is -1: use zero or more"),
        (
            "[venue]\ntaker_fee = nan\n",
            "my.toml: key venue.taker_fee is NaN: "
            "use a fraction of notional between -1 (a rebate) and 1, such as 0.0005",
        ),
        ("[venue]\nhalf_spread_bps = -1\n", "my.toml: key venue.half_spread_bps is -1: use zero or more"),
        ("[venue]\nlatency_ms = -1\n", "my.toml: key venue.latency_ms is -1: use zero or more"),
        ("[venue]\nroot_window_bars = 0\n", "my.toml: key venue.root_window_bars is 0: use 1 or more"),
        (
            '[venue]\nintrabar = "best"\n',
            "my.toml: key venue.intrabar (it is 'best'): Invalid enum value 'best'",
        ),
        (
            TIER + TIER,
            "my.toml: key venue.fee_tier[1].traded is 0: use notionals from zero up, each above the one before",
        ),
        (
            TIER.replace("0.001", "1.5"),
            "my.toml: key venue.fee_tier[0].taker_fee is 1.5: "
            "use a fraction of notional between -1 (a rebate) and 1, such as 0.0005",
        ),
        (
            BITCOIN.replace("BTC", "ETH") + "costs = { volume_impact = -1 }\n",
            "my.toml: key instrument[0].costs.volume_impact is -1: use 0 or more",
        ),
        (
            "[venue]\nhalf_spread_ticks = 1\n",
            "my.toml: key instrument[0].tick_size is not set: set it: half_spread_ticks counts in it",
        ),
        ('[venue]\ntaker_fee = "free"\n', "my.toml: key venue.taker_fee (it is 'free'): Invalid decimal string"),
        ("[risk]\nmax_open_positions = -2\n", "my.toml: key risk.max_open_positions is -2: use zero or more"),
        ("[regime]\ntrain_bars = 0\n", "my.toml: key regime.train_bars is 0: use 250 or more"),
        ("[bandit]\ndiscount = 2.0\n", "my.toml: key bandit.discount is 2.0: use a number from 1e-06 to 1"),
        ('[feed]\nkind = "psychic"\n', "my.toml: key feed.kind (it is 'psychic'): Invalid enum value 'psychic'"),
        (BITCOIN, "my.toml: key instrument[0].name is BTC/USDT: list each instrument once"),
        (
            '[[instrument]]\nname = "BTCUSDT"\n',
            "my.toml: key instrument[0].name is BTCUSDT: write base/quote, such as 'BTC/USDT'",
        ),
        (
            '[[instrument]]\nname = "SAP/EUR"\n',
            "my.toml: key instrument[0].name is SAP/EUR: quote it in the account currency USDT",
        ),
        (CROSS + CROSS, "my.toml: key strategy[1].name is cross: give each strategy instance its own name"),
        (CROSS.replace("= 1", "= 0"), "my.toml: key strategy[0].size is 0: use a quantity above zero"),
        (CROSS.replace('"cross"', '"a b"'), "my.toml: key strategy[0].name is 'a b': use letters, digits, - and _"),
        (CROSS.replace("BTC/", "ETH/"), "my.toml: key strategy[0].instruments is ETH/USDT: use one of BTC/USDT"),
        (
            '[[risk.instrument]]\nname = "ETH/USDT"\n',
            "my.toml: key risk.instrument[0].name is ETH/USDT: use one of BTC/USDT",
        ),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    """One message with the key, the value and the fix."""
    assert message(text + BITCOIN).replace("instrument[1]", "instrument[0]") == said


def test_an_unknown_key_is_a_mistake() -> None:
    """A misspelt table or key is refused, not ignored."""
    assert "venu" in message("[venu]\ntaker_fee = 1\n" + BITCOIN)
    assert "taker_fees" in message("[venue]\ntaker_fees = 1\n" + BITCOIN)


def test_no_instrument_is_a_mistake() -> None:
    """There is nothing to trade without one."""
    assert (
        message("")
        == "my.toml: key instrument is empty: list at least one [[instrument]] with a name such as 'BTC/USDT'"
    )


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the file and the command."""
    with pytest.raises(ConfigurationInvalid, match=r"gone\.toml: cannot be read .*new-config"):
        load(tmp_path / "gone.toml")


def test_decimals_are_exact_however_they_are_written() -> None:
    """A TOML float and a string give the same decimal, digit for digit."""
    floats = parse("[venue]\ntaker_fee = 0.1\n[risk]\nmax_order_notional = 1234.56789\n" + BITCOIN)
    texts = parse('[venue]\ntaker_fee = "0.1"\n[risk]\nmax_order_notional = "1234.56789"\n' + BITCOIN)

    assert floats == texts
    assert floats.venue.taker_fee == Decimal("0.1")


def test_the_default_configuration_is_valid() -> None:
    """What new-config writes can be run as it is; strategies get all their parameters."""
    settings = checked(parse(default_config()))

    assert [strategy.name for strategy in settings.strategy] == ["ema", "breakout", "trend"]
    assert settings.strategy[0].parameters == {"fast": 10, "slow": 30}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [("{ fats = 3 }", "fats"), ("{ fast = 40, slow = 30 }", "fast"), ("{ fast = 1 }", "fast")],
)
def test_wrong_strategy_parameters_are_refused_before_anything_starts(parameters: str, named: str) -> None:
    """The installed checks name the instance and the parameter."""
    with pytest.raises(ConfigurationInvalid, match=named):
        checked(parse(BITCOIN + CROSS + f"parameters = {parameters}\n"))


def test_the_environment_is_read_and_refused_by_variable() -> None:
    """Good variables are typed; a bad one is named."""
    read = environment({"TAPELINE_REALM": "REPLAY", "TAPELINE_METRICS_PORT": "9100", "HOME": "/"})
    assert (read.realm, read.metrics_port) == (Realm.REPLAY, 9100)
    with pytest.raises(ConfigurationInvalid, match="TAPELINE_METRICS_PORT='many'"):
        environment({"TAPELINE_METRICS_PORT": "many"})
