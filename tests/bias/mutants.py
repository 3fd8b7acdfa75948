"""Research pipelines that are wrong, each in one way that people get wrong, and what must be said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from hmmlearn.hmm import GaussianHMM
from scipy.signal import butter, filtfilt, savgol_filter
from tests.bias.bars import market, panel, with_ready_made

from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.subjects import Pipeline, populate_pipeline
from tapeline_lab.bias.tables import Frame, Table


@dataclass(frozen=True)
class Mutant:
    """A wrong pipeline, the column that is wrong and the kinds that name it rightly.

    ``event_cuts``: few, to save time, but where the leak is in a rare branch.
    """

    pipeline: Pipeline
    column: str
    kinds: tuple[Kind, ...]
    frame: Frame = Frame.PANDAS
    bars: Callable[[], Table] = market
    at_open: tuple[str, ...] = ()
    farthest: int | None = None
    nearest: int | None = None
    event_cuts: int = 4


def shifted(bars: pd.DataFrame) -> dict[str, Any]:
    return {"good": bars.close.pct_change(), "tomorrow": bars.close.shift(-1)}


def shifted_five_in_polars(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select((pl.col("close").shift(-5) / pl.col("close") - 1).alias("ahead"))


def centred_window(bars: pd.DataFrame) -> dict[str, Any]:
    return {"smooth": bars.close.rolling(21, center=True).mean()}


def full_sample_scaler(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change()
    return {"scaled": (moves - moves.mean()) / moves.std()}


def min_max_over_all(bars: pd.DataFrame) -> dict[str, Any]:
    return {"scaled": (bars.close - bars.close.min()) / (bars.close.max() - bars.close.min())}


def same_bar_fill(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change().fillna(0.0)
    position = (moves > 0).astype(float)
    return {"position": position, "returns": position * moves}


def same_bar_fill_after_costs(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change().fillna(0.0)
    position = np.sign(bars.close - bars.close.ewm(span=20, adjust=False).mean())
    costs = position.diff().abs().fillna(0.0) * 0.0005
    return {"position": position, "returns": position * moves - costs}


def viterbi_labels(bars: pd.DataFrame) -> dict[str, Any]:
    """Parameters of last year, and still the labels know the next bars: the likeliest path through all of them."""
    return {"regime": calm_and_wild().predict(moves_of(bars)).astype(float)}


def smoothed_labels(bars: pd.DataFrame) -> dict[str, Any]:
    """The same by forward and backward probabilities."""
    return {"wild": calm_and_wild().predict_proba(moves_of(bars))[:, 1]}


def calm_and_wild() -> GaussianHMM:
    model = GaussianHMM(2, "diag", init_params="")
    model.startprob_, model.transmat_ = np.array([0.5, 0.5]), np.array([[0.97, 0.03], [0.03, 0.97]])
    model.means_, model.covars_ = np.zeros((2, 1)), np.array([[0.05], [0.5]])
    return model


def moves_of(bars: pd.DataFrame) -> Any:
    return bars.close.pct_change().fillna(0.0).to_numpy()[:, None] * 100


def resample_leak(bars: pd.DataFrame) -> dict[str, Any]:
    hours = bars.set_index("ts").close.resample("1h").last()
    return {"hour_close": hours.reindex(bars.ts.dt.floor("1h")).to_numpy()}


def unfinished_hour_range(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(
        (pl.col("high").max() - pl.col("low").min()).over(pl.col("ts").dt.truncate("30m")).alias("range")
    )


def target_in_features(bars: pd.DataFrame) -> dict[str, Any]:
    target = (bars.close.shift(-3) > bars.close).astype(float)
    return {"encoded": target.groupby(bars.ts.dt.hour).transform("mean")}


def target_ready_made(bars: pd.DataFrame) -> dict[str, Any]:
    return {"sentiment": bars.sentiment, "average": bars.close.rolling(10).mean()}


def universe_of_today(bars: pd.DataFrame) -> pd.DataFrame:
    alive = bars[bars.ts == bars.ts.max()].instrument
    kept = bars[bars.instrument.isin(alive)].copy()
    kept["momentum"] = kept.groupby("instrument").close.pct_change(10)
    return kept[["ts", "instrument", "momentum"]]


def weights_of_survivors(bars: pd.DataFrame) -> pd.DataFrame:
    alive = bars.instrument.isin(bars[bars.ts == bars.ts.max()].instrument)
    bars["weight"] = alive / alive.groupby(bars.ts).transform("sum")
    return bars[["ts", "instrument", "weight"]]


def filled_backwards(bars: pd.DataFrame) -> dict[str, Any]:
    rare = bars.close.where(bars.volume > 19.0)
    return {"level": rare.bfill()}


def gradient(bars: dict[str, Any]) -> dict[str, Any]:
    return {"slope": np.gradient(bars["close"])}


def ranked_over_all(bars: pd.DataFrame) -> dict[str, Any]:
    return {"rank": bars.volume.rank(pct=True)}


def quantile_of_all(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change().abs()
    return {"signal": (moves > moves.quantile(0.95)).astype(int)}


def sorted_bins(bars: dict[str, Any]) -> dict[str, Any]:
    edges = np.sort(bars["volume"])[:: max(1, len(bars["volume"]) // 10)]
    return {"bin": np.searchsorted(edges, bars["volume"])}


def regression_on_all(bars: dict[str, Any]) -> dict[str, Any]:
    place = np.arange(len(bars["close"]))
    return {"residual": bars["close"] - np.polyval(np.polyfit(place, bars["close"], 2), place)}


def early_breakout(bars: pd.DataFrame) -> dict[str, Any]:
    """Enters at the open of the bar whose high breaks out."""
    breakout = (bars.high > bars.high.rolling(20).max().shift(1)).astype(float)
    return {"enter_at_open": breakout, "average": bars.close.rolling(5).mean()}


def savitzky_golay(bars: dict[str, Any]) -> dict[str, Any]:
    return {"smooth": savgol_filter(bars["close"], 11, 2)}


def zero_phase_filter(bars: dict[str, Any]) -> dict[str, Any]:
    return {"smooth": filtfilt(*butter(2, 0.2), bars["close"])}


def rare_branch(bars: pd.DataFrame) -> dict[str, Any]:
    """Looks one bar ahead, in one bar of a hundred."""
    moves = bars.close.pct_change()
    odd = (moves > 0.012) & (bars.close.shift(-1) > bars.close)
    return {"signal": odd.astype(int)}


def from_the_end(bars: dict[str, Any]) -> dict[str, Any]:
    """Counts from the end of the data: any further bar moves it."""
    return {"age": np.arange(len(bars["close"]))[::-1].astype(float)}


class PopulatesWithMaximum:
    """What many published strategies do: a level of the whole frame in an entry condition."""

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe["mean"] = dataframe["close"].rolling(20).mean()
        return dataframe

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe.loc[dataframe["close"] < 0.9 * dataframe["close"].max(), "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe.loc[dataframe["close"] > dataframe["mean"], "exit_long"] = 1
        return dataframe


def ready_made() -> Table:
    return with_ready_made(market())


AHEAD, WHOLE = Kind.FUTURE_BARS, Kind.WHOLE_SAMPLE

MUTANTS: dict[str, Mutant] = {
    "shift": Mutant(shifted, "tomorrow", (AHEAD,), farthest=1, nearest=1),
    "shift in polars": Mutant(shifted_five_in_polars, "ahead", (AHEAD,), Frame.POLARS, farthest=5, nearest=5),
    "centred window": Mutant(centred_window, "smooth", (AHEAD,), farthest=10, nearest=1),
    "full-sample scaler": Mutant(full_sample_scaler, "scaled", (WHOLE,)),
    "min-max over all": Mutant(min_max_over_all, "scaled", (WHOLE, AHEAD)),
    "same-bar fill": Mutant(same_bar_fill, "returns", (Kind.SAME_BAR_FILL,)),
    "same-bar fill after costs": Mutant(same_bar_fill_after_costs, "returns", (Kind.SAME_BAR_FILL,)),
    "Viterbi labels": Mutant(viterbi_labels, "regime", (WHOLE, AHEAD)),
    "smoothed labels": Mutant(smoothed_labels, "wild", (WHOLE, AHEAD)),
    "resample leak": Mutant(resample_leak, "hour_close", (Kind.UNFINISHED_PERIOD,)),
    "unfinished half hour": Mutant(unfinished_hour_range, "range", (Kind.UNFINISHED_PERIOD, AHEAD), Frame.POLARS),
    "target in features": Mutant(target_in_features, "encoded", (AHEAD, WHOLE, Kind.UNFINISHED_PERIOD)),
    "target ready-made": Mutant(target_ready_made, "sentiment", (Kind.TARGET_LEAKAGE,), bars=ready_made),
    "survivorship": Mutant(universe_of_today, "rows", (Kind.SURVIVORSHIP,), bars=panel),
    "weights of survivors": Mutant(weights_of_survivors, "weight", (Kind.SURVIVORSHIP, WHOLE, AHEAD), bars=panel),
    "filled backwards": Mutant(filled_backwards, "level", (AHEAD,)),
    "gradient": Mutant(gradient, "slope", (AHEAD,), Frame.NUMPY, farthest=1, nearest=1),
    "rank over all": Mutant(ranked_over_all, "rank", (WHOLE,)),
    "quantile of all": Mutant(quantile_of_all, "signal", (WHOLE, AHEAD)),
    "sorted bins": Mutant(sorted_bins, "bin", (WHOLE, AHEAD), Frame.NUMPY),
    "regression on all": Mutant(regression_on_all, "residual", (WHOLE,), Frame.NUMPY),
    "unfinished bar": Mutant(early_breakout, "enter_at_open", (Kind.UNFINISHED_BAR,), at_open=("enter_at_open",)),
    "Savitzky-Golay": Mutant(savitzky_golay, "smooth", (AHEAD,), Frame.NUMPY),
    "zero-phase filter": Mutant(zero_phase_filter, "smooth", (WHOLE, AHEAD), Frame.NUMPY),
    "rare branch": Mutant(rare_branch, "signal", (AHEAD,), farthest=1, event_cuts=32),
    "from the end": Mutant(from_the_end, "age", (WHOLE,), Frame.NUMPY),
    "populates with maximum": Mutant(populate_pipeline(PopulatesWithMaximum), "enter_long", (WHOLE, AHEAD)),
}
"""By what is wrong with them."""
