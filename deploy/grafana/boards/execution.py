"""Quality of execution: how fast orders leave and fill, what they cost, what venues refuse, where orders stand."""

from __future__ import annotations

from deploy.grafana.board import STRATEGY, Board, Panel, Prom, Section, Show, Unit


def quantiles(histogram: str, labels: str = "") -> tuple[Prom, ...]:
    """Median, and what one in a hundred exceeds, of the last five minutes."""
    return tuple(
        Prom(
            f"histogram_quantile({quantile}, sum by (le) (rate({histogram}_bucket{labels}[5m])))",
            legend=name,
        )
        for quantile, name in ((0.5, "median"), (0.99, "99 %"))
    )


def heat(histogram: str, labels: str = "") -> tuple[Prom, ...]:
    """How observations of each interval are spread."""
    return (Prom(f"sum by (le) (increase({histogram}_bucket{labels}[$__rate_interval]))", legend="{{le}}"),)


FAST = (
    Panel(
        title="From a bar to its order",
        asks="How long does a decision take?",
        text="From the stamp of the bar to the recorded submission.",
        show=Show.HEAT,
        queries=heat("tapeline_bar_to_order_seconds"),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="From a bar to its order: quantiles",
        asks="Is it getting slower?",
        act="Look at the board Ledger and machines: which hop takes the time?",
        show=Show.LINES,
        queries=quantiles("tapeline_bar_to_order_seconds"),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="From an order to its fill",
        asks="How long do orders wait?",
        text="From the recorded submission to the first fill. A simulated venue fills with the bars that come.",
        show=Show.HEAT,
        queries=heat("tapeline_order_to_fill_seconds"),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="From an order to its fill: quantiles",
        asks="Does the venue get slower?",
        show=Show.LINES,
        queries=quantiles("tapeline_order_to_fill_seconds"),
        unit=Unit.SECONDS,
    ),
)

COSTS = (
    Panel(
        title="Slippage",
        asks="How much worse than the price at decision are fills?",
        text="Each fill against the last close that was known when its order was approved; below zero is better.",
        show=Show.HEAT,
        queries=heat("tapeline_fill_slippage_bps", '{strategy=~"$strategy"}'),
        unit=Unit.BASIS_POINTS,
        width=8,
    ),
    Panel(
        title="Median slippage",
        asks="Which strategy pays most for speed?",
        text="Of 15 minutes.",
        show=Show.LINES,
        queries=(
            Prom(
                "histogram_quantile(0.5, sum by (strategy, le)"
                ' (rate(tapeline_fill_slippage_bps_bucket{strategy=~"$strategy"}[15m])))',
                legend="{{strategy}}",
            ),
        ),
        unit=Unit.BASIS_POINTS,
        width=8,
    ),
    Panel(
        title="Fees of turnover",
        asks="What does a unit of turnover cost?",
        text="Of the last hour: fees by the value of what was traded.",
        show=Show.LINES,
        queries=(
            Prom(
                'sum by (strategy) (delta(tapeline_fees{strategy=~"$strategy"}[1h]))'
                ' / sum by (strategy) (increase(tapeline_traded_notional_total{strategy=~"$strategy"}[1h]) > 0)',
                legend="{{strategy}}",
                quiet="strategies that filled within the hour",
            ),
        ),
        unit=Unit.RATIO,
        width=8,
    ),
    Panel(
        title="Turnover",
        asks="How much is traded?",
        act="A turnover that nobody expects: halt first, then ask why.",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (strategy) (increase(tapeline_traded_notional_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{strategy}}",
                quiet="the first fill of a strategy",
            ),
        ),
        unit=Unit.MONEY,
        alert="NotionalRate",
        width=8,
    ),
    Panel(
        title="Fills",
        asks="Who gives liquidity, who takes it?",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (liquidity) (increase(tapeline_fills_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{liquidity}}",
            ),
        ),
        width=8,
    ),
    Panel(
        title="Orders sent",
        asks="How many orders leave, and of which type?",
        act="A rate that nobody expects: halt first, then ask why.",
        show=Show.BARS,
        queries=(
            Prom(
                'sum by (type) (increase(tapeline_orders_submitted_total{strategy=~"$strategy"}[$__rate_interval]))',
                legend="{{type}}",
            ),
        ),
        alert="OrderRate",
        width=8,
    ),
)

ORDERS = (
    Panel(
        title="Open orders",
        asks="Where do orders stand?",
        show=Show.STACK,
        queries=(Prom("sum by (state) (tapeline_orders)", legend="{{state}}"),),
        width=8,
    ),
    Panel(
        title="Oldest open order",
        asks="Is an order stuck?",
        act="`tapeline why` on it; a limit order may wait, an order in flight may not.",
        show=Show.LINES,
        queries=(
            Prom("max(tapeline_oldest_open_order_seconds)", legend="oldest open"),
            Prom("max(tapeline_unknown_order_age_seconds)", legend="oldest unknown"),
        ),
        unit=Unit.SECONDS,
        alert="OrderStuck",
        minimum=0,
        width=8,
    ),
    Panel(
        title="Ended orders",
        asks="How do orders end?",
        show=Show.BARS,
        queries=(
            Prom("sum by (state) (increase(tapeline_orders_finished_total[$__rate_interval]))", legend="{{state}}"),
        ),
        width=8,
    ),
    Panel(
        title="Rejected by the venue",
        asks="What does the venue not take?",
        act="MARGIN_INSUFFICIENT and SHORT_NOT_ALLOWED are the account's; the others are configuration.",
        show=Show.BARS,
        queries=(
            Prom("sum by (reason) (increase(tapeline_order_rejects_total[$__rate_interval]))", legend="{{reason}}"),
        ),
        alert="RejectRatio",
        width=8,
    ),
    Panel(
        title="Cancelled by us",
        asks="Why do we take orders back?",
        show=Show.BARS,
        queries=(
            Prom("sum by (reason) (increase(tapeline_cancels_submitted_total[$__rate_interval]))", legend="{{reason}}"),
        ),
        width=8,
    ),
    Panel(
        title="Orders of unknown outcome",
        asks="How many may live without our knowing?",
        act="Look them up at the venue.",
        show=Show.LINES,
        queries=(Prom("max(tapeline_unknown_orders)", legend="unknown"),),
        alert="OrderUnknown",
        minimum=0,
        width=8,
    ),
)

BOARD = Board(
    name="execution",
    title="Execution",
    asks="How well are orders executed?",
    variables=(STRATEGY,),
    sections=(Section("Speed", FAST), Section("Cost", COSTS), Section("Orders", ORDERS)),
)
