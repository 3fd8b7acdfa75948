"""Biases that changing the future does not show: fills in the deciding bar, survivors, and features made of the target.

These look at results: at recorded facts, at trades, at columns of features. The tape's own venue cannot fill in the bar
that decided; the check is for tapes from elsewhere, for venues of one's own, and for research code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from tapeline_common.events import BarClosed, OrderFilled, OrderProposed, PositionChanged
from tapeline_common.values import Liquidity
from tapeline_common.wire import Fact
from tapeline_lab.bias.findings import Finding, Kind, Probe
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import INSTRUMENT, TIME, Moments, Output, Table, altered, output_of, unequal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# ---- fills in the deciding bar -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trades:
    """Fills of research code, shape (n,) each: the bar at whose close each was decided, the bar it fills in, price."""

    decided: Ints
    filled: Ints
    price: Floats


def fills_in_deciding_bar(trades: Trades, table: Table, subject: str = "trades") -> list[Finding]:
    """Fills no later than the bar that decided, and fills at prices that their bar has not seen."""
    found = []
    early = np.flatnonzero(trades.filled <= trades.decided)
    if len(early):
        bar = int(trades.filled[early[0]])
        detail = f"{len(early)} of {len(trades.filled)} fills, the first in bar {bar}, decided at the close of bar "
        detail += f"{int(trades.decided[early[0]])}: fill at the next bar's open at the earliest"
        found.append(_finding(Kind.SAME_BAR_FILL, subject, "fills", bar, table, detail))
    low, high = table["low"][trades.filled], table["high"][trades.filled]
    outside = np.flatnonzero((trades.price < low) | (trades.price > high))
    if len(outside):
        first = int(outside[0])
        bar = int(trades.filled[first])
        detail = f"{len(outside)} of {len(trades.filled)} fills, the first in bar {bar} at {trades.price[first]:g}, "
        detail += f"where {low[first]:g} to {high[first]:g} was traded"
        found.append(_finding(Kind.IMPOSSIBLE_PRICE, subject, "fills", bar, table, detail))
    return found


SAME_BAR_SHARE = 0.5
"""Share of the deciding bar's return from which on it counts as earned; done rightly it is 0, done wrongly 1."""

LEAST_CHANGES = 5
"""Position changes below which nothing can be said."""


def earned_in_deciding_bar(position: Floats, earned: Floats, table: Table, subject: str = "returns") -> list[Finding]:
    """Whether a position decided at a bar's close earns that bar's own return.

    What was earned is explained, by least squares, by the market's return under the position decided at the bar, the
    same under the one decided before it, and the change of position for the costs.

    Args:
        position: exposure decided at the close of each bar, shape (n,).
        earned: the strategy's simple return of each bar, close to close, costs included or not, shape (n,).
    """
    close = table["close"]
    market = np.concatenate([[0.0], close[1:] / close[:-1] - 1.0])
    before = np.concatenate([[0.0], position[:-1]])
    changed = np.abs(position - before)
    given = np.column_stack([position * market, before * market, changed, np.ones(len(close))])
    usable = np.isfinite(given).all(axis=1) & np.isfinite(earned)
    changes = np.flatnonzero((changed > 0.0) & (market != 0.0) & usable)
    if len(changes) < LEAST_CHANGES:
        return []
    share = float(np.linalg.lstsq(given[usable], earned[usable], rcond=None)[0][0])
    if share < SAME_BAR_SHARE:
        return []
    bar = int(changes[0])
    detail = (
        f"{share:.0%} of the return of the bar that decided is earned, as {len(changes)} changes of position show: "
    )
    detail += "shift the position by a bar"
    return [_finding(Kind.SAME_BAR_FILL, subject, "returns", bar, table, detail)]


def fills_on_tape(facts: Iterable[Fact], subject: str = "tape") -> list[Finding]:
    """Fills of a tape in the bar whose close decided, beyond what their bar traded, or left over in what has vanished.

    A fill belongs to the latest bar of its instrument before it on the tape, and must be of a later bar than the one
    its order was proposed at. A maker's price must have been traded in its bar; a taker pays its recorded slippage on
    top.
    """
    bars: dict[str, tuple[int, BarClosed]] = {}
    proposed: dict[str, tuple[int, int]] = {}
    held: dict[tuple[str, str], Decimal] = {}
    found: dict[Kind, Finding] = {}
    count = 0
    for fact in facts:
        event = fact.event
        if isinstance(event, BarClosed):
            bars[event.instrument] = count, event
            count += 1
        elif isinstance(event, OrderProposed):
            known = bars.get(event.terms.instrument)
            if known is not None:
                proposed[event.order] = known[1].close_ns, known[0]
        elif isinstance(event, OrderFilled):
            known = bars.get(event.instrument)
            if known is None:
                continue
            early = _early(event, known, proposed.get(event.order), subject)
            for finding in (early, _beyond(event, known, subject)):
                if finding is not None:
                    found.setdefault(finding.kind, finding)
        elif isinstance(event, PositionChanged):
            held[(event.strategy, event.instrument)] = event.quantity
    vanished = _vanished(bars, held, subject)
    return [*found.values(), *vanished]


def _early(
    fill: OrderFilled, known: tuple[int, BarClosed], decided: tuple[int, int] | None, subject: str
) -> Finding | None:
    number, bar = known
    # An order proposed by an operator's hand between bars has no bar that decided it.
    if decided is None or bar.open_ns >= decided[0]:
        return None
    detail = f"order {fill.order} was decided at the close of bar {decided[1]} and filled before another bar opened"
    return Finding(
        kind=Kind.SAME_BAR_FILL, subject=subject, column="OrderFilled", bar=number, time_ns=bar.open_ns, detail=detail
    )


def _beyond(fill: OrderFilled, known: tuple[int, BarClosed], subject: str) -> Finding | None:
    number, bar = known
    allowance = Decimal(0) if fill.liquidity is Liquidity.MAKER else fill.slippage
    low, high = Decimal(bar.low) - allowance, Decimal(bar.high) + allowance
    if low <= fill.price <= high:
        return None
    detail = f"order {fill.order} fills at {fill.price}, and the bar traded {bar.low} to {bar.high}"
    return Finding(
        kind=Kind.IMPOSSIBLE_PRICE, subject=subject, column="OrderFilled", bar=number, time_ns=bar.open_ns,
        detail=detail,
    )  # fmt: skip


def _vanished(
    bars: Mapping[str, tuple[int, BarClosed]], held: Mapping[tuple[str, str], Decimal], subject: str
) -> list[Finding]:
    """Positions still held in instruments whose bars ended long before the others': marked at a price nobody pays."""
    if not bars:
        return []
    last_ns = max(bar.close_ns for _, bar in bars.values())
    found = []
    for (strategy, instrument), quantity in sorted(held.items()):
        if not quantity or instrument not in bars:
            continue
        number, bar = bars[instrument]
        if last_ns - bar.close_ns <= STALE_BARS * (bar.close_ns - bar.open_ns):
            continue
        detail = f"{strategy} still holds {quantity} of {instrument}, whose last bar this is, at its last price"
        found.append(
            Finding(
                kind=Kind.SURVIVORSHIP,
                subject=subject,
                column=instrument,
                bar=number,
                time_ns=bar.open_ns,
                detail=detail,
            )
        )
    return found


STALE_BARS = 10
"""Bars that an instrument may be silent at the end before it counts as gone."""


def _finding(kind: Kind, subject: str, column: str, bar: int, table: Table, detail: str) -> Finding:
    return Finding(kind=kind, subject=subject, column=column, bar=bar, time_ns=int(table[TIME][bar]), detail=detail)


# ---- survivors ---------------------------------------------------------------------------------------------------

DELISTINGS = 8


def survivorship(subject: Subject, table: Table, *, cuts: int = DELISTINGS, seed: int = 0) -> list[Finding]:
    """Whether what is said of the past depends on which instruments are there later.

    Instrument by instrument, its bars after a cut are taken away, as if it had been delisted. Rows up to the cut may
    neither vanish nor change; a change that other prices of the same bars bring about as well is look-ahead, and not
    reported here.

    Args:
        table: with several instruments in the column ``instrument``.
        cuts: delistings tried for each instrument.
    """
    names = table.get(INSTRUMENT)
    if names is None or len(set(names)) < 2:
        raise ValueError("survivorship needs bars of several instruments: give a table with a column 'instrument'")
    moments = Moments.of(table)
    full = output_of(subject.run({name: column.copy() for name, column in table.items()}), table)
    chance = np.random.Generator(np.random.Philox(seed))
    found: dict[str, Finding] = {}
    for name in sorted(set(names)):
        own_ns = table[TIME][names == name]
        alive = np.flatnonzero((moments.time_ns >= own_ns[0]) & (moments.time_ns < own_ns[-1]))
        for cut in sorted(chance.choice(alive, size=min(cuts, len(alive)), replace=False).tolist()):
            changed = _changed_by_delisting(subject, table, moments, full, name, int(cut))
            if changed is None:
                continue
            column, bar = changed
            detail = f"without {name} after bar {cut}, what is said of bar {bar} changes"
            found.setdefault(
                column,
                Finding(
                    kind=Kind.SURVIVORSHIP,
                    subject=subject.name,
                    column=column,
                    bar=bar,
                    time_ns=int(moments.time_ns[bar]),
                    detail=detail,
                    cut=int(cut),
                ),
            )
    return list(found.values())


def _changed_by_delisting(
    subject: Subject, table: Table, moments: Moments, full: Output, name: str, cut: int
) -> tuple[str, int] | None:
    limit_ns = moments.time_ns[cut]
    keep = (table[TIME] <= limit_ns) | (table[INSTRUMENT] != name)
    gone = {key: column[keep] for key, column in table.items()}
    without = output_of(subject.run({key: column.copy() for key, column in gone.items()}), gone)
    difference = _difference(full, table, without, gone, int(limit_ns))
    if difference is None or difference[0] == "rows":
        return None if difference is None else (difference[0], int(np.searchsorted(moments.time_ns, difference[1])))
    priced = altered(table, moments, cut, Probe.SCALED, 0)
    kept = keep | (table[INSTRUMENT] != name)
    other = {key: np.where(kept, table[key], column) if key not in (TIME, INSTRUMENT) else column
             for key, column in priced.items()}  # fmt: skip
    if _difference(full, table, output_of(subject.run(other), other), other, int(limit_ns)) is not None:
        return None
    return difference[0], int(np.searchsorted(moments.time_ns, difference[1]))


def _difference(left: Output, mine: Table, right: Output, theirs: Table, limit_ns: int) -> tuple[str, int] | None:
    """Column and time of the first difference up to a moment; "rows" where one has rows that the other lacks."""
    ones, others = _keyed(left, mine, limit_ns), _keyed(right, theirs, limit_ns)
    if ones.keys() != others.keys():
        return "rows", min(key[0] for key in ones.keys() ^ others.keys())
    rows, places = np.array(list(ones.values())), np.array([others[key] for key in ones])
    for name, column in left.columns.items():
        if name == INSTRUMENT or not len(rows):
            continue
        if name not in right.columns:
            return name, next(iter(ones))[0]
        differs = unequal(column[rows], right.columns[name][places])
        if differs.any():
            return name, list(ones)[int(np.argmax(differs))][0]
    return None


def _keyed(output: Output, table: Table, limit_ns: int) -> dict[tuple[int, str], int]:
    """Rows of an output up to a moment by (time, instrument); without keys of its own it has the table's."""
    if output.keys is None:
        pairs = zip(table[TIME].tolist(), table[INSTRUMENT].tolist(), strict=True)
    else:
        names = output.columns.get(INSTRUMENT)
        owners = [""] * len(output.time_ns) if names is None else names.tolist()
        pairs = zip(output.time_ns.tolist(), owners, strict=True)
    return {(moment, str(name)): row for row, (moment, name) in enumerate(pairs) if moment <= limit_ns}


# ---- features made of the target ---------------------------------------------------------------------------------

HORIZONS = (1, 2, 3, 5, 10, 20)
"""Bars ahead over which returns are taken for targets."""

LEAST_ROWS = 200
"""Rows below which chance alone reaches the bounds."""

MOST_CORRELATION = 0.5
"""Rank correlation with returns to come beyond any honest feature: an R² of a quarter at one bar ahead."""

MOST_DEPENDENCE = 0.3
"""Chatterjee's xi of a feature on returns to come: 0 if independent, 1 if a function of them (of any shape). Its
standard deviation under independence is sqrt(2/5/n): 0.045 at the fewest rows."""


def dependence(given: Floats, said: Floats, seed: int = 0) -> float:
    """How far ``said`` is a function of ``given``: S. Chatterjee, "A new coefficient of correlation", JASA 2021.

    Shapes (n,) without NaN; ties of ``given`` are broken by the seed. A constant is no function worth naming: 0.
    """
    chance = np.random.Generator(np.random.Philox(seed))
    order = np.lexsort((chance.permutation(len(given)), given))
    values = said[order]
    ranks = np.searchsorted(np.sort(values), values, side="right").astype(np.float64)
    above = len(values) - np.searchsorted(np.sort(values), values, side="left").astype(np.float64)
    scale = 2.0 * float(np.sum(above * (len(values) - above)))
    return 0.0 if scale == 0.0 else 1.0 - len(values) * float(np.sum(np.abs(np.diff(ranks)))) / scale


def target_leakage(
    features: Mapping[str, Floats], table: Table, *, horizons: Sequence[int] = HORIZONS, subject: str = "features"
) -> list[Finding]:
    """Features that know the returns to come, whatever they were computed from.

    For features that arrive ready-made in a file, where changing the bars cannot change them. Each is compared with the
    return of the next 1, 2, ... bars after its own.

    Args:
        features: shape (n,) each, one row for each bar of the table.
    """
    close = _blurred(table["close"])
    found = []
    for name, column in features.items():
        best: tuple[float, int, str] | None = None
        for horizon in horizons:
            target = close[horizon:] / close[:-horizon] - 1.0
            values = np.asarray(column, dtype=np.float64)[:-horizon]
            usable = np.isfinite(values) & np.isfinite(target)
            if usable.sum() < LEAST_ROWS or np.ptp(values[usable]) == 0.0:
                continue
            strength, measure = _strength(values[usable], target[usable])
            if (
                strength > 1.0
                and _is_in_place(values[usable], target[usable], strength)
                and (best is None or strength > best[0])
            ):
                best = strength, horizon, measure
        if best is not None:
            detail = f"{best[2]} with the return of the next {best[1]} bars"
            first = int(np.argmax(np.isfinite(column)))
            finding = _finding(Kind.TARGET_LEAKAGE, subject, name, first, table, detail)
            found.append(finding)
    return found


def _blurred(close: Floats) -> Floats:
    """Closes moved at random by up to half a tick: returns in whole ticks tell the price level by their last digits."""
    steps = np.abs(np.diff(close))
    if not np.any(steps > 0.0):
        return close
    tick = float(steps[steps > 0.0].min())
    chance = np.random.Generator(np.random.Philox(0))
    moved: Floats = close + chance.uniform(-0.5, 0.5, len(close)) * tick
    return moved


def _is_in_place(feature: Floats, target: Floats, strength: float) -> bool:
    """Whether the feature moved along the target by any other distance is far less strong.

    What drifts slowly (a price level) goes along with returns over many bars by chance, at this distance as at others;
    what was made of the target fits in its own place only.
    """
    distances = np.linspace(0.1, 0.9, PLACEBOS) * len(feature)
    moved = max(_strength(np.roll(feature, int(distance)), target)[0] for distance in distances)
    return strength >= PLACEBO_FACTOR * moved


PLACEBOS = 20
PLACEBO_FACTOR = 1.5
"""Distances tried, and how much stronger a feature must be in its own place than at the best of them."""


def _strength(feature: Floats, target: Floats) -> tuple[float, str]:
    """How far beyond its bound the stronger of the two measures is, and that measure in words."""
    from scipy.stats import spearmanr

    correlation, xi = float(spearmanr(feature, target).statistic), dependence(target, feature)
    if abs(correlation) / MOST_CORRELATION >= xi / MOST_DEPENDENCE:
        return abs(correlation) / MOST_CORRELATION, f"rank correlation {correlation:+.2f}"
    return xi / MOST_DEPENDENCE, f"dependence {xi:.2f} (Chatterjee's xi)"
