"""The whole chain from bar to books as one loop over numbers: what the kernel gear compiles for each strategy.

Read as a template, as ``scan_loop`` is. It holds the rules of four cores for one strategy on one instrument with market
orders, in whole numbers of the smallest unit where they use ``Decimal``:

* strategy: the difference between the wanted position and position plus open orders, in lots; refusals tried again;
* risk: notional, position, exposure, loss limits with halt, cool-down;
* venue: fills at the next open with slippage, tick and participation, the rest carried over;
* ledger: cash, fees, trades by their cash flows.

One bar's order of events is the tape's: the strategy decides before it hears the bar's fills, risk marks the bar before
it hears them and judges the order after. What a tape has beyond that (ids, reasons in words) is not kept.

``rules`` and ``book`` are int64 arrays, ``seat`` is a float64 array; the names below are their places.
"""

from __future__ import annotations

from math import nan
from typing import Any

from tapeline_backtest.scan_loop import scan
from tapeline_backtest.wide import BASE, LIMB, at_least, difference, is_within, multiple, quotient, total

RETRY_BARS = 10
MAX_WORKING = 2

# ---- rules: what stays the same ----------------------------------------------------------------------------------
(
    SIZE,  # quantity at full exposure
    LOT,  # 0: quantities as they come
    PRICE_UP,  # units of a bar's price → units of a fill's price
    BUY_FACTOR,  # of a bar's price: slippage; TICK_STEPS are one tick of it if there are ticks
    SELL_FACTOR,
    TICK_STEPS_HIGH,
    TICK_STEPS_LOW,
    TICK,  # 0: prices as they come
    IS_CAPPED,  # whether participation limits what a bar may fill
    ONE,  # money units of one unit of quantity times one unit of price
    RATE,  # taker fee, in the same
    LEAST_NOTIONAL_HIGH,
    LEAST_NOTIONAL_LOW,
    MOST_NOTIONAL_HIGH,
    MOST_NOTIONAL_LOW,
    MOST_POSITION,
    MOST_EXPOSURE_HIGH,
    MOST_EXPOSURE_LOW,
    MOST_OPEN,
    IS_WATCHED,  # whether a loss can halt trading
    DAILY_LOSS_HIGH,
    DAILY_LOSS_LOW,
    DRAWDOWN_HIGH,
    DRAWDOWN_LOW,
    COOL_DOWN_NS,  # 0: none
    RULES,
) = range(26)

# ---- book: what changes, in whole numbers ------------------------------------------------------------------------
(
    POSITION,
    WORKING,  # how many orders are open
    FIRST,  # what is open of each, signed, the older one first
    SECOND,
    CASH_HIGH,
    CASH_LOW,
    FEES_HIGH,
    FEES_LOW,
    SLIPPAGE_HIGH,
    SLIPPAGE_LOW,
    NET_HIGH,  # cash flow of the open trade, fees included
    NET_LOW,
    PROFIT_HIGH,
    PROFIT_LOW,
    LOSS_HIGH,
    LOSS_LOW,
    REFERENCE_HIGH,  # equity at the day's beginning
    REFERENCE_LOW,
    HIGHEST_HIGH,
    HIGHEST_LOW,
    DAY_END_NS,
    EXIT_NS,
    IS_HALTED,
    BARRED,  # 0, or the decline with which the regime of this bar keeps the strategy from more exposure
    SAID,  # reason of the latest decline, until there is something new to say
    REFUSED_AT,  # bar of the latest refusal, or -1
    HELD_SINCE,
    INVESTED,
    ORDERS,
    FILLS,
    TRADES,
    WINS,
    LOSSES,
    DECLINED,  # counts by reason, see below
) = range(34)
(
    DECLINED_HALTED,
    DECLINED_REFUSED,
    DECLINED_IN_FLIGHT,
    DECLINED_BELOW_LOT,
    DECLINED_BLOCKED,
    DECLINED_UNKNOWN,
) = range(1, 7)
REFUSED = DECLINED + 7
(
    REFUSED_HALTED,
    REFUSED_LEAST_NOTIONAL,
    REFUSED_COOL_DOWN,
    REFUSED_NOTIONAL,
    REFUSED_POSITION,
    REFUSED_EXPOSURE,
    REFUSED_OPEN,
) = range(1, 8)
BOOK = REFUSED + 8

# ---- seat: floats ------------------------------------------------------------------------------------------------
TARGET, SETTLED, QUIET, CASH, HELD, MONEY_UNITS, QUANTITY_UNITS, WORST, PEAK, SEAT = range(10)

# ---- prices: arrays over bars; a price is two limbs ---------------------------------------------------------------
OPENS_HIGH, OPENS_LOW, CLOSES_HIGH, CLOSES_LOW, ALLOWED, CLOSE_NS = range(6)

# ---- fills: what a row holds -------------------------------------------------------------------------------------
FILL_BAR, FILL_QUANTITY, FILL_PRICE_HIGH, FILL_PRICE_LOW, FILL_ORDER, FILL = range(6)

# ---- how a run ends ----------------------------------------------------------------------------------------------
DONE, TARGET_NOT_WHOLE, MONEY_TOO_LARGE = 0, 1, 2

DAY_NS = 86_400_000_000_000
MOST_SHARE_HIGH, MOST_SHARE_LOW = divmod(10**28, BASE)


def run(
    memory: Any,
    parameters: Any,
    columns: Any,
    prices: Any,
    day_ends: Any,
    rules: Any,
    book: Any,
    seat: Any,
    orders: Any,
    fills: Any,
    daily: Any,
) -> int:
    """Run a strategy over all bars. A bar on which nothing can happen costs ``advance``, one comparison and a mark.

    Args:
        columns: open, high, low, close, volume as floats, for the strategy and for marks.
        prices: opens, closes, what a bar may fill (if that is limited), and closing times in ns, as whole numbers; see
            above.
        day_ends: index of the last bar of each day, in order, then -1.
        orders, fills: rows (bar, signed quantity), and as above; filled as far as they go.
        daily: equity at the end of each day.

    Returns:
        ``DONE``, or why the run had to be given up.
    """
    closes = columns[3]
    stop, bar, marked, day = len(closes), 0, 0, 0
    show(book, seat)
    seat[PEAK], seat[WORST], seat[QUIET] = seat[CASH], 0.0, nan
    while bar < stop:
        bar, target = scan(memory, parameters, columns, bar, stop, seat[QUIET])
        day = draw(closes, marked, bar, day, day_ends, seat, daily)
        marked = bar
        if bar < stop:
            status = handle(bar, target, prices, rules, book, seat, orders, fills)
            if status != DONE:
                return status
            bar += 1
    draw(closes, marked, stop, day, day_ends, seat, daily)
    if book[POSITION] != 0:
        book[INVESTED] += stop - book[HELD_SINCE]
    return DONE


def draw(closes: Any, start: int, stop: int, day: int, day_ends: Any, seat: Any, daily: Any) -> int:
    """The equity curve from bar ``start`` to ``stop``, over which nothing changes but prices; returns the next day."""
    if start == stop:
        return day
    cash, held = seat[CASH], seat[HELD]
    while 0 <= day_ends[day] < stop:
        daily[day] = cash + held * closes[day_ends[day]]
        day += 1
    # The deepest fall from a high is to the lowest point before the next high: one comparison a bar.
    peak, worst = seat[PEAK], seat[WORST]
    low = peak
    for bar in range(start if held != 0.0 else stop - 1, stop):
        equity = cash + held * closes[bar]
        if equity > peak:
            worst = deeper(peak, low, worst)
            peak = low = equity
        low = equity if equity < low else low
    seat[PEAK], seat[WORST] = peak, deeper(peak, low, worst)
    return day


def deeper(peak: float, low: float, worst: float) -> float:
    """The larger of a fall and the worst one before it, as fractions of their highs."""
    return (peak - low) / peak if peak > 0.0 and peak - low > worst * peak else worst


def show(book: Any, seat: Any) -> None:
    """Cash and position as floats, for the curve."""
    seat[CASH] = (book[CASH_HIGH] * LIMB + book[CASH_LOW]) / seat[MONEY_UNITS]
    seat[HELD] = book[POSITION] / seat[QUANTITY_UNITS]


def handle(bar: int, target: float, prices: Any, rules: Any, book: Any, seat: Any, orders: Any, fills: Any) -> int:
    """Everything that one bar leads to, in the order of the tape."""
    if target != seat[TARGET]:
        seat[TARGET] = target
        book[SAID] = 0
        book[REFUSED_AT] = -1
    is_known = target == target
    if is_known and target != 0.0 and target != 1.0 and target != -1.0:
        return TARGET_NOT_WHOLE
    was_halted = book[IS_HALTED] != 0
    proposed = 0
    if is_known and (was_halted or target != seat[SETTLED]):
        proposed = conclude(bar, target, rules, book, seat)
    halts = rules[IS_WATCHED] != 0 and not was_halted and mark(bar, prices, rules, book)
    if book[WORKING] > 0:
        status = meet(bar, prices, rules, book, fills)
        if status < 0:
            return MONEY_TOO_LARGE
        halts = halts or status > 0
        show(book, seat)
    if proposed != 0:
        answer(bar, proposed, halts, prices, rules, book, seat, orders)
    if halts:
        book[IS_HALTED] = 1
        if book[WORKING] > 0:
            book[WORKING] = book[FIRST] = book[SECOND] = 0
            unsettle(book, seat)
    if was_halted:
        seat[QUIET] = target
    elif halts or book[WORKING] > 0 or (rules[IS_WATCHED] != 0 and book[POSITION] != 0) or seat[SETTLED] != target:
        seat[QUIET] = nan
    else:
        seat[QUIET] = target
    return DONE


# ---- strategy ----------------------------------------------------------------------------------------------------


def conclude(bar: int, target: float, rules: Any, book: Any, seat: Any) -> Any:
    """The signed quantity to propose, or 0 with a decline where there is something to say."""
    wanted = rules[SIZE] * int(target)
    expected = book[POSITION] + book[FIRST] + book[SECOND]
    change = wanted - expected
    if change == 0:
        return 0
    if book[IS_HALTED] != 0:
        decline(DECLINED_HALTED, book)
        return 0
    if book[BARRED] != 0 and not is_reduced(expected, wanted):
        decline(book[BARRED], book)
        return 0
    if book[REFUSED_AT] >= 0 and bar - book[REFUSED_AT] < RETRY_BARS:
        decline(DECLINED_REFUSED, book)
        return 0
    if book[WORKING] >= MAX_WORKING:
        decline(DECLINED_IN_FLIGHT, book)
        return 0
    quantity = abs(change)
    if rules[LOT] != 0:
        quantity -= quantity % rules[LOT]
    if quantity == 0:
        if decline(DECLINED_BELOW_LOT, book):
            seat[SETTLED] = target
        return 0
    book[SAID] = 0
    book[REFUSED_AT] = -1
    seat[SETTLED] = target
    return quantity if change > 0 else -quantity


def is_reduced(expected: int, wanted: int) -> bool:
    """Whether a change only takes exposure off. Of a turn only a part does: that is left to who sets ``BARRED``."""
    return 0 <= wanted < expected or expected < wanted <= 0


def decline(reason: int, book: Any) -> bool:
    """Say it once for each target."""
    if book[SAID] == reason:
        return False
    book[SAID] = reason
    book[DECLINED + reason] += 1
    return True


def unsettle(book: Any, seat: Any) -> None:
    """What will be held has changed: only "flat" is known to be satisfied, and only if it is."""
    seat[SETTLED] = 0.0 if book[POSITION] + book[FIRST] + book[SECOND] == 0 else nan


# ---- risk --------------------------------------------------------------------------------------------------------


def answer(bar: int, proposed: int, halts: bool, prices: Any, rules: Any, book: Any, seat: Any, orders: Any) -> None:
    """Approve a proposed order and send it, or refuse it."""
    reason = REFUSED_HALTED if halts else judge(bar, proposed, prices, rules, book)
    if reason != 0:
        book[REFUSED + reason] += 1
        book[REFUSED_AT] = bar
        unsettle(book, seat)
        return
    book[FIRST + book[WORKING]] = proposed
    book[WORKING] += 1
    if book[ORDERS] < len(orders):
        orders[book[ORDERS], 0] = bar
        orders[book[ORDERS], 1] = proposed
    book[ORDERS] += 1


def judge(bar: int, proposed: int, prices: Any, rules: Any, book: Any) -> int:
    """The first limit that refuses the order, in the order of risk's table; 0 approves it.

    The loss limits are not asked here: a loss at its limit has halted trading before any order is judged.
    """
    close_high, close_low = multiple(prices[CLOSES_HIGH][bar], prices[CLOSES_LOW][bar], rules[PRICE_UP])
    quantity, sign = abs(proposed), (1 if proposed > 0 else -1)
    notional_high, notional_low = multiple(close_high, close_low, quantity)
    if not at_least(notional_high, notional_low, rules[LEAST_NOTIONAL_HIGH], rules[LEAST_NOTIONAL_LOW]):
        return REFUSED_LEAST_NOTIONAL
    position = book[POSITION]
    buys = max(book[FIRST], 0) + max(book[SECOND], 0)
    sells = max(-book[FIRST], 0) + max(-book[SECOND], 0)
    on_side = (buys if sign > 0 else sells) + quantity
    if on_side <= -sign * position:
        return 0
    since_ns = prices[CLOSE_NS][bar] - book[EXIT_NS]
    if position == 0 and book[EXIT_NS] != 0 and since_ns < rules[COOL_DOWN_NS]:
        return REFUSED_COOL_DOWN
    if not at_least(rules[MOST_NOTIONAL_HIGH], rules[MOST_NOTIONAL_LOW], notional_high, notional_low):
        return REFUSED_NOTIONAL
    if abs(position + sign * on_side) > rules[MOST_POSITION]:
        return REFUSED_POSITION
    worst_buy = position + (on_side if sign > 0 else buys)
    worst_sell = position - (on_side if sign < 0 else sells)
    exposure_high, exposure_low = multiple(close_high, close_low, max(abs(worst_buy), abs(worst_sell)))
    if not at_least(rules[MOST_EXPOSURE_HIGH], rules[MOST_EXPOSURE_LOW], exposure_high, exposure_low):
        return REFUSED_EXPOSURE
    if rules[MOST_OPEN] == 0 and position == 0 and buys == 0 and sells == 0:
        return REFUSED_OPEN
    return 0


def mark(bar: int, prices: Any, rules: Any, book: Any) -> bool:
    """Begin the day if it is a new one, then mark the position at this close: whether a loss has reached its limit."""
    close_ns = prices[CLOSE_NS][bar]
    if close_ns >= book[DAY_END_NS]:
        book[DAY_END_NS] = (close_ns // DAY_NS + 1) * DAY_NS
        book[REFERENCE_HIGH], book[REFERENCE_LOW] = equity_at(max(bar - 1, 0), prices, rules, book)
    return book[POSITION] != 0 and is_at_limit(bar, prices, rules, book)


def equity_at(bar: int, prices: Any, rules: Any, book: Any) -> tuple[int, int]:
    """Cash, and the position at a bar's close."""
    close_high, close_low = multiple(prices[CLOSES_HIGH][bar], prices[CLOSES_LOW][bar], rules[PRICE_UP])
    held_high, held_low = multiple(close_high, close_low, book[POSITION])
    worth_high, worth_low = multiple(held_high, held_low, rules[ONE])
    return total(book[CASH_HIGH], book[CASH_LOW], worth_high, worth_low)


def is_at_limit(bar: int, prices: Any, rules: Any, book: Any) -> bool:
    """Take in the equity at this close; whether the day's loss or the drawdown has reached its limit."""
    high, low = equity_at(bar, prices, rules, book)
    if at_least(high, low, book[HIGHEST_HIGH], book[HIGHEST_LOW]):
        book[HIGHEST_HIGH], book[HIGHEST_LOW] = high, low
    loss_high, loss_low = difference(book[REFERENCE_HIGH], book[REFERENCE_LOW], high, low)
    if is_loss_at_limit(loss_high, loss_low, rules[DAILY_LOSS_HIGH], rules[DAILY_LOSS_LOW]):
        return True
    fall_high, fall_low = difference(book[HIGHEST_HIGH], book[HIGHEST_LOW], high, low)
    return is_loss_at_limit(fall_high, fall_low, rules[DRAWDOWN_HIGH], rules[DRAWDOWN_LOW])


def is_loss_at_limit(loss_high: int, loss_low: int, limit_high: int, limit_low: int) -> bool:
    """Exactly the limit is too much; losing nothing never is."""
    return at_least(loss_high, loss_low, limit_high, limit_low) and at_least(loss_high, loss_low, 0, 1)


# ---- venue -------------------------------------------------------------------------------------------------------


def meet(bar: int, prices: Any, rules: Any, book: Any, fills: Any) -> int:
    """Fill the open orders at this open, the older one first.

    Returns:
        1 if a loss has reached its limit, -1 if an amount has outgrown its two limbs, else 0.
    """
    left = prices[ALLOWED][bar]
    halts = 0
    for place in range(FIRST, FIRST + book[WORKING]):
        open_quantity = book[place]
        quantity = abs(open_quantity)
        if rules[IS_CAPPED] != 0:
            quantity = min(quantity, left)
            left -= quantity
        if quantity == 0:
            continue
        signed = quantity if open_quantity > 0 else -quantity
        book[place] = open_quantity - signed
        if not execute(bar, signed, book[ORDERS] - book[WORKING] + place - FIRST, prices, rules, book, fills):
            return -1
        if rules[IS_WATCHED] != 0 and book[IS_HALTED] == 0 and is_at_limit(bar, prices, rules, book):
            halts = 1
    remove_filled(book)
    return halts


def remove_filled(book: Any) -> None:
    """Close the gaps that filled orders leave, keeping the order of arrival."""
    if book[FIRST] == 0:
        book[FIRST], book[SECOND] = book[SECOND], 0
    book[WORKING] = (1 if book[FIRST] != 0 else 0) + (1 if book[SECOND] != 0 else 0)


def fill_price(open_high: int, open_low: int, sign: int, rules: Any) -> tuple[int, int]:
    """The open, moved by slippage and then to the tick, both against the side."""
    high, low = multiple(open_high, open_low, rules[BUY_FACTOR] if sign > 0 else rules[SELL_FACTOR])
    if rules[TICK] == 0:
        return high, low
    steps_high, steps_low = rules[TICK_STEPS_HIGH], rules[TICK_STEPS_LOW]
    ticks = quotient(high, low, steps_high, steps_low)
    grid_high, grid_low = multiple(steps_high, steps_low, ticks)
    if sign > 0 and not at_least(grid_high, grid_low, high, low):
        ticks += 1
    return multiple(0, rules[TICK], ticks)


def execute(bar: int, signed: int, order: int, prices: Any, rules: Any, book: Any, fills: Any) -> bool:
    """One fill into the books; ``False`` if an amount has outgrown its two limbs."""
    quantity, sign = abs(signed), (1 if signed > 0 else -1)
    open_high, open_low = prices[OPENS_HIGH][bar], prices[OPENS_LOW][bar]
    high, low = fill_price(open_high, open_low, sign, rules)
    worth_high, worth_low = multiple(high, low, quantity)
    fee_high, fee_low = multiple(worth_high, worth_low, rules[RATE])
    open_high, open_low = multiple(open_high, open_low, rules[PRICE_UP])
    slip_high, slip_low = difference(high, low, open_high, open_low)
    slip_high, slip_low = multiple(slip_high, slip_low, signed)
    add(book, FEES_HIGH, fee_high, fee_low)
    add(book, SLIPPAGE_HIGH, slip_high, slip_low)
    position = book[POSITION]
    closing = min(quantity, abs(position)) if position * sign < 0 else 0
    if 0 < closing < quantity and is_rounded(closing, high, low, rules):
        return False
    if closing > 0:
        pay(closing, high, low, sign, rules, book)
        if closing == abs(position):
            close_trade(bar, prices, book)
    if quantity > closing:
        pay(quantity - closing, high, low, sign, rules, book)
        if closing == abs(position):
            book[HELD_SINCE] = bar
    book[POSITION] = position + signed
    if book[FILLS] < len(fills):
        fills[book[FILLS], FILL_BAR] = bar
        fills[book[FILLS], FILL_QUANTITY] = signed
        fills[book[FILLS], FILL_PRICE_HIGH] = high
        fills[book[FILLS], FILL_PRICE_LOW] = low
        fills[book[FILLS], FILL_ORDER] = order
    book[FILLS] += 1
    return are_within(book)


def is_rounded(closing: int, price_high: int, price_low: int, rules: Any) -> bool:
    """Whether the ledger would round the closing part of a turn's fee, which it divides to 28 digits."""
    worth_high, worth_low = multiple(price_high, price_low, closing)
    fee_high, fee_low = multiple(worth_high, worth_low, abs(rules[RATE]))
    return at_least(fee_high, fee_low, MOST_SHARE_HIGH, MOST_SHARE_LOW)


def are_within(book: Any) -> bool:
    """Whether every sum can take one more amount. One amount alone always fits: ``kernel`` proves it beforehand."""
    for place in range(CASH_HIGH, LOSS_HIGH + 1, 2):  # noqa: SIM110 (numba compiles no generators into one another)
        if not is_within(book[place]):
            return False
    return True


# ---- ledger ------------------------------------------------------------------------------------------------------


def add(book: Any, place: int, high: int, low: int) -> None:
    book[place], book[place + 1] = total(book[place], book[place + 1], high, low)


def pay(quantity: int, price_high: int, price_low: int, sign: int, rules: Any, book: Any) -> None:
    """Cash for a quantity and its fee, out of the account and into the open trade."""
    worth_high, worth_low = multiple(price_high, price_low, quantity)
    paid_high, paid_low = multiple(worth_high, worth_low, sign * rules[ONE] + rules[RATE])
    for place in (CASH_HIGH, NET_HIGH):
        book[place], book[place + 1] = difference(book[place], book[place + 1], paid_high, paid_low)


def close_trade(bar: int, prices: Any, book: Any) -> None:
    """The position is flat or turned: count the trade that ends here."""
    high, low = book[NET_HIGH], book[NET_LOW]
    book[TRADES] += 1
    if high < 0:
        book[LOSSES] += 1
        add(book, LOSS_HIGH, high, low)
    elif high > 0 or low > 0:
        book[WINS] += 1
        add(book, PROFIT_HIGH, high, low)
    book[NET_HIGH] = book[NET_LOW] = 0
    book[EXIT_NS] = prices[CLOSE_NS][bar]
    book[INVESTED] += bar - book[HELD_SINCE]
