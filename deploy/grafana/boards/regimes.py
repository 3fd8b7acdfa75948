"""What the models say: probabilities, the regime in force, how old models are, drift, trainings and promotions."""

from __future__ import annotations

from deploy.grafana import levels
from deploy.grafana.board import INSTRUMENT, Board, Colour, Column, Panel, Prom, Section, Show, Unit, Word

CHOSEN = 'instrument=~"$instrument"'


def one_hot(regime: str, number: int) -> str:
    return f'{number} * sum by (instrument) (tapeline_regime{{regime="{regime}", {CHOSEN}}})'


REGIMES = (
    Panel(
        title="Probabilities: $instrument",
        asks="How sure is the model?",
        text="Filtered: each uses only the bars before it. Nothing is drawn while no model is promoted.",
        show=Show.STACK,
        queries=(
            Prom(
                f"max by (regime) (tapeline_regime_probability{{{CHOSEN}}})",
                legend="{{regime}}",
                quiet="until a model is promoted",
            ),
        ),
        unit=Unit.RATIO,
        minimum=0,
        maximum=1,
        colours={"BULL": Colour.GREEN, "BEAR": Colour.PURPLE, "CHOP": Colour.YELLOW},
        repeat="instrument",
        width=24,
        height=7,
    ),
    Panel(
        title="Regime",
        asks="Which regime do strategies see?",
        show=Show.BAND,
        queries=(
            Prom(
                f"{one_hot('BULL', 1)} + {one_hot('BEAR', 2)} + {one_hot('CHOP', 3)}",
                legend="{{instrument}}",
            ),
        ),
        unit=Unit.PLAIN,
        words=(
            Word(0, "UNKNOWN", Colour.GREY),
            Word(1, "BULL", Colour.GREEN),
            Word(2, "BEAR", Colour.PURPLE),
            Word(3, "CHOP", Colour.YELLOW),
        ),
        width=24,
        height=6,
    ),
)

MODELS = (
    Panel(
        title="Models in force",
        asks="Which model decides?",
        text="The first twelve digits of its SHA-256. `tapeline models` lists all.",
        show=Show.TABLE,
        queries=(
            Prom(
                f"max by (instrument, model) (tapeline_model_info{{{CHOSEN}}})",
                table=True,
                quiet="until a model is promoted",
            ),
            Prom(
                f"1000 * max by (instrument) (tapeline_model_promoted_time_seconds{{{CHOSEN}}} > 0)",
                table=True,
                quiet="until a model is promoted",
            ),
        ),
        columns=(
            Column("instrument", unit=Unit.TEXT),
            Column("model", unit=Unit.TEXT),
            Column("Value #B", "promoted", Unit.STAMP),
        ),
        unit=Unit.PLAIN,
        height=7,
    ),
    Panel(
        title="Age of models",
        asks="Is a model too old?",
        act="Look at what was trained since (`tapeline models`) and promote it, or find out why nothing was trained.",
        show=Show.LINES,
        queries=(
            Prom(
                f"time() - max by (instrument) (tapeline_model_trained_time_seconds{{{CHOSEN}}} > 0)",
                legend="trained {{instrument}}",
                quiet="until a model is promoted",
            ),
            Prom(
                f"time() - max by (instrument) (tapeline_model_promoted_time_seconds{{{CHOSEN}}} > 0)",
                legend="promoted {{instrument}}",
                quiet="until a model is promoted",
            ),
        ),
        unit=Unit.SECONDS,
        amber=levels.MODEL_AGE,
        height=7,
    ),
    Panel(
        title="Drift",
        asks="Does the market still look like what the model learnt?",
        text="Each detector's score, as a fraction of its threshold.",
        act="Train on newer bars and promote; until then the regimes may mislead.",
        show=Show.LINES,
        queries=(
            Prom(
                f"max by (instrument, detector) (tapeline_drift_score{{{CHOSEN}}})"
                f" / max by (instrument, detector) (tapeline_drift_threshold{{{CHOSEN}}} > 0)",
                legend="{{instrument}} {{detector}}",
                quiet="until a model is promoted and has seen bars",
            ),
        ),
        unit=Unit.RATIO,
        amber=levels.DRIFT,
        minimum=0,
    ),
    Panel(
        title="Drift detected",
        asks="Since when?",
        act="Train on newer bars and promote.",
        show=Show.BAND,
        queries=(
            Prom(
                f"max by (instrument) (tapeline_drift_detected{{{CHOSEN}}})",
                legend="{{instrument}}",
                quiet="until a model is promoted and has seen bars",
            ),
        ),
        unit=Unit.PLAIN,
        words=(Word(0, "none", Colour.GREEN), Word(1, "drift", Colour.AMBER)),
        alert="ModelDrift",
    ),
)

TRAINING = (
    Panel(
        title="How long training takes",
        asks="Does training keep up?",
        show=Show.HEAT,
        queries=(Prom("sum by (le) (increase(tapeline_training_seconds_bucket[$__rate_interval]))", legend="{{le}}"),),
        unit=Unit.SECONDS,
        width=8,
    ),
    Panel(
        title="Models trained, promoted, rolled back",
        asks="What happened to models?",
        show=Show.BARS,
        queries=(
            Prom(f"sum(increase(tapeline_models_registered_total{{{CHOSEN}}}[$__rate_interval]))", legend="trained"),
            Prom(f"sum(increase(tapeline_promotions_total{{{CHOSEN}}}[$__rate_interval]))", legend="promoted"),
            Prom(f"sum(increase(tapeline_rollbacks_total{{{CHOSEN}}}[$__rate_interval]))", legend="rolled back"),
        ),
        width=8,
    ),
    Panel(
        title="Trainings and promotions that failed",
        asks="Why is there no new model?",
        act="TrainingFailed and PromotionRefused on the tape say more: `tapeline tail --type TrainingFailed`.",
        show=Show.BARS,
        queries=(
            Prom(
                "sum by (reason) (increase(tapeline_training_failures_total[$__rate_interval]))",
                legend="training: {{reason}}",
            ),
            Prom(
                "sum by (reason) (increase(tapeline_promotions_refused_total[$__rate_interval]))",
                legend="promotion: {{reason}}",
            ),
        ),
        alert="TrainingFailed",
        width=8,
    ),
)

BOARD = Board(
    name="regimes",
    title="Regimes and models",
    asks="Which regime is it, which model says so, and may it be believed?",
    variables=(INSTRUMENT,),
    hours=24,
    sections=(Section("Regimes", REGIMES), Section("Models", MODELS), Section("Training", TRAINING)),
)
