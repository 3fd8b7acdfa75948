"""Paper trading on an exchange's bars, over real HTTP: the present is traded, history and what was missed are heard."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.alerts.market import Market
from tests.e2e.test_stack import eventually

from tapeline_common.embedded import Stack
from tapeline_common.events import BarClosed, FeedOpened, OrderProposed, TradeDeclined
from tapeline_common.operator_client import OperatorClient, operator
from tapeline_common.tape import read_all
from tapeline_common.values import Decline
from tapeline_common.wire import Fact, decode_facts

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(170)]

CONFIG = """
[run]
name = "exchange"
[feed]
kind = "exchange"
exchange = "binance"
base_url = "ADDRESS"
timeframe = "1s"
poll_ms = 200
history_bars = 400
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
lot_size = "0.00001"
[regime]
enabled = false
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "0.1"
parameters = { fast = 2, slow = 3 }
"""
SECOND_NS = 1_000_000_000
STALE_AFTER_S = 12.2
"""Of bars of a second: two of them, a poll, and ten seconds for the way."""
OUTAGE_S = 16.0


async def recorded(client: OperatorClient) -> list[Fact]:
    return decode_facts(await read_all(client.tape))


async def has_traded(client: OperatorClient, after: int) -> bool:
    """Whether orders were proposed, and bars heard, behind a position."""
    kinds = [type(fact.event) for fact in await recorded(client) if fact.pos > after]
    return kinds.count(OrderProposed) >= 2 and kinds.count(BarClosed) > OUTAGE_S


async def test_history_and_what_was_missed_are_heard_and_not_traded(tmp_path: Path) -> None:
    """Each order is of a bar after which no other had closed when it was heard; before that, reasons."""
    tmp_path.chmod(0o755)
    market, config = Market(), tmp_path / "tapeline.toml"
    market.start()
    config.write_text(CONFIG.replace("ADDRESS", market.url))
    stack = Stack(tmp_path / "data", config)
    try:
        await stack.start()
        async with operator(stack.folder) as client:
            await eventually(lambda: has_traded(client, 0), "trades after the history")
            market.is_frozen = True
            await asyncio.sleep(OUTAGE_S)
            before = len(await recorded(client))
            market.is_frozen = False
            await eventually(lambda: has_traded(client, before), "trades after the outage")
            facts = await recorded(client)
    finally:
        await stack.stop()
        market.stop()

    (opened,) = [fact.event for fact in facts if isinstance(fact.event, FeedOpened)]
    assert opened.stale_after_ns == STALE_AFTER_S * SECOND_NS
    bars = {fact.event.open_ns: fact for fact in facts if isinstance(fact.event, BarClosed)}
    assert sorted(bars) == [min(bars) + number * SECOND_NS for number in range(len(bars))], "no bar is missing"
    ages_ns = {open_ns: fact.time_ns - open_ns for open_ns, fact in bars.items()}
    orders = [fact.event for fact in facts if isinstance(fact.event, OrderProposed)]
    assert max(ages_ns[order.bar_open_ns] for order in orders) <= opened.stale_after_ns
    declined = [(fact.pos, fact.event) for fact in facts if isinstance(fact.event, TradeDeclined)]
    stale = [(pos, event) for pos, event in declined if event.reason is Decline.INPUT_STALE]
    assert all(ages_ns[event.bar_open_ns] > opened.stale_after_ns for _, event in stale)
    assert stale[0][0] < before < stale[-1][0], "of the history, and of what was missed"
