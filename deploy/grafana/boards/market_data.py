"""Whether prices come: staleness, interruptions, data that was not accepted, requests to exchanges and their budget."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import INSTRUMENT, Board, Colour, Panel, Prom, Section, Show, Unit, Word

CHOSEN = 'instrument=~"$instrument"'
BY_INSTRUMENT = "{{instrument}}"
NO_EXCHANGE = "feeds that ask an exchange; files and the synthetic market do not"

FEEDS = (
    Panel(
        title="Feeds",
        asks="Which feed is interrupted?",
        act="FeedInterrupted says why. The line is tried again by itself; a refused request needs a person.",
        show=Show.BAND,
        queries=(Prom(f"min by (instrument) (tapeline_feed_up{{{CHOSEN}}})", legend=BY_INSTRUMENT),),
        unit=Unit.PLAIN,
        words=(Word(1, "up", Colour.GREEN), Word(0, "interrupted", Colour.AMBER)),
        alert="FeedInterrupted",
    ),
    Panel(
        title="Silence",
        asks="Is a bar overdue?",
        text="Time since the last accepted bar, as a fraction of the silence that is allowed: until the next "
        "bar is due, and half of that more (at least half a minute, at most ten minutes); an hour where bars have no "
        "fixed length.",
        act="Orders are refused while prices are stale. See the feed's state, then the exchange's.",
        show=Show.LINES,
        queries=(Prom(levels.silence(f"{{{CHOSEN}}}"), legend=BY_INSTRUMENT),),
        unit=Unit.RATIO,
        red=levels.FEED_STALE,
        minimum=0,
    ),
    Panel(
        title="Time since the last bar",
        asks="When did the last bar come?",
        show=Show.LINES,
        queries=(
            Prom(
                f"time() - max by (instrument) (tapeline_feed_last_bar_time_seconds{{{CHOSEN}}} > 0)",
                legend=BY_INSTRUMENT,
            ),
        ),
        unit=Unit.SECONDS,
        minimum=0,
    ),
    Panel(
        title="Delay of bars",
        asks="How late do bars come?",
        text="From a bar's close to its arrival. Of feeds that follow a real clock.",
        show=Show.LINES,
        queries=(
            Prom(
                f"max by (instrument) (tapeline_feed_delay_seconds{{{CHOSEN}}})",
                legend=BY_INSTRUMENT,
                quiet=NO_EXCHANGE,
            ),
        ),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="Bars",
        asks="How many bars come?",
        show=Show.LINES,
        queries=(
            Prom(
                f"sum by (instrument) (rate(tapeline_bars_total{{{CHOSEN}}}[$__rate_interval]))", legend=BY_INSTRUMENT
            ),
        ),
        unit=Unit.PER_SECOND,
        minimum=0,
    ),
    Panel(
        title="Last prices",
        asks="What are the prices?",
        text="In each instrument's quote currency.",
        show=Show.LINES,
        queries=(Prom(f"max by (instrument) (tapeline_price{{{CHOSEN}}})", legend=BY_INSTRUMENT),),
        unit=Unit.MONEY,
    ),
)

FAULTS = (
    Panel(
        title="Data that was not accepted",
        asks="What is wrong with the data?",
        text="By fault. A gap is bars that never came; it is said, never filled in.",
        show=Show.BARS,
        queries=(
            Prom(
                f"sum by (fault) (increase(tapeline_data_rejected_total{{{CHOSEN}}}[$__rate_interval]))",
                legend="{{fault}}",
            ),
        ),
    ),
    Panel(
        title="Interruptions",
        asks="Why do feeds stop?",
        text="REFUSED needs a person: the request is wrong. The others are tried again.",
        show=Show.BARS,
        queries=(
            Prom(
                f"sum by (kind) (increase(tapeline_feed_interruptions_total{{{CHOSEN}}}[$__rate_interval]))",
                legend="{{kind}}",
            ),
        ),
    ),
)

EXCHANGES = (
    Panel(
        title="Requests",
        asks="What do exchanges answer?",
        show=Show.BARS,
        queries=(
            Prom(
                "sum by (exchange, outcome) (increase(tapeline_exchange_requests_total[$__rate_interval]))",
                legend="{{exchange}} {{outcome}}",
                quiet=NO_EXCHANGE,
            ),
        ),
        width=8,
    ),
    Panel(
        title="How long requests take",
        asks="Does the exchange get slower?",
        show=Show.HEAT,
        queries=(
            Prom(
                "sum by (le) (increase(tapeline_exchange_request_seconds_bucket[$__rate_interval]))",
                legend="{{le}}",
                quiet=NO_EXCHANGE,
            ),
        ),
        unit=Unit.SECONDS,
        width=8,
    ),
    Panel(
        title="Rate budget used",
        asks="How near is a ban?",
        act="Fewer instruments or a slower poll; an exchange that bans the address takes hours to forget it.",
        show=Show.LINES,
        queries=(
            Prom("max by (exchange) (tapeline_rate_budget_used_ratio)", legend="{{exchange}}", quiet=NO_EXCHANGE),
        ),
        unit=Unit.RATIO,
        amber=levels.RATE_BUDGET,
        minimum=0,
        maximum=1,
        width=8,
    ),
)

BOARD = Board(
    name="market-data",
    title="Market data",
    asks="Do prices come, in time and in order?",
    variables=(INSTRUMENT,),
    sections=(Section("Feeds", FEEDS), Section("Faults", FAULTS), Section("Exchanges", EXCHANGES)),
)
