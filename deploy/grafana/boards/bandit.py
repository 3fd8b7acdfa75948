"""Which presets the bandit chooses, how sure it is, and what they brought."""

from __future__ import annotations

from deploy.grafana.board import STRATEGY, Board, Colour, Panel, Prom, Section, Show, Unit, Word

CHOSEN = 'strategy=~"$strategy"'
NO_PRESETS = "strategies with presets"
BY_PRESET = "{{strategy}} {{preset}}"


def of_presets(metric: str) -> str:
    return f"max by (strategy, preset) ({metric}{{{CHOSEN}}})"


CHOICES = (
    Panel(
        title="In use",
        asks="Which preset trades?",
        show=Show.BAND,
        queries=(Prom(of_presets("tapeline_preset_in_use"), legend=BY_PRESET, quiet=NO_PRESETS),),
        unit=Unit.PLAIN,
        words=(Word(0, " ", Colour.GREY), Word(1, "in use", Colour.BLUE)),
    ),
    Panel(
        title="Chosen",
        asks="How often is each chosen?",
        text="Counted since the bandit's process started.",
        show=Show.BARS,
        queries=(
            Prom(
                f"sum by (strategy, preset) (increase(tapeline_preset_chosen_total{{{CHOSEN}}}[$__rate_interval]))",
                legend=BY_PRESET,
                quiet=NO_PRESETS,
            ),
        ),
    ),
    Panel(
        title="Propensities",
        asks="How likely was each to be chosen?",
        text="At the last choice. A preset is never less likely than the configured floor.",
        show=Show.STACK,
        queries=(Prom(of_presets("tapeline_preset_propensity"), legend=BY_PRESET, quiet=NO_PRESETS),),
        unit=Unit.RATIO,
        minimum=0,
    ),
)

BELIEFS = (
    Panel(
        title="Expected rewards",
        asks="What does it believe each is worth?",
        text="Posterior means at the last choice.",
        show=Show.LINES,
        queries=(Prom(of_presets("tapeline_preset_mean"), legend=BY_PRESET, quiet=NO_PRESETS),),
        decimals=4,
    ),
    Panel(
        title="Expected rewards, and how far they may be off",
        asks="Does it know, or does it try?",
        text="Means, and one posterior deviation to both sides, at the last choice. Bands that lie apart: it knows.",
        show=Show.LINES,
        queries=(
            Prom(
                f"{of_presets('tapeline_preset_mean')} - {of_presets('tapeline_preset_deviation')}",
                legend=f"{BY_PRESET} low",
                quiet=NO_PRESETS,
            ),
            Prom(
                f"{of_presets('tapeline_preset_mean')} + {of_presets('tapeline_preset_deviation')}",
                legend=f"{BY_PRESET} high",
                quiet=NO_PRESETS,
            ),
        ),
        decimals=4,
    ),
    Panel(
        title="Deviations",
        asks="What does it know least about?",
        show=Show.LINES,
        queries=(Prom(of_presets("tapeline_preset_deviation"), legend=BY_PRESET, quiet=NO_PRESETS),),
        decimals=4,
        minimum=0,
    ),
)

REWARDS = (
    Panel(
        title="Rewarded",
        asks="How much did it learn from?",
        text="Trades that closed under each preset, since the bandit's process started.",
        show=Show.BARS,
        queries=(
            Prom(
                f"sum by (strategy, preset) (increase(tapeline_preset_rewards_total{{{CHOSEN}}}[$__rate_interval]))",
                legend=BY_PRESET,
                quiet=NO_PRESETS,
            ),
        ),
    ),
    Panel(
        title="Sum of rewards",
        asks="Which brought more?",
        show=Show.LINES,
        queries=(Prom(of_presets("tapeline_preset_reward_sum"), legend=BY_PRESET, quiet=NO_PRESETS),),
        decimals=4,
    ),
    Panel(
        title="Reward on average",
        asks="Which is better for each trade?",
        text="Sum of rewards over their number.",
        show=Show.LINES,
        queries=(
            Prom(
                f"{of_presets('tapeline_preset_reward_sum')} / ({of_presets('tapeline_preset_rewards_total')} > 0)",
                legend=BY_PRESET,
                quiet="presets under which a trade closed",
            ),
        ),
        decimals=4,
    ),
)

BOARD = Board(
    name="bandit",
    title="Bandit",
    asks="Which preset is chosen, with what chance, and was that right?",
    variables=(STRATEGY,),
    hours=24,
    sections=(Section("Choices", CHOICES), Section("Beliefs", BELIEFS), Section("Rewards", REWARDS)),
)
