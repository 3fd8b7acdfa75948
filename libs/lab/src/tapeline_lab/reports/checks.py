"""Sanity checks: what in a run should make its reader doubt the figures, in words.

Each doubt is one of a closed list, found by one function with one threshold whose reason stands beside it. A run that
passes is not thereby good: these find what is wrong with the evidence, not with the strategy. Statistics that weigh
the evidence itself are ``tapeline_lab.validity``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from tapeline_backtest.report import DAY_NS
from tapeline_backtest.session import Bars, Fill, Session
from tapeline_common.events import ParameterValue
from tapeline_common.values import InstrumentId

FEWEST_TRADES = 30
"""Below it a mean of trades has no usable error; the usual least sample (Tharp's SQN asks for it as well)."""

FEWEST_DAYS = 60
"""Two months: annualising fewer days multiplies their luck by more than six."""

MOST_OF_ONE_TRADE = 0.5
"""Share of the gross profit that one trade may bring: beyond it the run is that trade."""

FLAT_SHARE = 0.8
"""Share of days without any change of equity; a strategy that trades is not flat on four days of five."""

LONGEST_SILENCE = 1 / 3
"""Share of the run without a fill."""

MOST_OF_VOLUME = 0.1
"""Share of a bar's volume at which a fill would move the market by more than common impact models are fitted on."""

USUAL_OF_VOLUME = 0.01
"""Median share up to which size can grow before fills get worse; 1 to 5 percent are usual caps."""

STALE_BARS = 2
"""A market order fills in the bar after its decision; one that takes longer met a gap."""

TOLERANCE = 1e-9
"""Relative error of prices that were turned into floats."""


class Doubt(StrEnum):
    """Why a figure may not be believed."""

    TOO_FEW_TRADES = "TOO_FEW_TRADES"
    TOO_SHORT = "TOO_SHORT"
    ONE_TRADE_DOMINATES = "ONE_TRADE_DOMINATES"
    FLAT_CURVE = "FLAT_CURVE"
    LONG_SILENCE = "LONG_SILENCE"
    FILL_BETTER_THAN_BAR = "FILL_BETTER_THAN_BAR"
    FILL_OUTSIDE_BAR = "FILL_OUTSIDE_BAR"
    FILL_ABOVE_VOLUME = "FILL_ABOVE_VOLUME"
    STALE_FILL = "STALE_FILL"
    THIN_LIQUIDITY = "THIN_LIQUIDITY"
    LIQUIDITY_UNKNOWN = "LIQUIDITY_UNKNOWN"
    NO_COSTS = "NO_COSTS"
    COSTS_DOMINATE = "COSTS_DOMINATE"
    EDGE_OF_GRID = "EDGE_OF_GRID"
    NOT_IN_STUDY = "NOT_IN_STUDY"


class Weight(StrEnum):
    """WRONG: the figures cannot be right. DOUBTFUL: they say less than they seem to. NOTE: know this."""

    WRONG = "WRONG"
    DOUBTFUL = "DOUBTFUL"
    NOTE = "NOTE"


class Finding(msgspec.Struct, frozen=True):
    """One doubt. ``positions`` are facts to look at with `tapeline why`, at most five."""

    doubt: Doubt
    weight: Weight
    words: str
    positions: tuple[int, ...] = ()


class Grid(msgspec.Struct, frozen=True):
    """What a study tried: parameter → values in order, and the run's own. The seam to ``tapeline_lab.search``.

    is_tried: whether the run's setting is one of the trials.
    """

    values: Mapping[str, Sequence[ParameterValue]]
    chosen: Mapping[str, ParameterValue]
    is_tried: bool = True


def findings(session: Session, returns: Sequence[float], grid: Grid | None = None) -> tuple[Finding, ...]:
    """Every doubt there is, the gravest first. returns: of equity per UTC day."""
    found = [finding for check in CHECKS if (finding := check(session)) is not None]
    others = (too_short(returns), flat_curve(returns), edge_of_grid(grid), not_in_study(grid))
    found += [one for one in others if one is not None]
    order = list(Weight)
    return tuple(sorted(found, key=lambda one: order.index(one.weight)))


# ---- too little ----------------------------------------------------------------------------------------------------


def too_few_trades(session: Session) -> Finding | None:
    closed = len(session.trades)
    if closed >= FEWEST_TRADES:
        return None
    words = f"{closed} trades were closed; below {FEWEST_TRADES} their mean is mostly luck"
    return Finding(Doubt.TOO_FEW_TRADES, Weight.DOUBTFUL, words)


def too_short(returns: Sequence[float]) -> Finding | None:
    if len(returns) >= FEWEST_DAYS:
        return None
    words = f"{len(returns)} days; annual figures and Sharpe ratio of fewer than {FEWEST_DAYS} days say little"
    return Finding(Doubt.TOO_SHORT, Weight.DOUBTFUL, words)


def one_trade_dominates(session: Session) -> Finding | None:
    """Only of a run that won at all, and of several winners: one of one is too few trades already."""
    gains = [(float(trade.net), trade.pos) for trade in session.trades if trade.net > 0]
    gross = sum(gain for gain, _ in gains)
    if len(gains) < 2 or session.report.net_profit <= 0 or max(gains)[0] <= MOST_OF_ONE_TRADE * gross:
        return None
    best, pos = max(gains)
    words = f"one trade brought {best / gross:.0%} of the gross profit; without it this would be another run"
    return Finding(Doubt.ONE_TRADE_DOMINATES, Weight.DOUBTFUL, words, (pos,))


def flat_curve(returns: Sequence[float]) -> Finding | None:
    still = sum(change == 0.0 for change in returns)
    if not returns or still < FLAT_SHARE * len(returns):
        return None
    words = f"equity did not move on {still} of {len(returns)} days; ratios are made by the few others"
    return Finding(Doubt.FLAT_CURVE, Weight.DOUBTFUL, words)


def long_silence(session: Session) -> Finding | None:
    """A position that is held through is no silence."""
    if not session.fills:
        return None
    first, last = int(session.curve.time_ns[0]), int(session.curve.time_ns[-1])
    idle = ~session.curve.invested
    edges = np.flatnonzero(np.diff(np.concatenate([[False], idle, [False]]).astype(np.int8)))
    spans = [
        (int(session.curve.time_ns[stop - 1]) - int(session.curve.time_ns[start]), int(session.curve.time_ns[start]))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    ]
    longest, _ = max(spans, default=(0, 0))
    if longest <= LONGEST_SILENCE * (last - first):
        return None
    words = f"nothing was held for {longest / DAY_NS:.1f} days on end, {longest / (last - first):.0%} of the run"
    return Finding(Doubt.LONG_SILENCE, Weight.NOTE, words)


# ---- fills that cannot be ------------------------------------------------------------------------------------------


def fill_better_than_bar(session: Session) -> Finding | None:
    """Bought below the bar's low or sold above its high: nobody traded there."""
    bad = [
        fill
        for fill in session.fills
        if float(fill.price) * fill.side.sign < _best(fill) * fill.side.sign - TOLERANCE * float(fill.price)
    ]
    words = "{} better than any price of the bar: look for look-ahead, or for bars that are not the venue's"
    return _about_fills(Doubt.FILL_BETTER_THAN_BAR, Weight.WRONG, words, bad)


def fill_outside_bar(session: Session) -> Finding | None:
    """Before its costs a fill has a price of its bar. One that was late may have an earlier bar's."""
    bad = []
    for fill in session.fills:
        if fill.costs.get("latency") or fill.costs.get("path"):
            continue
        undisturbed = float(fill.price) - float(fill.slippage) * fill.side.sign
        worst = fill.bar_high if fill.side.sign > 0 else fill.bar_low
        if undisturbed * fill.side.sign > worst * fill.side.sign + TOLERANCE * abs(worst):
            bad.append(fill)
    words = "{} outside the bar's range even without slippage: the fill model or the bars are wrong"
    return _about_fills(Doubt.FILL_OUTSIDE_BAR, Weight.WRONG, words, bad)


def fill_above_volume(session: Session) -> Finding | None:
    """All our fills in a bar together; bars of a source without volumes say nothing."""
    taken = taken_of_bars(session)
    bad = [fill for fill in session.fills if taken.get(fill.bar_pos, 0.0) > 1.0 + TOLERANCE]
    words = "{} part of more than a bar's whole volume taken: set `participation`, or a smaller size"
    return _about_fills(Doubt.FILL_ABOVE_VOLUME, Weight.WRONG, words, bad)


def stale_fill(session: Session) -> Finding | None:
    """A market order that waited for bars, or met one in which nothing was traded."""
    orders = {order.order: order for order in session.orders}
    known = _with_volume(session.bars)
    bad = []
    for fill in session.fills:
        order, bars = orders.get(fill.order), session.bars[fill.instrument]
        if order is None or not fill.bar_pos:
            continue
        length_ns = int(np.median(bars.close_ns - bars.open_ns))
        waited = order.type == "MARKET" and order.filled == fill.quantity
        late = waited and fill.time_ns - order.time_ns > STALE_BARS * length_ns
        if late or (fill.instrument in known and fill.bar_volume == 0.0):
            bad.append(fill)
    words = "{} of a market order after a gap in the bars, or in a bar without volume: no such price was to be had"
    return _about_fills(Doubt.STALE_FILL, Weight.DOUBTFUL, words, bad)


# ---- size and costs ------------------------------------------------------------------------------------------------


def thin_liquidity(session: Session) -> Finding | None:
    """Sizes that the market carried on paper only."""
    shares = [share for share in taken_of_bars(session).values() if share <= 1.0 + TOLERANCE]
    if not shares or (max(shares) <= MOST_OF_VOLUME and float(np.median(shares)) <= USUAL_OF_VOLUME):
        return None
    median, largest = float(np.median(shares)), max(shares)
    growth = f"; {USUAL_OF_VOLUME / median:.2g} times this size is about what it carries" if median > 0 else ""
    words = f"fills took {median:.2%} of their bar's volume (median), at most {largest:.1%}{growth}"
    return Finding(Doubt.THIN_LIQUIDITY, Weight.DOUBTFUL, words)


def liquidity_unknown(session: Session) -> Finding | None:
    unknown = [session.name(instrument) for instrument in session.bars if instrument not in _with_volume(session.bars)]
    if not unknown or not session.fills:
        return None
    words = f"the bars of {', '.join(unknown)} have no volume: whether the size could be traded is not known"
    return Finding(Doubt.LIQUIDITY_UNKNOWN, Weight.NOTE, words)


def no_costs(session: Session) -> Finding | None:
    if not session.fills or session.report.fees or session.report.slippage:
        return None
    return Finding(Doubt.NO_COSTS, Weight.DOUBTFUL, "neither fees nor slippage were charged: no venue is free")


def costs_dominate(session: Session) -> Finding | None:
    """Trading cost more than it brought."""
    costs = float(session.report.fees + session.report.slippage)
    before = float(session.report.net_profit) + costs
    if not session.trades or not 0 < before < costs:
        return None
    words = f"costs of {costs:,.2f} are {costs / before:.1f} times the profit of {before:,.2f} before them"
    return Finding(Doubt.COSTS_DOMINATE, Weight.NOTE, words)


def edge_of_grid(grid: Grid | None) -> Finding | None:
    """The best value is the last one tried: what lies beyond might be better, and the peak is not seen."""
    if grid is None:
        return None
    at_edge = [
        f"{name}={grid.chosen[name]}"
        for name, values in grid.values.items()
        if len(values) >= 3 and grid.chosen.get(name) in (values[0], values[-1])
    ]
    if not at_edge:
        return None
    words = (
        f"what was chosen lies at the edge of what was tried ({', '.join(at_edge)}): widen the grid before believing it"
    )
    return Finding(Doubt.EDGE_OF_GRID, Weight.DOUBTFUL, words)


def not_in_study(grid: Grid | None) -> Finding | None:
    """The luck of choosing it was not counted: these settings came from elsewhere."""
    if grid is None or grid.is_tried:
        return None
    settings = ", ".join(f"{name}={value}" for name, value in grid.chosen.items())
    words = f"the study did not try {settings}: its trials say nothing of how this was chosen"
    return Finding(Doubt.NOT_IN_STUDY, Weight.DOUBTFUL, words)


CHECKS: tuple[Callable[[Session], Finding | None], ...] = (
    fill_better_than_bar,
    fill_outside_bar,
    fill_above_volume,
    too_few_trades,
    one_trade_dominates,
    stale_fill,
    thin_liquidity,
    no_costs,
    long_silence,
    liquidity_unknown,
    costs_dominate,
)


def taken_of_bars(session: Session) -> dict[int, float]:
    """Position of a bar → share of its volume that our fills took. Bars without volume are left out."""
    taken: dict[int, float] = {}
    for fill in session.fills:
        if fill.bar_pos and fill.bar_volume > 0:
            taken[fill.bar_pos] = taken.get(fill.bar_pos, 0.0) + float(fill.quantity) / fill.bar_volume
    return taken


def _best(fill: Fill) -> float:
    """Best price of the fill's bar for its side; the fill's own where there is no bar."""
    best = fill.bar_low if fill.side.sign > 0 else fill.bar_high
    return float(fill.price) if np.isnan(best) else best


def _with_volume(bars: Mapping[InstrumentId, Bars]) -> frozenset[InstrumentId]:
    return frozenset(instrument for instrument, one in bars.items() if bool((one.volume > 0).any()))


def _about_fills(doubt: Doubt, weight: Weight, words: str, bad: Sequence[Fill]) -> Finding | None:
    """words: what comes after "1 fill is" or "3 fills are"."""
    if not bad:
        return None
    count = "1 fill is" if len(bad) == 1 else f"{len(bad):,} fills are"
    return Finding(doubt, weight, words.format(count), tuple(fill.pos for fill in bad[:5]))
