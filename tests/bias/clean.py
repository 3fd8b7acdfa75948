"""Research pipelines that know the past only: none of them may raise an alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from scipy.signal import butter, lfilter
from tests.bias.bars import market, panel, with_honest_column

from tapeline_lab.bias.subjects import Pipeline, populate_pipeline
from tapeline_lab.bias.tables import Frame, Table
from tapeline_regime.features import FEATURE_NAMES, feature_rows
from tapeline_regime.filtering import filter_series
from tapeline_regime.model import RegimeModel


@dataclass(frozen=True)
class Clean:
    pipeline: Pipeline
    frame: Frame = Frame.PANDAS
    bars: Callable[[], Table] = market
    at_open: tuple[str, ...] = ()


def averages(bars: pd.DataFrame) -> dict[str, Any]:
    close = bars.close
    return {
        "sma": close.rolling(20).mean(),
        "ema": close.ewm(span=12, adjust=False).mean(),
        "wide": close.ewm(20).mean(),
    }


def rsi(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.diff()
    gain, loss = moves.clip(lower=0).ewm(alpha=1 / 14).mean(), (-moves.clip(upper=0)).ewm(alpha=1 / 14).mean()
    return {"rsi": 100 - 100 / (1 + gain / loss)}


def macd(bars: pd.DataFrame) -> dict[str, Any]:
    line = bars.close.ewm(span=12, adjust=False).mean() - bars.close.ewm(span=26, adjust=False).mean()
    signal = line.ewm(span=9, adjust=False).mean()
    return {"line": line, "signal": signal, "cross": (line > signal).astype(int)}


def bollinger(bars: pd.DataFrame) -> dict[str, Any]:
    middle, width = bars.close.rolling(20).mean(), bars.close.rolling(20).std()
    return {"z": (bars.close - middle) / width}


def true_range(bars: pd.DataFrame) -> dict[str, Any]:
    before = bars.close.shift(1)
    span = pd.concat([bars.high - bars.low, (bars.high - before).abs(), (bars.low - before).abs()], axis=1).max(axis=1)
    return {"atr": span.ewm(alpha=1 / 14, adjust=False).mean()}


def donchian(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(
        pl.col("high").rolling_max(20).shift(1).alias("upper"), pl.col("low").rolling_min(20).shift(1).alias("lower")
    )


def stochastic(bars: pl.DataFrame) -> pl.DataFrame:
    low, high = pl.col("low").rolling_min(14), pl.col("high").rolling_max(14)
    return bars.select(((pl.col("close") - low) / (high - low)).alias("k"))


def expanding_z(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change()
    return {"z": (moves - moves.expanding().mean()) / moves.expanding().std()}


def rolling_rank(bars: pd.DataFrame) -> dict[str, Any]:
    return {"rank": bars.volume.rolling(50).rank(pct=True), "quantile": bars.volume.rolling(50).quantile(0.9)}


def hour_before(bars: pd.DataFrame) -> dict[str, Any]:
    """The last hour that has closed."""
    hours = bars.set_index("ts").close.resample("1h").last().shift(1)
    return {"hour_close": hours.reindex(bars.ts.dt.floor("1h")).to_numpy()}


def closed_hours(bars: pd.DataFrame) -> pd.DataFrame:
    """Rows of their own, each named by the minute whose close completes it."""
    grouped = bars.set_index("ts").close.resample("1h").agg(["last", "count"])
    whole = grouped[grouped["count"] == 60]
    return pd.DataFrame({"ts": whole.index + pd.Timedelta("59min"), "hour_close": whole["last"].to_numpy()})


def rolling_slope(bars: dict[str, Any]) -> dict[str, Any]:
    close, window = bars["close"], 30
    slope = np.full(len(close), np.nan)
    for row in range(window - 1, len(close)):
        slope[row] = np.polyfit(np.arange(window), close[row - window + 1 : row + 1], 1)[0]
    return {"slope": slope}


def fitted_on_the_past(bars: dict[str, Any]) -> dict[str, Any]:
    """Walk-forward: a line through all earlier bars, fitted anew every hundred."""
    close = bars["close"]
    said = np.full(len(close), np.nan)
    for start in range(100, len(close), 100):
        line = np.polyfit(np.arange(start), close[:start], 1)
        rows = np.arange(start, min(start + 100, len(close)))
        said[rows] = close[rows] - np.polyval(line, rows)
    return {"residual": said}


def causal_filter(bars: dict[str, Any]) -> dict[str, Any]:
    return {"smooth": lfilter(*butter(2, 0.2), bars["close"])}


def balance_volume(bars: dict[str, Any]) -> dict[str, Any]:
    moves = np.sign(np.diff(bars["close"], prepend=bars["close"][0]))
    return {"obv": np.cumsum(moves * bars["volume"])}


def day_vwap(bars: pd.DataFrame) -> dict[str, Any]:
    day = bars.ts.dt.floor("1D")
    worth = (bars.close * bars.volume).groupby(day).cumsum()
    return {"vwap": worth / bars.volume.groupby(day).cumsum()}


def filled_forward(bars: pd.DataFrame) -> dict[str, Any]:
    return {"level": bars.close.where(bars.volume > 19.0).ffill()}


def next_bar_fill(bars: pd.DataFrame) -> dict[str, Any]:
    moves = bars.close.pct_change().fillna(0.0)
    position = (moves > 0).astype(float)
    return {"position": position, "returns": position.shift(1).fillna(0.0) * moves}


def buy_and_hold(bars: pd.DataFrame) -> dict[str, Any]:
    return {"position": np.ones(len(bars)), "returns": bars.close.pct_change().fillna(0.0)}


def seeded_noise(bars: dict[str, Any]) -> dict[str, Any]:
    return {"noise": np.random.Generator(np.random.PCG64(3)).normal(size=len(bars["close"]))}


def kalman_level(bars: dict[str, Any]) -> dict[str, Any]:
    level, spread = bars["close"][0], 1.0
    said = []
    for close in bars["close"].tolist():
        spread += 0.01
        gain = spread / (spread + 0.5)
        level, spread = level + gain * (close - level), (1 - gain) * spread
        said.append(level)
    return {"level": said}


def known_at_open(bars: pd.DataFrame) -> dict[str, Any]:
    """Enters at the open, on what the bar before has shown."""
    breakout = (bars.close > bars.high.rolling(20).max().shift(1)).shift(1).fillna(False).astype(float)
    return {"enter_at_open": breakout, "gap": bars.open / bars.close.shift(1) - 1}


def momentum_of_panel(bars: pd.DataFrame) -> pd.DataFrame:
    bars["momentum"] = bars.groupby("instrument").close.pct_change(10)
    bars["place"] = bars.groupby("ts").momentum.rank()
    return bars[["ts", "instrument", "momentum", "place"]]


def universe_at_the_time(bars: pd.DataFrame) -> pd.DataFrame:
    traded = bars.groupby("instrument").volume.cumsum() / (bars.groupby("instrument").cumcount() + 1)
    kept = bars[traded > 10.0].copy()
    kept["weight"] = 1.0 / kept.groupby("ts").close.transform("count")
    return kept[["ts", "instrument", "weight"]]


def regime_features(bars: dict[str, Any]) -> dict[str, Any]:
    rows = feature_rows(bars["close"])
    return {name: rows[:, place] for place, name in enumerate(FEATURE_NAMES)}


def regime_filter(bars: dict[str, Any]) -> dict[str, Any]:
    """The regime service's own features and filter, under a model fitted long ago."""
    model = RegimeModel(
        feature_names=FEATURE_NAMES,
        scaler_mean=(0.0, -6.0),
        scaler_scale=(0.004, 0.5),
        start=(1 / 3, 1 / 3, 1 / 3),
        transition=((0.97, 0.015, 0.015), (0.015, 0.97, 0.015), (0.015, 0.015, 0.97)),
        means=((0.3, 0.0), (-0.3, 1.0), (0.0, -1.0)),
        variances=((0.8, 0.6), (2.0, 0.8), (0.4, 0.6)),
    )
    with np.errstate(invalid="ignore"):
        beliefs, log_likelihoods = filter_series(model, feature_rows(bars["close"]))
    return {"bull": beliefs[:, 0], "bear": beliefs[:, 1], "chop": beliefs[:, 2], "log_likelihood": log_likelihoods}


class PopulatesCleanly:
    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe["fast"] = dataframe["close"].ewm(span=10, adjust=False).mean()
        dataframe["slow"] = dataframe["close"].ewm(span=30, adjust=False).mean()
        return dataframe

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe.loc[dataframe["fast"] > dataframe["slow"], "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        dataframe.loc[dataframe["fast"] < dataframe["slow"], ["exit_long", "exit_tag"]] = (1, "crossed")
        return dataframe


def honest_column(bars: pd.DataFrame) -> dict[str, Any]:
    return {"sentiment": bars.sentiment}


def honest() -> Table:
    return with_honest_column(market())


CLEAN: dict[str, Clean] = {
    "averages": Clean(averages),
    "RSI": Clean(rsi),
    "MACD": Clean(macd),
    "Bollinger": Clean(bollinger),
    "true range": Clean(true_range),
    "Donchian": Clean(donchian, Frame.POLARS),
    "stochastic": Clean(stochastic, Frame.POLARS),
    "expanding z": Clean(expanding_z),
    "rolling rank": Clean(rolling_rank),
    "hour before": Clean(hour_before),
    "closed hours": Clean(closed_hours),
    "rolling slope": Clean(rolling_slope, Frame.NUMPY, lambda: market(300)),
    "fitted on the past": Clean(fitted_on_the_past, Frame.NUMPY),
    "causal filter": Clean(causal_filter, Frame.NUMPY),
    "on-balance volume": Clean(balance_volume, Frame.NUMPY),
    "VWAP of the day": Clean(day_vwap),
    "filled forward": Clean(filled_forward),
    "fill at the next bar": Clean(next_bar_fill),
    "buy and hold": Clean(buy_and_hold),
    "seeded noise": Clean(seeded_noise, Frame.NUMPY),
    "Kalman level": Clean(kalman_level, Frame.NUMPY),
    "known at the open": Clean(known_at_open, at_open=("enter_at_open", "gap")),
    "momentum of a panel": Clean(momentum_of_panel, bars=panel),
    "universe at the time": Clean(universe_at_the_time, bars=panel),
    "regime features": Clean(regime_features, Frame.NUMPY),
    "regime filter": Clean(regime_filter, Frame.NUMPY),
    "populates cleanly": Clean(populate_pipeline(PopulatesCleanly)),
    "honest column": Clean(honest_column, bars=honest),
}
