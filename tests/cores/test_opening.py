"""Configuration becomes facts once, changes are recorded, and what a tape cannot change is refused."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from tapeline_common.commands_run import default_config
from tapeline_common.events import (
    AUTHOR_OF,
    CodeDeployed,
    CostsConfigured,
    Event,
    FeeTier,
    InstrumentCosts,
    RunStarted,
    StrategyConfigured,
)
from tapeline_common.opening import CONFIGURATION, changed, opening_facts
from tapeline_common.settings import ConfigurationInvalid, Settings, parse
from tapeline_common.values import InstrumentId, Realm

SETTINGS = parse(default_config())


def opening(settings: Settings = SETTINGS, code: str = "1") -> list[tuple[str, str, Event]]:
    return changed(opening_facts(settings, realm=Realm.LIVE, code_version=code, tape="t"), [])


def recorded(said: Sequence[tuple[str, str, Event]]) -> list[tuple[str, Event]]:
    return [(identity, event) for _, identity, event in said]


def again(settings: Settings, said: Sequence[tuple[str, str, Event]], code: str = "1") -> list[tuple[str, str, Event]]:
    return changed(opening_facts(settings, realm=Realm.LIVE, code_version=code, tape="t"), recorded(said))


def test_a_new_tape_gets_everything_run_first() -> None:
    """The first fact is RunStarted; each is said by its author under an id of its own."""
    said = opening()

    assert isinstance(said[0][2], RunStarted)
    assert all(author == AUTHOR_OF[type(event)] for author, _, event in said)
    assert len({identity for _, identity, _ in said}) == len(said)
    assert {type(event) for _, _, event in said} <= set(CONFIGURATION)


def test_the_same_configuration_says_nothing_more() -> None:
    """A restart with the same file and code records nothing."""
    assert again(SETTINGS, opening()) == []


def test_a_changed_strategy_is_said_again_and_only_it() -> None:
    """The next number of its slot, with the new content; going back is a change again."""
    strategy = msgspec.structs.replace(SETTINGS.strategy[0], parameters={"fast": 5, "slow": 30})
    other = msgspec.structs.replace(SETTINGS, strategy=(strategy, *SETTINGS.strategy[1:]))
    first = opening()

    second = again(other, first)
    third = again(SETTINGS, [*first, *second])

    assert [(identity, type(event)) for _, identity, event in second] == [("strategy:ema#2", StrategyConfigured)]
    assert [identity for _, identity, _ in third] == ["strategy:ema#3"]
    assert again(SETTINGS, [*first, *second, *third]) == []


def test_other_code_is_said_once() -> None:
    """CodeDeployed marks from where on other code decides."""
    first = opening()

    second = again(SETTINGS, first, code="2")

    assert second == [("operator", "code#1", CodeDeployed("2"))]
    assert again(SETTINGS, [*first, *second], code="2") == []


def test_money_is_paid_in_once() -> None:
    """Another run.cash on a running tape is no deposit."""
    richer = msgspec.structs.replace(SETTINGS, run=msgspec.structs.replace(SETTINGS.run, cash=SETTINGS.run.cash * 2))

    assert again(richer, opening()) == []


def costs_said(said: Sequence[tuple[str, str, Event]]) -> list[tuple[str, Event]]:
    return [(identity, event) for _, identity, event in said if isinstance(event, CostsConfigured)]


COSTLY = """
[venue]
slippage_bps = 2
root_impact = 0.5
[[venue.fee_tier]]
traded = 0
maker_fee = -0.0001
taker_fee = 0.001
[[instrument]]
name = "BTC/USDT"
costs = { root_impact = 1, root_window_bars = 60 }
[[instrument]]
name = "ETH/USDT"
"""


def test_costs_beyond_a_flat_fee_are_said_for_every_instrument() -> None:
    """The instrument's own where it has them, the venue's for the rest; without any, not a word."""
    half, one = Decimal("0.5"), Decimal(1)
    assert costs_said(opening(parse(COSTLY))) == [
        (
            "costs:sim#1",
            CostsConfigured(
                "sim",
                (FeeTier(Decimal(0), Decimal("-0.0001"), Decimal("0.001")),),
                instruments={
                    InstrumentId("BTC-USDT_sim"): InstrumentCosts(Decimal(2), root_impact=one, root_window_bars=60),
                    InstrumentId("ETH-USDT_sim"): InstrumentCosts(Decimal(2), root_impact=half),
                },
            ),
        )
    ]
    assert costs_said(opening()) == []


@pytest.mark.parametrize("key", ["latency_ms = 1", 'intrabar = "ADAPTIVE"', "half_spread_bps = 1"])
def test_each_kind_of_cost_is_reason_enough(key: str) -> None:
    """Latency and the path need the fixed slippage to be named with them."""
    ((_, said),) = costs_said(opening(parse(f'[venue]\n{key}\n[[instrument]]\nname = "BTC/USDT"\n')))
    assert isinstance(said, CostsConfigured)
    assert [costs.slippage_bps for costs in said.instruments.values()] == [1]


def test_tiers_alone_leave_prices_alone() -> None:
    """No instrument has costs of its own then."""
    text = COSTLY.replace("root_impact = 0.5", "").replace("costs = { root_impact = 1, root_window_bars = 60 }", "")
    ((_, said),) = costs_said(opening(parse(text)))
    assert isinstance(said, CostsConfigured)
    assert (len(said.fee_tiers), said.instruments) == (1, {})


def test_costs_taken_out_of_the_file_are_taken_back_once() -> None:
    """A running tape is told that they no longer hold."""
    dear = parse(COSTLY)
    free = parse(
        COSTLY[COSTLY.index("[[instrument]]") :].replace("costs = { root_impact = 1, root_window_bars = 60 }", "")
    )
    first = opening(dear)

    second = again(free, first)

    assert costs_said(second) == [("costs:sim#2", CostsConfigured("sim"))]
    assert costs_said(again(free, [*first, *second])) == []
    assert costs_said(again(dear, [*first, *second]))[0][0] == "costs:sim#3"


def test_what_a_tape_cannot_change_is_refused() -> None:
    """Another seed contradicts everything drawn so far."""
    reseeded = msgspec.structs.replace(SETTINGS, run=msgspec.structs.replace(SETTINGS.run, seed=8))

    with pytest.raises(ConfigurationInvalid, match=r"run\.seed is 8, but this tape was started with 7"):
        again(reseeded, opening())
