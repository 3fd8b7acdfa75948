"""The log, the bus, the servers behind them, and the processes: latencies, lag, verification, memory, descriptors."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import SERVICE, WHAT_HAPPENED, Board, Colour, Column, Panel, Prom, Section, Show, Unit, Word
from deploy.grafana.boards.execution import heat

CHOSEN = 'service=~"$service"'
BY_SERVICE = "{{service}}"
NO_DESTINATION = "stacks that were told whom to notify"
NO_ALERTMANAGER = "stacks with Prometheus and Alertmanager"

LATENCY = (
    Panel(
        title="Commit",
        asks="How long does Postgres take?",
        text="One commit of a group of facts, projections included.",
        act="The disk, or another program on it: compare with the machine's own figures.",
        show=Show.HEAT,
        queries=heat("tapeline_commit_seconds"),
        unit=Unit.SECONDS,
        alert="CommitSlow",
        width=8,
        height=7,
    ),
    Panel(
        title="Announcement",
        asks="How long from the commit to the bus?",
        show=Show.HEAT,
        queries=heat("tapeline_publish_seconds"),
        unit=Unit.SECONDS,
        width=8,
        height=7,
    ),
    Panel(
        title="Recording, as services see it",
        asks="How long does a service wait for the ledger?",
        text="From asking to the positions, through NATS and Postgres.",
        act="If the commit is fast, look at NATS and at the ledger's event loop.",
        show=Show.HEAT,
        queries=heat("tapeline_append_seconds", f"{{{CHOSEN}}}"),
        unit=Unit.SECONDS,
        alert="AppendSlow",
        width=8,
        height=7,
    ),
    Panel(
        title="Steps",
        asks="How long do services think about a fact?",
        show=Show.HEAT,
        queries=heat("tapeline_step_seconds", f"{{{CHOSEN}}}"),
        unit=Unit.SECONDS,
        width=8,
        height=7,
    ),
    Panel(
        title="Facts",
        asks="Who says how much?",
        show=Show.STACK,
        queries=(
            Prom(
                'sum by (author) (rate(tapeline_facts_total{direction="said"}[$__rate_interval]))', legend="{{author}}"
            ),
        ),
        unit=Unit.PER_SECOND,
        width=8,
        height=7,
    ),
    Panel(
        title="Facts in one commit",
        asks="Do answers share commits?",
        show=Show.HEAT,
        queries=heat("tapeline_commit_facts"),
        unit=Unit.COUNT,
        width=8,
        height=7,
    ),
)

FOLLOWING = (
    Panel(
        title="Behind the tape",
        asks="Who does not keep up?",
        text="How long each service has been behind the head; 0 at the head.",
        act="Is its processor busy, or is it restoring? It catches up by itself; decisions are late meanwhile.",
        show=Show.LINES,
        queries=(Prom(f"max by (service) (tapeline_lag_seconds{{{CHOSEN}}})", legend=BY_SERVICE),),
        unit=Unit.SECONDS,
        amber=levels.LAG,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Facts behind, as the ledger sees it",
        asks="Who has said that it heard what?",
        text="Head less what each follower said it has heard. A follower that is silent grows.",
        show=Show.LINES,
        queries=(Prom("max by (follower) (tapeline_progress_lag_facts)", legend="{{follower}}"),),
        minimum=0,
        width=8,
    ),
    Panel(
        title="Read from the ledger instead",
        asks="Do announcements get lost?",
        text="Announcements that were missed, appends whose outcome was unknown, connections made anew.",
        act="A few after a restart are normal; a steady rate is not.",
        show=Show.BARS,
        queries=(
            Prom(f"sum(increase(tapeline_gap_reads_total{{{CHOSEN}}}[$__rate_interval]))", legend="gaps read"),
            Prom(f"sum(increase(tapeline_append_retries_total{{{CHOSEN}}}[$__rate_interval]))", legend="retries"),
            Prom(f"sum(increase(tapeline_nats_reconnects_total{{{CHOSEN}}}[$__rate_interval]))", legend="reconnects"),
        ),
        alert="NatsReconnects",
        width=8,
    ),
)

CHAIN = (
    Panel(
        title="Head",
        asks="Does the tape grow?",
        act="Nothing new is recorded: is the feed up, is the ledger?",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_head_position)"),),
        unit=Unit.MONEY,
        decimals=0,
        alert="HeadNotMoving",
        width=4,
        height=5,
    ),
    Panel(
        title="Age of the head",
        asks="When was the last fact recorded?",
        show=Show.NUMBER,
        queries=(Prom("time() - max(tapeline_head_time_seconds)"),),
        unit=Unit.SECONDS,
        decimals=0,
        alert="HeadNotMoving",
        width=4,
        height=5,
    ),
    Panel(
        title="Chain",
        asks="Is the log what was recorded?",
        act="Halt, keep a copy of the data as it is, then `tapeline verify`.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_chain_faults)"),),
        unit=Unit.PLAIN,
        words=(Word(0, "intact", Colour.GREEN), Word(1, "BROKEN", Colour.RED)),
        alert="ChainFault",
        width=4,
        height=5,
    ),
    Panel(
        title="Last complete verification",
        asks="How old is that answer?",
        act="The background pass has stopped or cannot keep up: the ledger's log says why.",
        show=Show.NUMBER,
        queries=(
            Prom("time() - max(tapeline_verified_time_seconds > 0)", quiet="until the first pass over the log is done"),
        ),
        unit=Unit.SECONDS,
        amber=levels.VERIFICATION,
        nothing="none yet",
        decimals=0,
        width=4,
        height=5,
    ),
    Panel(
        title="Committed, not announced",
        asks="Does the bus get what is in the log?",
        act="The ledger announces again when NATS is back; services read the log meanwhile.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_head_position) - max(tapeline_announced_position)"),),
        unit=Unit.COUNT,
        alert="AnnouncementsBehind",
        width=4,
        height=5,
    ),
    Panel(
        title="Mirror behind",
        asks="Do outside tools see the tape?",
        text="The JetStream stream TAPE. Nothing of Tapeline reads it.",
        act="The ledger heals the mirror by itself; its log says what holds it up.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_mirror_lag_facts)"),),
        unit=Unit.COUNT,
        amber=levels.MIRROR,
        width=4,
        height=5,
    ),
)

DOOR = (
    Panel(
        title="Control requests",
        asks="Who asks to halt, resume, promote?",
        show=Show.BARS,
        queries=(
            Prom(
                "sum by (verb, outcome) (increase(tapeline_control_requests_total[$__rate_interval])) > 0",
                legend="{{verb}} {{outcome}}",
                quiet=WHAT_HAPPENED,
            ),
        ),
        width=8,
    ),
    Panel(
        title="Control requests refused",
        asks="Does somebody try who may not?",
        act="SIGNATURE_INVALID and ISSUER_UNKNOWN from nobody you know: read the runbook of exposed credentials.",
        show=Show.BARS,
        queries=(
            Prom("sum by (reason) (increase(tapeline_control_refusals_total[$__rate_interval]))", legend="{{reason}}"),
        ),
        alert="ControlAuthenticationFailed",
        width=8,
    ),
    Panel(
        title="Answers the ledger refused",
        asks="Did a service ask for what it may not say?",
        show=Show.BARS,
        queries=(
            Prom(
                "sum by (author, reason) (increase(tapeline_answers_refused_total[$__rate_interval])) > 0",
                legend="{{author}} {{reason}}",
                quiet=WHAT_HAPPENED,
            ),
        ),
        width=8,
    ),
)

SERVERS = (
    Panel(
        title="Servers and connections",
        asks="Who cannot reach the bus?",
        act="Without Postgres or NATS nothing new is decided; everything waits and goes on by itself.",
        show=Show.BAND,
        queries=(
            Prom("max(tapeline_postgres_up)", legend="Postgres"),
            Prom("max(tapeline_nats_server_up)", legend="nats-server"),
            Prom(f"min by (service) (tapeline_nats_connected{{{CHOSEN}}})", legend="{{service}} on the bus"),
        ),
        unit=Unit.PLAIN,
        words=(Word(1, "up", Colour.GREEN), Word(0, "down", Colour.RED)),
        alert="PostgresDown",
        width=8,
    ),
    Panel(
        title="Round trips",
        asks="How far away are the servers?",
        show=Show.LINES,
        queries=(
            Prom("max(tapeline_postgres_round_trip_seconds)", legend="Postgres"),
            Prom(f"max by (service) (tapeline_nats_round_trip_seconds{{{CHOSEN}}})", legend="NATS {{service}}"),
        ),
        unit=Unit.SECONDS,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Size of the database and the stream",
        asks="How fast do they grow?",
        show=Show.LINES,
        queries=(
            Prom("max(tapeline_postgres_size_bytes)", legend="Postgres"),
            Prom("max(tapeline_nats_stored_bytes)", legend="JetStream"),
            Prom("max(tapeline_nats_server_memory_bytes)", legend="memory of nats-server"),
        ),
        unit=Unit.BYTES,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Oldest transaction",
        asks="Does somebody hold Postgres up?",
        act="Find the session in pg_stat_activity; whose it is stands in application_name.",
        show=Show.LINES,
        queries=(Prom("max(tapeline_postgres_oldest_transaction_seconds)", legend="oldest transaction"),),
        unit=Unit.SECONDS,
        amber=levels.TRANSACTION,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Connections and slow consumers",
        asks="Who is connected, and who is too slow?",
        show=Show.LINES,
        queries=(
            Prom("max(tapeline_postgres_connections)", legend="Postgres"),
            Prom("max(tapeline_nats_server_connections)", legend="NATS"),
            Prom("sum(increase(tapeline_nats_server_slow_consumers_total[$__rate_interval]))", legend="slow consumers"),
        ),
        minimum=0,
        width=8,
    ),
    Panel(
        title="Errors of the bus",
        asks="Is somebody doing what it may not?",
        act="A permission violation is a wrong key or an intruder: find out which before going on.",
        show=Show.BARS,
        queries=(Prom("sum by (kind) (increase(tapeline_nats_errors_total[$__rate_interval]))", legend="{{kind}}"),),
        alert="PermissionViolation",
        width=8,
    ),
)

PROCESSES = (
    Panel(
        title="Processor",
        asks="Who works?",
        text="Processors in use.",
        show=Show.STACK,
        queries=(
            Prom(
                f"sum by (service) (rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval]))", legend=BY_SERVICE
            ),
        ),
        unit=Unit.RATIO,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Memory",
        asks="Does somebody grow?",
        act="Note the slope and restart the service when convenient: it loses nothing.",
        show=Show.LINES,
        queries=(Prom(f"max by (service) (process_resident_memory_bytes{{{CHOSEN}}})", legend=BY_SERVICE),),
        unit=Unit.BYTES,
        alert="MemoryGrowth",
        minimum=0,
        width=8,
    ),
    Panel(
        title="File descriptors",
        asks="Does somebody leak?",
        act="Restart the service before it cannot open anything: it loses nothing.",
        show=Show.LINES,
        queries=(
            Prom(
                f"max by (service) (process_open_fds{{{CHOSEN}}}) / max by (service) (process_max_fds{{{CHOSEN}}})",
                legend=BY_SERVICE,
            ),
        ),
        unit=Unit.RATIO,
        amber=levels.DESCRIPTORS,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Longest delay of a timer",
        asks="Is an event loop held up?",
        text="In 15 seconds.",
        act="The machine is too busy, or a step takes too long: see Steps above.",
        show=Show.LINES,
        queries=(Prom(f"max by (service) (tapeline_event_loop_lag_seconds{{{CHOSEN}}})", legend=BY_SERVICE),),
        unit=Unit.SECONDS,
        amber=levels.LOOP_LAG,
        minimum=0,
        width=8,
    ),
    Panel(
        title="Free disk",
        asks="Is there room?",
        act="Make room before the log cannot be written.",
        show=Show.LINES,
        queries=(
            Prom(
                "min by (service, volume) (tapeline_disk_free_bytes / tapeline_disk_size_bytes)",
                legend="{{volume}}",
            ),
        ),
        unit=Unit.RATIO,
        red=levels.DISK_FREE,
        falling=True,
        minimum=0,
        maximum=1,
        width=8,
    ),
    Panel(
        title="Warnings and errors in the logs",
        asks="Who complains?",
        show=Show.BARS,
        queries=(
            Prom(
                f"sum by (service, level) (increase(tapeline_log_messages_total{{{CHOSEN}}}[$__rate_interval])) > 0",
                legend="{{service}} {{level}}",
                quiet=WHAT_HAPPENED,
            ),
        ),
        width=8,
    ),
    Panel(
        title="Versions",
        asks="Does everybody run the same code?",
        act="More than one code version: finish or take back the deployment.",
        show=Show.TABLE,
        queries=(
            Prom(f"max by (service, version, code_version, python) (tapeline_build_info{{{CHOSEN}}})", table=True),
            Prom(f"1000 * max by (service) (process_start_time_seconds{{{CHOSEN}, job='tapeline'}})", table=True),
            Prom(f"max by (service) (tapeline_restore_seconds{{{CHOSEN}}})", table=True),
        ),
        columns=(
            Column("service", unit=Unit.TEXT),
            Column("version", unit=Unit.TEXT),
            Column("code_version", "code", Unit.TEXT),
            Column("python", unit=Unit.TEXT),
            Column("Value #B", "started", Unit.STAMP),
            Column("Value #C", "restored in", Unit.SECONDS, 2),
        ),
        unit=Unit.PLAIN,
        alert="VersionSkew",
        width=24,
    ),
)

NOTIFIER = (
    Panel(
        title="Destinations",
        asks="Is anybody told at all?",
        text="Besides the file, which always is.",
        act="Configure one: until then alerts end in a file that nobody reads at night.",
        show=Show.NUMBER,
        queries=(Prom("max(tapeline_destinations)"),),
        unit=Unit.PLAIN,
        amber=levels.DESTINATIONS,
        falling=True,
        width=4,
    ),
    Panel(
        title="Last sign of life of the alerts",
        asks="Would an alert arrive?",
        text="The alert that always fires, as the notifier received it.",
        act="Prometheus or Alertmanager is down, or cannot reach the notifier: until then nobody is called.",
        show=Show.NUMBER,
        queries=(Prom("time() - max(tapeline_watchdog_time_seconds > 0)", quiet=NO_ALERTMANAGER),),
        unit=Unit.SECONDS,
        red=levels.WATCHDOG,
        nothing="never came",
        decimals=0,
        width=4,
    ),
    Panel(
        title="Notifications",
        asks="Do people hear of it?",
        act="Look at the notifier's log: which destination fails, and why?",
        show=Show.BARS,
        queries=(
            Prom(
                "sum by (destination, outcome) (increase(tapeline_notifications_total[$__rate_interval]))",
                legend="{{destination}} {{outcome}}",
                quiet=NO_DESTINATION,
            ),
        ),
        alert="NotificationsFailing",
        width=8,
    ),
    Panel(
        title="Oldest notification that waits",
        asks="Are people told late?",
        act="The notifier's log says which destination does not answer, and why.",
        show=Show.LINES,
        queries=(
            Prom(
                "max by (destination) (tapeline_notification_age_seconds)",
                legend="{{destination}}",
                quiet=NO_DESTINATION,
            ),
        ),
        unit=Unit.SECONDS,
        amber=levels.NOTIFICATIONS,
        minimum=0,
        width=8,
    ),
)

BOARD = Board(
    name="ledger",
    title="Ledger and machines",
    asks="Is the log whole, does everybody keep up, and is there room?",
    variables=(SERVICE,),
    hours=3,
    sections=(
        Section("Latency", LATENCY),
        Section("The chain", CHAIN),
        Section("Following", FOLLOWING),
        Section("The control door", DOOR),
        Section("Postgres and NATS", SERVERS),
        Section("Processes", PROCESSES),
        Section("Notifications", NOTIFIER),
    ),
)
