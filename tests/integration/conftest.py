"""Shared by the tests of the exchange feed: a server that speaks an exchange's language."""

from collections.abc import AsyncIterator

import pytest
from tests.binance_double import BinanceDouble, running_double


@pytest.fixture
async def binance() -> AsyncIterator[BinanceDouble]:
    async with running_double() as double:
        yield double
