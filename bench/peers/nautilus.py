"""NautilusTrader runs the reference strategy: ``python nautilus.py BARS.parquet FAST SLOW``. Prints JSON.

The strategy is as lean as its interface allows: averages in two floats, no log line per bar. A market order meets the
book built from the bar that just closed, so it fills at that bar's close and not at the next open: as many orders as
ours, another equity.
"""

import json
import sys
import time
from decimal import Decimal
from typing import Any

import pandas as pd  # type: ignore[import-untyped, unused-ignore]
from nautilus_trader.backtest.engine import BacktestEngine  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.config import (  # type: ignore[import-not-found, unused-ignore]
    BacktestEngineConfig,
    LoggingConfig,
    RiskEngineConfig,
)
from nautilus_trader.model.currencies import BTC, USD  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.data import Bar, BarType  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.enums import (  # type: ignore[import-not-found, unused-ignore]
    AccountType,
    OmsType,
    OrderSide,
)
from nautilus_trader.model.identifiers import (  # type: ignore[import-not-found, unused-ignore]
    InstrumentId,
    Symbol,
    Venue,
)
from nautilus_trader.model.instruments import CurrencyPair  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.objects import Money, Price, Quantity  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.trading.strategy import Strategy  # type: ignore[import-not-found, unused-ignore]

VENUE = Venue("SIM")
MINUTE_NS = 60 * 10**9


class Cross(Strategy):  # type: ignore[misc]
    """Long one unit while the fast average is not below the slow one."""

    def __init__(self, instrument: Any, bar_type: Any, fast: int, slow: int) -> None:
        super().__init__()
        self.slow = slow
        self.quick_weight = 2.0 / (fast + 1)
        self.lazy_weight = 2.0 / (slow + 1)
        self.pair = instrument
        self.bar_type = bar_type
        self.unit = Quantity(1, instrument.size_precision)
        self.seen = 0
        self.quick = 0.0
        self.lazy = 0.0
        self.is_long = False
        self.last = 0.0

    def on_start(self) -> None:
        self.subscribe_bars(self.bar_type)

    def on_bar(self, bar: Any) -> None:
        close = bar.close.as_double()
        self.last = close
        if self.seen == 0:
            self.quick = self.lazy = close
        else:
            self.quick += self.quick_weight * (close - self.quick)
            self.lazy += self.lazy_weight * (close - self.lazy)
        self.seen += 1
        if self.seen < self.slow:
            return
        wants_long = self.quick >= self.lazy
        if wants_long != self.is_long:
            self.is_long = wants_long
            side = OrderSide.BUY if wants_long else OrderSide.SELL
            self.submit_order(self.order_factory.market(self.pair.id, side, self.unit))


def pair() -> Any:
    return CurrencyPair(
        instrument_id=InstrumentId(Symbol("BTCUSD"), VENUE),
        raw_symbol=Symbol("BTCUSD"),
        base_currency=BTC,
        quote_currency=USD,
        price_precision=2,
        size_precision=3,
        price_increment=Price(0.01, 2),
        size_increment=Quantity(0.001, 3),
        maker_fee=Decimal("0.001"),
        taker_fee=Decimal("0.001"),
        ts_event=0,
        ts_init=0,
    )


def bars_of(path: str, bar_type: Any) -> list[Any]:
    frame = pd.read_parquet(path)
    columns = (frame[name].tolist() for name in ("ts", "open", "high", "low", "close", "volume"))
    bars = []
    for ts, opened, high, low, close, volume in zip(*columns, strict=True):
        closed_ns = ts * 10**6 + MINUTE_NS
        prices = (Price(opened, 2), Price(high, 2), Price(low, 2), Price(close, 2))
        bars.append(Bar(bar_type, *prices, Quantity(volume, 3), closed_ns, closed_ns))
    return bars


def main(path: str, fast: int, slow: int) -> None:
    config = BacktestEngineConfig(
        logging=LoggingConfig(bypass_logging=True), run_analysis=False, risk_engine=RiskEngineConfig(bypass=True)
    )
    engine = BacktestEngine(config=config)
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        starting_balances=[Money(1_000_000, USD)],
    )
    instrument = pair()
    engine.add_instrument(instrument)
    bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    engine.add_data(bars_of(path, bar_type))
    strategy = Cross(instrument, bar_type, fast, slow)
    engine.add_strategy(strategy)
    started = time.perf_counter()
    engine.run()
    elapsed_s = time.perf_counter() - started
    account = engine.cache.account_for_venue(VENUE)
    held = account.balance_total(BTC)
    units = held.as_double() if held is not None else 0.0
    answer = {
        "elapsed_s": elapsed_s,
        "orders": len(engine.cache.orders()),
        "final_equity": account.balance_total(USD).as_double() + units * strategy.last,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
