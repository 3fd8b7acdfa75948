"""How the facts about orders are written: each kind of row of ``order_loop`` as a layout for ``rendering``.

As with bars, nothing here knows the names or the order of fields: facts full of marks are encoded, and cut at them.
"""

from __future__ import annotations

from decimal import Decimal

from tapeline_backtest import order_loop as loop
from tapeline_backtest.kernel import Plan, Units
from tapeline_backtest.rendering import (
    AMOUNT,
    CHOSEN,
    CLIENT,
    INTEGER,
    MARKED_REGIME,
    REGIME_MARK,
    UNKNOWN_REGIME,
    Field,
    Layout,
    mark,
    split,
)
from tapeline_common.events import (
    AUTHOR_OF,
    EquityMarked,
    Event,
    OrderAccepted,
    OrderApproved,
    OrderFilled,
    OrderProposed,
    OrderSubmitted,
    OrderTerms,
    PositionChanged,
    TradeClosed,
    TradeDeclined,
    stream_of,
)
from tapeline_common.values import Liquidity, OrderId, PositionSide, Regime, Side
from tapeline_common.wire import Fact, encode
from tapeline_strategy.core import barred_by

_CLIENT_MARK = "<client>"


def order_layouts(plan: Plan, units: Units) -> list[Layout]:
    """A layout for each kind of row behind bars and echoes, in the order of their numbers."""
    made = _Maker(plan, units)
    layouts: dict[int, Layout] = {}
    for place, side in enumerate(Side):
        layouts[loop.PROPOSED + place] = made.proposed(side)
        layouts[loop.APPROVED + place] = made.approved(side)
        layouts[loop.SUBMITTED + place] = made.submitted(side)
        layouts[loop.FILLED + place] = made.filled(side)
    layouts[loop.ACCEPTED] = made.accepted()
    layouts[loop.CHANGED] = made.changed()
    for place, position in enumerate((PositionSide.LONG, PositionSide.SHORT)):
        layouts[loop.CLOSED + place] = made.closed(position)
    layouts[loop.MARKED] = made.marked()
    layouts[loop.REGIME_BLOCKED] = made.declined(REGIME_MARK)
    layouts[loop.REGIME_UNKNOWN] = made.declined(Regime.UNKNOWN)
    layouts[loop.GAP] = Layout((b"",), ())
    return [layouts[number] for number in range(loop.PROPOSED, loop.LAYOUTS)]


class _Maker:
    """Facts of one plan, full of marks."""

    def __init__(self, plan: Plan, units: Units) -> None:
        self._strategy = plan.name
        self._regimes = plan.regimes
        self._instrument = plan.listing.instrument
        self._currency = plan.listing.quote
        self._quantity, self._price = units.quantity, units.price
        self._notional, self._money = units.price + units.quantity, units.money
        self._order = OrderId(f"{plan.name}-{mark(loop.ORDER_POS)}")

    def _terms(self, side: Side) -> OrderTerms:
        return OrderTerms(self._strategy, self._instrument, side, Decimal(mark(loop.A_HIGH)))

    def proposed(self, side: Side) -> Layout:
        event = OrderProposed(
            self._order,
            self._terms(side),
            mark(loop.TIME_NS),
            mark(loop.OPEN_NS),
            Decimal(mark(loop.B_HIGH)),
            Regime.UNKNOWN,
        )
        amounts = {loop.A_HIGH: self._quantity, loop.B_HIGH: self._quantity}
        return self._layout(event, 0, amounts)

    def approved(self, side: Side) -> Layout:
        event = OrderApproved(self._order, self._terms(side), mark(loop.OTHER_NS))
        return self._layout(event, 0, {loop.A_HIGH: self._quantity})

    def submitted(self, side: Side) -> Layout:
        approval, until_ns = mark(loop.APPROVAL_POS), mark(loop.OTHER_NS)
        event = OrderSubmitted(self._order, _CLIENT_MARK, self._terms(side), approval, until_ns)
        return self._layout(event, 0, {loop.A_HIGH: self._quantity})

    def accepted(self) -> Layout:
        return self._layout(OrderAccepted(self._order, _CLIENT_MARK, f"v{mark(loop.SUBMISSION_POS)}"), 0, {})

    def filled(self, side: Side) -> Layout:
        event = OrderFilled(
            order=self._order,
            client_order_id=_CLIENT_MARK,
            strategy=self._strategy,
            instrument=self._instrument,
            trade_id=f"v{mark(loop.SUBMISSION_POS)}-1",
            side=side,
            quantity=Decimal(mark(loop.A_HIGH)),
            price=Decimal(mark(loop.B_HIGH)),
            fee=Decimal(mark(loop.C_HIGH)),
            fee_currency=self._currency,
            liquidity=Liquidity.TAKER,
            slippage=Decimal(mark(loop.D_HIGH)),
        )
        amounts = {
            loop.A_HIGH: self._quantity,
            loop.B_HIGH: self._price,
            loop.C_HIGH: self._money,
            loop.D_HIGH: self._price,
        }
        return self._layout(event, 0, amounts)

    def changed(self) -> Layout:
        event = PositionChanged(
            strategy=self._strategy,
            instrument=self._instrument,
            quantity=Decimal(mark(loop.A_HIGH)),
            average_price=Decimal(mark(loop.B_HIGH)),
            realised_pnl=Decimal(mark(loop.C_HIGH)),
            fees=Decimal(mark(loop.D_HIGH)),
        )
        amounts = {
            loop.A_HIGH: self._quantity,
            loop.B_HIGH: self._price,
            loop.C_HIGH: self._notional,
            loop.D_HIGH: self._money,
        }
        return self._layout(event, 0, amounts)

    def closed(self, side: PositionSide) -> Layout:
        event = TradeClosed(
            trade=f"{self._strategy}-{self._instrument}-{mark(loop.NUMBER)}",
            strategy=self._strategy,
            instrument=self._instrument,
            side=side,
            quantity=Decimal(mark(loop.A_HIGH)),
            entry_price=Decimal(mark(loop.B_HIGH)),
            exit_price=Decimal(mark(loop.C_HIGH)),
            opened_ns=mark(loop.OTHER_NS),
            closed_ns=mark(loop.TIME_NS),
            pnl=Decimal(mark(loop.D_HIGH)),
            fees=Decimal(mark(loop.E_HIGH)),
            decision="",
        )
        amounts = {
            loop.A_HIGH: self._quantity,
            loop.B_HIGH: self._price,
            loop.C_HIGH: self._price,
            loop.D_HIGH: self._notional,
            loop.E_HIGH: self._money,
        }
        return self._layout(event, mark(loop.INDEX), amounts)

    def marked(self) -> Layout:
        cash, equity, exposure = (Decimal(mark(place)) for place in (loop.A_HIGH, loop.B_HIGH, loop.C_HIGH))
        amounts = {loop.A_HIGH: self._money, loop.B_HIGH: self._money, loop.C_HIGH: self._notional}
        return self._layout(EquityMarked(mark(loop.OTHER_NS), cash, equity, exposure), mark(loop.INDEX), amounts)

    def declined(self, regime: str) -> Layout:
        reason, detail = barred_by(self._regimes, regime)
        wanted = Decimal(mark(loop.A_HIGH))
        event = TradeDeclined(self._strategy, self._instrument, reason, mark(loop.OPEN_NS), wanted, detail)
        return self._layout(event, 0, {loop.A_HIGH: self._quantity})

    def _layout(self, event: Event, index: int, amounts: dict[int, int]) -> Layout:
        """The event as a fact; ``amounts`` says how many decimals the unit of each has."""
        author = AUTHOR_OF[type(event)]
        cause = mark(loop.CAUSE)
        fact = Fact(
            mark(loop.POS),
            mark(loop.TIME_NS),
            f"{author}:{cause}:{index}",
            author,
            stream_of(event),
            mark(loop.VERSION),
            cause,
            mark(loop.ROOT),
            type(event).schema,
            event,
        )
        marks = {str(mark(place)): Field(INTEGER, place) for place in range(loop.POS, loop.A_HIGH)}
        marks |= {str(mark(place)): Field(AMOUNT, place, decimals) for place, decimals in amounts.items()}
        marks |= {_CLIENT_MARK: Field(CLIENT), REGIME_MARK: Field(CHOSEN)}
        return split(encode(fact).decode().replace(UNKNOWN_REGIME, MARKED_REGIME), marks)
