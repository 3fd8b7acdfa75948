"""The parts of the documentation that the code knows are the code's: they cannot go stale unseen."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tapeline_common.settings import parse

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = '[[instrument]]\nname = "BTC/USDT"\n'


def _generate() -> ModuleType:
    spec = spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generate()


@pytest.mark.parametrize(
    ("page", "marker", "make"), generate.PAGES, ids=lambda part: str(getattr(part, "__name__", part))
)
def test_a_page_says_what_the_code_says(page: str, marker: str, make: object) -> None:
    """Keys, commands, facts, the hears/says table and the graph are as ``docs/generate.py`` makes them now."""
    assert callable(make)
    assert generate.between(page, marker) == make(), f"{page} is stale: run `python docs/generate.py`"


def test_a_key_without_words_is_refused() -> None:
    """The check can fail: a new key of the file needs a meaning, a meaning needs a key."""
    keys = [key for key, _ in generate.keys_of(generate.settings.Settings)]
    with pytest.raises(generate.Wording, match=r"run\.colour"):
        generate._words("configuration", [*keys, "run.colour"])
    with pytest.raises(generate.Wording, match=r"run\.name"):
        generate._words("configuration", [key for key in keys if key != "run.name"])


def test_a_stale_page_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: other content between the markers is another text than what is made."""
    monkeypatch.setitem(generate.WORDING["configuration"], "run.seed", ["", "A number."])
    assert generate.between("docs/configuration.md", "keys") != generate.configuration()


def test_the_examples_of_the_configuration_page_are_accepted() -> None:
    """Every TOML block of the page is a configuration, alone or with one instrument before it."""
    blocks = (ROOT / "docs/configuration.md").read_text(encoding="utf-8").split("```toml\n")[1:]
    assert blocks
    for block in blocks:
        text = block.partition("```")[0]
        assert parse(text if "[[instrument]]" in text else text + MINIMAL)
