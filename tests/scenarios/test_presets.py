"""Presets are centres of plateaus, apart from each other, and say where they come from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tapeline_lab.presets.choosing import choose, places_of, plateaus_of
from tapeline_lab.presets.command import presets
from tapeline_lab.presets.trials import Setting


def setting(fast: int, slow: int, score: float) -> Setting:
    return Setting({"fast": fast, "slow": slow}, score, 1, {"net_profit": score})


def surface() -> list[Setting]:
    """Two hills of which one is broad (around 8, 30), one narrow peak in a hole (at 14, 60), nothing elsewhere."""
    found = []
    for fast in range(5, 15):
        for slow in range(20, 65, 5):
            broad = max(0.0, 100.0 - 15.0 * abs(fast - 8) - 3.0 * abs(slow - 30))
            second = max(0.0, 70.0 - 15.0 * abs(fast - 12) - 3.0 * abs(slow - 50))
            score = 500.0 if (fast, slow) == (14, 60) else max(broad, second) - 20.0
            found.append(setting(fast, slow, score))
    return found


def test_centres_of_hills_are_chosen_and_a_lonely_peak_is_not() -> None:
    chosen = choose(surface(), 2, 0.25, needs_gain=True)
    first, second = (one.setting.parameters for one in chosen)
    assert abs(int(first["fast"]) - 8) <= 1
    assert abs(int(first["slow"]) - 30) <= 5
    assert abs(int(second["fast"]) - 12) <= 1
    assert all(one.setting.score < 500 for one in chosen)


def test_choices_are_apart_from_each_other() -> None:
    """Whatever is asked for, no two are closer than that; fewer are chosen rather than two alike."""
    chosen = choose(surface(), 50, 0.3, needs_gain=True)
    assert 2 <= len(chosen) < 50
    assert all(one.apart is None or one.apart >= 0.3 for one in chosen)


def test_nothing_is_chosen_where_nothing_earns() -> None:
    losing = [setting(fast, 20, -1.0) for fast in range(10)]
    assert choose(losing, 3, 0.2, needs_gain=True) == []
    assert len(choose(losing, 3, 0.2, needs_gain=False)) == 3


def test_parameters_that_were_not_varied_do_not_count() -> None:
    settings = [setting(fast, 20, 1.0) for fast in (5, 7, 9)]
    assert places_of(settings).tolist() == [[0.0], [0.5], [1.0]]
    assert plateaus_of(settings, places_of(settings))[1] == 3


def sweep(path: Path, **changes: Any) -> Path:
    """A file such as ``tapeline sweep --json`` prints."""
    rows = [
        {
            "strategy": "ema_cross",
            "parameters": one.parameters,
            "instrument": "BTC/USD",
            "timeframe": "1h",
            "net_profit": str(one.score),
            "sharpe": 1.25,
            "max_drawdown": 0.1,
            "trades": 12,
        }
        for one in surface()
    ]
    path.write_text(json.dumps({"rank_by": "net_profit", "results": rows, **changes}), encoding="utf-8")
    return path


def test_the_file_is_what_a_configuration_takes(tmp_path: Path) -> None:
    """Valid TOML below a ``[[strategy]]``, with the digest of the sweep in a comment."""
    out = tmp_path / "presets.toml"
    result = CliRunner().invoke(
        presets, ["--from", str(sweep(tmp_path / "s.json")), "--top", "2", "-o", str(out), "--json"]
    )
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    table = tomllib.loads("[[strategy]]\n" + text)["strategy"][0]["preset"]
    told = json.loads(result.stdout)["presets"]
    assert table == [{"name": one["name"], "parameters": one["parameters"]} for one in told]
    assert "sha256" in text
    assert "no forecast" in text


def test_a_written_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "presets.toml"
    out.write_text("mine")
    call = ["--from", str(sweep(tmp_path / "s.json")), "-o", str(out)]
    assert CliRunner().invoke(presets, call).exit_code == 1
    assert out.read_text() == "mine"
    assert CliRunner().invoke(presets, [*call, "--force"]).exit_code == 0


@pytest.mark.parametrize("changes", [{"results": []}, {"rank_by": "luck"}, {"results": [{"strategy": "x"}]}])
def test_what_is_no_sweep_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = sweep(tmp_path / "s.json", **changes)
    assert CliRunner().invoke(presets, ["--from", str(path)]).exit_code == 4
    assert CliRunner().invoke(presets, ["--from", str(tmp_path / "none.json")]).exit_code == 4
