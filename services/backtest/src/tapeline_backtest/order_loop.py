"""A stretch of bars with orders in it, and every fact said about it: what block mode compiles for each strategy.

Read as a template, as ``kernel_loop`` is, whose rules decide everything. What a bar led to is seen by what it did to
the kernel's books, and written down as rows of numbers, one for each fact, in the order of the tape: position, cause,
version, and the amounts that the fact names. ``rendering`` turns rows into bytes.

Only the usual life of an order is known here: proposed, approved, sent and accepted at one bar, filled whole at the
next; and of all that is declined, what the regime keeps a strategy from. A bar with anything else in it (a refusal,
another decline, a partial fill, a halt, a turn of which the regime allows the first half) is left to the exact path.
So is a bar whose order would be open where the stretch ends: the books go back to when no order was open.
"""

from __future__ import annotations

from math import nan
from typing import Any

from tapeline_backtest.kernel_loop import (
    BARRED,
    CASH_HIGH,
    CASH_LOW,
    CLOSE_NS,
    CLOSES_HIGH,
    CLOSES_LOW,
    DECLINED,
    DECLINED_UNKNOWN,
    DONE,
    FEES_HIGH,
    FEES_LOW,
    FILL_PRICE_HIGH,
    FILL_PRICE_LOW,
    FILL_QUANTITY,
    FILLS,
    FIRST,
    IS_HALTED,
    ONE,
    OPENS_HIGH,
    OPENS_LOW,
    ORDERS,
    POSITION,
    PRICE_UP,
    QUIET,
    RATE,
    SECOND,
    SIZE,
    TARGET,
    WORKING,
    handle,
)
from tapeline_backtest.scan_loop import scan
from tapeline_backtest.wide import BASE, difference, is_within, multiple, total

HOUR_NS = 3_600_000_000_000

# ---- rows: one fact each -----------------------------------------------------------------------------------------
(
    LAYOUT,  # which kind of fact; see below
    BAR,  # row of the bar it was said at
    REGIME,  # which regime it names
    ECHO,  # which echo it is
    POS,
    CAUSE,
    ROOT,  # position of the bar
    VERSION,
    TIME_NS,
    OPEN_NS,
    INDEX,  # among the answers to its cause
    NUMBER,  # of a trade
    ORDER_POS,  # names the order
    APPROVAL_POS,
    SUBMISSION_POS,
    OTHER_NS,  # valid until, marked for, opened
    A_HIGH,
    A_LOW,
    B_HIGH,
    B_LOW,
    C_HIGH,
    C_LOW,
    D_HIGH,
    D_LOW,
    E_HIGH,
    E_LOW,
    ROW,
) = range(27)

# ---- layouts: kinds of rows; a sale's follows a purchase's, a short trade's a long one's --------------------------
(
    BARS,
    ECHOES,
    PROPOSED,
    PROPOSED_SALE,
    APPROVED,
    APPROVED_SALE,
    SUBMITTED,
    SUBMITTED_SALE,
    ACCEPTED,
    FILLED,
    FILLED_SALE,
    CHANGED,
    CLOSED,
    CLOSED_SHORT,
    MARKED,
    REGIME_BLOCKED,
    REGIME_UNKNOWN,
    GAP,  # bars are missing before this one: no row of numbers, but a fact that is written elsewhere
    LAYOUTS,
) = range(19)
MOST_ROWS = 13
"""Facts at one bar, at most."""

# ---- notes: what the facts need beyond the kernel's books ---------------------------------------------------------
(
    HEAD,  # last position
    INSTRUMENT_VERSION,
    RUN_VERSION,
    STRATEGY_VERSION,
    TOLD,  # rows written
    RUNS,  # runs of bars written
    WORKING_POS,  # names the working order
    WORKING_APPROVAL,
    WORKING_SUBMISSION,
    ENTRY_HIGH,  # price of the open trade's one fill
    ENTRY_LOW,
    TRADE_FEES_HIGH,
    TRADE_FEES_LOW,
    OPENED_NS,
    NUMBER_OF_TRADES,
    RESULT_HIGH,  # of all closed trades, in units of price times quantity
    RESULT_LOW,
    IS_LATE,  # whether the strategy decides when it hears the bar's regime, and not the bar
    BARRED_BY,  # the decline that this bar led to, or 0
    NOTES,
) = range(20)

# ---- runs: bars of which nothing more is said than themselves (and their echoes) ----------------------------------
RUN_TOLD, RUN_BAR, RUN_BARS, RUN_POS, RUN_VERSION_BEFORE, RUN = range(6)


def follow(
    memory: Any,
    parameters: Any,
    columns: Any,
    prices: Any,
    open_ns: Any,
    hours: Any,
    gaps: Any,
    barred: Any,
    rules: Any,
    book: Any,
    seat: Any,
    notes: Any,
    kept_memory: Any,
    kept_book: Any,
    kept_seat: Any,
    kept_notes: Any,
    told: Any,
    runs: Any,
    orders: Any,
    fills: Any,
    start: int,
    stop: int,
    valid_ns: int,
    is_echoed: bool,
    last_high: int,
    last_low: int,
) -> int:
    """Run from bar ``start``, where no order is open, at most to ``stop``.

    Args:
        columns, prices, rules, book, seat: as in ``kernel_loop``, for one chunk of bars.
        hours: the bars that are the first after the end of an hour, in order, then one that is never reached.
        gaps: the bars before which others are missing, likewise.
        barred: of each bar 0, or the decline with which its regime keeps the strategy from more exposure.
        notes, told, runs: see above; filled.
        kept_memory, kept_book, kept_seat, kept_notes: room to remember when no order was open.
        orders, fills: room for the kernel's rows, two for each bar.
        valid_ns: how long an approval is valid.
        is_echoed: whether every bar is answered by one more fact, which nobody answers.
        last_high, last_low: the price before bar ``start``.

    Returns:
        The bar behind the last one that was taken; the exact path goes on there.
    """
    bar, begun, hour, gap = start, start, 0, 0
    kept_bar, kept_begun = bar, begun
    room = len(told) - MOST_ROWS
    keep(memory, book, seat, notes, kept_memory, kept_book, kept_seat, kept_notes)
    while bar < stop:
        while hours[hour] < bar:
            hour += 1
        while gaps[gap] < bar:
            gap += 1
        is_marked = book[POSITION] != 0 and hours[hour] == bar
        is_gap = gaps[gap] == bar
        if is_marked:
            high, low = last_high, last_low
            if bar > start:
                high, low = prices[CLOSES_HIGH][bar - 1], prices[CLOSES_LOW][bar - 1]
            value(told, len(told) - 1, high, low, rules, book)
        if is_marked or is_gap:
            _, target = scan(memory, parameters, columns, bar, bar + 1, nan)
        else:
            limit = min(stop, gaps[gap])
            if book[POSITION] != 0:
                limit = min(limit, hours[hour])
            bar, target = scan(memory, parameters, columns, bar, limit, seat[QUIET])
            if bar == limit:
                continue
        held, was_working = book[POSITION], book[WORKING]
        ordered, said = book[ORDERS], answers(book)
        book[BARRED] = barred[bar]
        declined = book[DECLINED + barred[bar]]
        is_usual = (
            not is_half_allowed(target, book)
            and handle(bar, target, prices, rules, book, seat, orders, fills) == DONE
            and book[IS_HALTED] == 0
            and answers(book) - said == book[DECLINED + barred[bar]] - declined
            and book[ORDERS] - ordered == book[WORKING]
            and (book[WORKING] == 0 or bar + 1 < stop)
            and notes[TOLD] < room
        )
        notes[BARRED_BY] = barred[bar] if book[DECLINED + barred[bar]] != declined else 0
        if is_usual and (is_marked or is_gap or was_working != 0 or book[WORKING] != 0 or notes[BARRED_BY] != 0):
            end_run(bar, begun, notes, runs, is_echoed)
            begun = bar + 1
            if is_gap:
                row = fact(GAP, bar, 0, notes[HEAD] + 1, prices[CLOSE_NS][bar], notes, told)
                told[row, VERSION] = next_version(INSTRUMENT_VERSION, notes)
            is_usual = tell(
                bar,
                held,
                was_working,
                is_marked,
                is_echoed,
                prices,
                open_ns,
                rules,
                book,
                seat,
                notes,
                told,
                fills,
                valid_ns,
            )
        if not is_usual:
            keep(kept_memory, kept_book, kept_seat, kept_notes, memory, book, seat, notes)
            bar, begun = kept_bar, kept_begun
            break
        bar += 1
        if book[WORKING] == 0:
            kept_bar, kept_begun = bar, begun
            keep(memory, book, seat, notes, kept_memory, kept_book, kept_seat, kept_notes)
    end_run(bar, begun, notes, runs, is_echoed)
    return bar


def keep(
    memory: Any,
    book: Any,
    seat: Any,
    notes: Any,
    kept_memory: Any,
    kept_book: Any,
    kept_seat: Any,
    kept_notes: Any,
) -> None:
    """Copy the first four over the others."""
    for index in range(len(memory)):
        kept_memory[index] = memory[index]
    for index in range(len(book)):
        kept_book[index] = book[index]
    for index in range(len(seat)):
        kept_seat[index] = seat[index]
    for index in range(len(notes)):
        kept_notes[index] = notes[index]


def answers(book: Any) -> Any:
    """How often an order was declined or refused so far."""
    count = 0
    for place in range(DECLINED, len(book)):
        count += book[place]
    return count


def is_half_allowed(target: float, book: Any) -> bool:
    """Whether the regime cuts a turn to the exit that it begins with."""
    expected = book[POSITION] + book[FIRST] + book[SECOND]
    return book[BARRED] != 0 and ((target < 0.0 and expected > 0) or (target > 0.0 and expected < 0))


def end_run(bar: int, begun: int, notes: Any, runs: Any, is_echoed: bool) -> None:
    """Write down the bars from ``begun`` to ``bar``."""
    count = bar - begun
    if count == 0:
        return
    run = notes[RUNS]
    runs[run, RUN_TOLD] = notes[TOLD]
    runs[run, RUN_BAR] = begun
    runs[run, RUN_BARS] = count
    runs[run, RUN_POS] = notes[HEAD] + 1
    runs[run, RUN_VERSION_BEFORE] = notes[INSTRUMENT_VERSION]
    facts = 2 * count if is_echoed else count
    notes[HEAD] += facts
    notes[INSTRUMENT_VERSION] += facts
    notes[RUNS] += 1


# ---- facts -------------------------------------------------------------------------------------------------------


def tell(
    bar: int,
    held: int,
    was_working: int,
    is_marked: bool,
    is_echoed: bool,
    prices: Any,
    open_ns: Any,
    rules: Any,
    book: Any,
    seat: Any,
    notes: Any,
    told: Any,
    fills: Any,
    valid_ns: int,
) -> bool:
    """Everything that a bar leads to, breadth first in the order of authors; ``False`` if it is not the usual."""
    time_ns = prices[CLOSE_NS][bar]
    root = notes[HEAD] + 1
    row = fact(BARS, bar, 0, root, time_ns, notes, told)
    told[row, OPEN_NS] = open_ns[bar]
    told[row, VERSION] = next_version(INSTRUMENT_VERSION, notes)
    filled_pos = 0
    if was_working != 0:
        filled_pos = root + 1
        tell_fill(bar, root, time_ns, prices, rules, book, notes, told, fills)
    if is_marked:
        row = fact(MARKED, bar, root, root, time_ns, notes, told)
        told[row, INDEX] = 0
        told[row, OTHER_NS] = (time_ns - 1) // HOUR_NS * HOUR_NS
        told[row, VERSION] = next_version(RUN_VERSION, notes)
        for place in range(A_HIGH, C_LOW + 1):
            told[row, place] = told[len(told) - 1, place]
    decided_pos = root
    if is_echoed:
        row = fact(ECHOES, bar, root, root, time_ns, notes, told)
        told[row, OPEN_NS] = open_ns[bar]
        told[row, VERSION] = next_version(INSTRUMENT_VERSION, notes)
        if notes[IS_LATE] != 0:
            decided_pos = notes[HEAD]
    proposed_pos = notes[HEAD] + 1
    if decided_pos == root:
        tell_decision(bar, decided_pos, root, time_ns, open_ns, rules, book, seat, notes, told)
    if was_working != 0 and not tell_books(
        bar, held, root, filled_pos, time_ns, prices, rules, book, notes, told, fills
    ):
        return False
    if decided_pos != root:
        proposed_pos = notes[HEAD] + 1
        tell_decision(bar, decided_pos, root, time_ns, open_ns, rules, book, seat, notes, told)
    if book[WORKING] != 0:
        tell_order(APPROVED, 2, bar, proposed_pos, decided_pos, root, time_ns, book, notes, told)
        approval = notes[HEAD]
        told[notes[TOLD] - 1, OTHER_NS] = time_ns + valid_ns
        tell_order(SUBMITTED, 3, bar, approval, decided_pos, root, time_ns, book, notes, told)
        submission = notes[HEAD]
        told[notes[TOLD] - 1, APPROVAL_POS] = approval
        told[notes[TOLD] - 1, OTHER_NS] = time_ns + valid_ns
        row = fact(ACCEPTED, bar, submission, root, time_ns, notes, told)
        told[row, VERSION] = 4
        told[row, ORDER_POS] = decided_pos
        told[row, APPROVAL_POS] = approval
        told[row, SUBMISSION_POS] = submission
        notes[WORKING_POS] = decided_pos
        notes[WORKING_APPROVAL] = approval
        notes[WORKING_SUBMISSION] = submission
    return True


def fact(layout: int, bar: int, cause: int, root: int, time_ns: int, notes: Any, told: Any) -> Any:
    """Begin the next row with what every fact has; returns which it is."""
    row = notes[TOLD]
    notes[TOLD] += 1
    notes[HEAD] += 1
    told[row, LAYOUT] = layout
    told[row, BAR] = bar
    told[row, POS] = notes[HEAD]
    told[row, CAUSE] = cause
    told[row, ROOT] = root
    told[row, TIME_NS] = time_ns
    return row


def next_version(stream: int, notes: Any) -> Any:
    notes[stream] += 1
    return notes[stream]


def put(told: Any, row: int, place: int, high: int, low: int) -> None:
    told[row, place] = high
    told[row, place + 1] = low


def note(notes: Any, place: int, high: int, low: int) -> None:
    notes[place] = high
    notes[place + 1] = low


def put_whole(told: Any, row: int, place: int, number: int) -> None:
    """A number of one limb, which may be negative."""
    put(told, row, place, 0 if number >= 0 else -1, number if number >= 0 else number + BASE)


def tell_decision(
    bar: int,
    decided_pos: int,
    root: int,
    time_ns: int,
    open_ns: Any,
    rules: Any,
    book: Any,
    seat: Any,
    notes: Any,
    told: Any,
) -> None:
    """What the strategy says of this bar, if anything: an order, or what its regime keeps it from."""
    wanted = A_HIGH
    if book[WORKING] != 0:
        tell_order(PROPOSED, 1, bar, decided_pos, decided_pos, root, time_ns, book, notes, told)
        wanted = B_HIGH
    elif notes[BARRED_BY] != 0:
        layout = REGIME_UNKNOWN if notes[BARRED_BY] == DECLINED_UNKNOWN else REGIME_BLOCKED
        row = fact(layout, bar, decided_pos, root, time_ns, notes, told)
        told[row, VERSION] = next_version(STRATEGY_VERSION, notes)
    else:
        return
    row = notes[TOLD] - 1
    told[row, OPEN_NS] = open_ns[bar]
    put_whole(told, row, wanted, rules[SIZE] * int(seat[TARGET]))


def tell_order(
    layout: int,
    version: int,
    bar: int,
    cause: int,
    order: int,
    root: int,
    time_ns: int,
    book: Any,
    notes: Any,
    told: Any,
) -> None:
    """A fact that holds the terms of the order that this bar led to."""
    quantity = book[FIRST]
    row = fact(layout if quantity > 0 else layout + 1, bar, cause, root, time_ns, notes, told)
    told[row, VERSION] = version
    told[row, ORDER_POS] = order
    put_whole(told, row, A_HIGH, abs(quantity))


def tell_fill(
    bar: int, root: int, time_ns: int, prices: Any, rules: Any, book: Any, notes: Any, told: Any, fills: Any
) -> None:
    fill = fills[book[FILLS] - 1]
    signed, high, low = fill[FILL_QUANTITY], fill[FILL_PRICE_HIGH], fill[FILL_PRICE_LOW]
    row = fact(FILLED if signed > 0 else FILLED_SALE, bar, root, root, time_ns, notes, told)
    told[row, VERSION] = 5
    told[row, ORDER_POS] = notes[WORKING_POS]
    told[row, APPROVAL_POS] = notes[WORKING_APPROVAL]
    told[row, SUBMISSION_POS] = notes[WORKING_SUBMISSION]
    put_whole(told, row, A_HIGH, abs(signed))
    put(told, row, B_HIGH, high, low)
    fee_high, fee_low = fee_of(high, low, abs(signed), rules)
    put(told, row, C_HIGH, fee_high, fee_low)
    open_high, open_low = multiple(prices[OPENS_HIGH][bar], prices[OPENS_LOW][bar], rules[PRICE_UP])
    slip_high, slip_low = difference(high, low, open_high, open_low)
    if slip_high < 0:
        slip_high, slip_low = difference(open_high, open_low, high, low)
    put(told, row, D_HIGH, slip_high, slip_low)


def fee_of(price_high: int, price_low: int, quantity: int, rules: Any) -> Any:
    worth_high, worth_low = multiple(price_high, price_low, quantity)
    return multiple(worth_high, worth_low, rules[RATE])


def tell_books(
    bar: int,
    held: int,
    root: int,
    filled_pos: int,
    time_ns: int,
    prices: Any,
    rules: Any,
    book: Any,
    notes: Any,
    told: Any,
    fills: Any,
) -> bool:
    """What the ledger says of a fill; ``False`` if it neither opened a position nor closed or turned all of one."""
    fill = fills[book[FILLS] - 1]
    signed, high, low = fill[FILL_QUANTITY], fill[FILL_PRICE_HIGH], fill[FILL_PRICE_LOW]
    left = held + signed
    is_closing = held != 0 and (left == 0 or (left > 0) != (held > 0))
    if held != 0 and not is_closing:
        return False
    changed = notes[TOLD]
    row = fact(CHANGED, bar, filled_pos, root, time_ns, notes, told)
    told[row, INDEX] = 0
    told[row, VERSION] = next_version(INSTRUMENT_VERSION, notes)
    put_whole(told, row, A_HIGH, left)
    fee_high, fee_low = fee_of(high, low, abs(signed), rules)
    if is_closing:
        closing_high, closing_low = fee_of(high, low, abs(held), rules)
        fee_high, fee_low = difference(fee_high, fee_low, closing_high, closing_low)
        tell_trade(bar, held, filled_pos, root, time_ns, high, low, closing_high, closing_low, notes, told)
    if left != 0:
        note(notes, ENTRY_HIGH, high, low)
        note(notes, TRADE_FEES_HIGH, fee_high, fee_low)
        notes[OPENED_NS] = time_ns
        put(told, row, B_HIGH, high, low)
    else:
        put(told, row, B_HIGH, 0, 0)
    put(told, row, C_HIGH, notes[RESULT_HIGH], notes[RESULT_LOW])
    put(told, row, D_HIGH, book[FEES_HIGH], book[FEES_LOW])
    row = fact(MARKED, bar, filled_pos, root, time_ns, notes, told)
    told[row, INDEX] = notes[TOLD] - 1 - changed
    told[row, OTHER_NS] = time_ns
    told[row, VERSION] = next_version(RUN_VERSION, notes)
    value(told, row, prices[CLOSES_HIGH][bar], prices[CLOSES_LOW][bar], rules, book)
    return is_within(notes[RESULT_HIGH])


def tell_trade(
    bar: int,
    held: int,
    filled_pos: int,
    root: int,
    time_ns: int,
    price_high: int,
    price_low: int,
    fee_high: int,
    fee_low: int,
    notes: Any,
    told: Any,
) -> None:
    """The trade that ends: all of it was opened by one fill and is closed by this one."""
    notes[NUMBER_OF_TRADES] += 1
    row = fact(CLOSED if held > 0 else CLOSED_SHORT, bar, filled_pos, root, time_ns, notes, told)
    told[row, INDEX] = 1
    told[row, VERSION] = next_version(STRATEGY_VERSION, notes)
    told[row, NUMBER] = notes[NUMBER_OF_TRADES]
    told[row, OTHER_NS] = notes[OPENED_NS]
    put_whole(told, row, A_HIGH, abs(held))
    put(told, row, B_HIGH, notes[ENTRY_HIGH], notes[ENTRY_LOW])
    put(told, row, C_HIGH, price_high, price_low)
    gain_high, gain_low = difference(price_high, price_low, notes[ENTRY_HIGH], notes[ENTRY_LOW])
    gain_high, gain_low = multiple(gain_high, gain_low, held)
    put(told, row, D_HIGH, gain_high, gain_low)
    fees_high, fees_low = total(notes[TRADE_FEES_HIGH], notes[TRADE_FEES_LOW], fee_high, fee_low)
    put(told, row, E_HIGH, fees_high, fees_low)
    result_high, result_low = total(notes[RESULT_HIGH], notes[RESULT_LOW], gain_high, gain_low)
    note(notes, RESULT_HIGH, result_high, result_low)


def value(told: Any, row: int, price_high: int, price_low: int, rules: Any, book: Any) -> None:
    """Cash, equity and exposure at a bar's price."""
    price_high, price_low = multiple(price_high, price_low, rules[PRICE_UP])
    put(told, row, A_HIGH, book[CASH_HIGH], book[CASH_LOW])
    held_high, held_low = multiple(price_high, price_low, book[POSITION])
    worth_high, worth_low = multiple(held_high, held_low, rules[ONE])
    equity_high, equity_low = total(book[CASH_HIGH], book[CASH_LOW], worth_high, worth_low)
    put(told, row, B_HIGH, equity_high, equity_low)
    gross_high, gross_low = multiple(price_high, price_low, abs(book[POSITION]))
    put(told, row, C_HIGH, gross_high, gross_low)
