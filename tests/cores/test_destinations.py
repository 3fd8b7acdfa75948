"""``destinations.toml``: what is right is read, what is wrong is named with its fix, and no URL is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeline_common.destinations import Destination, load_destinations, parse_destinations
from tapeline_common.settings import ConfigurationInvalid, environment
from tapeline_notifier.messenger import AppriseMessenger

CANARY = "c4n4ry-s3cr3t"

GOOD = f"""
[[destination]]
name = "phone"
url = "json://{CANARY}@localhost/{CANARY}"
sends = ["page", "control"]

[[destination]]
name = "mail"
url = "mailtos://{CANARY}"
sends = ["trade", "model", "ticket"]
per_minute = 2
"""


def test_destinations_are_read_in_order() -> None:
    """Every key, and the default of the one that may be left out."""
    url = f"json://{CANARY}@localhost/{CANARY}"
    assert parse_destinations(GOOD) == (
        Destination("phone", url, ("page", "control"), 20),
        Destination("mail", f"mailtos://{CANARY}", ("trade", "model", "ticket"), 2),
    )


@pytest.mark.parametrize("text", ["", "# nobody yet\n"])
def test_an_empty_file_names_nobody(text: str, tmp_path: Path) -> None:
    """And so does one that is not there: a warning is for who starts, not a crash."""
    assert parse_destinations(text) == ()
    assert load_destinations(tmp_path / "none.toml") == ()


WRONG = [
    (GOOD.replace('name = "mail"', 'name = "phone"'), r"key destination\[0\]\.name is 'phone': give each"),
    (GOOD.replace('"mail"', '"my mail"'), r"key destination\[1\]\.name is 'my mail': use letters"),
    (GOOD.replace('"trade"', '"trades"'), r"key destination\[1\]\.sends is 'trades': use some of page, ticket"),
    (GOOD.replace('["page", "control"]', "[]"), r"key destination\[0\]\.sends is empty: use some of page"),
    (GOOD.replace("per_minute = 2", "per_minute = 0"), r"key destination\[1\]\.per_minute is 0: use 1 to 600"),
    (GOOD.replace("per_minute = 2", 'per_minute = "2"'), r"key destination\[.*\]\.per_minute: Expected `int`"),
    (GOOD.replace("sends", "send"), r"key destination\[.*\]: Object contains unknown field `send`"),
    (GOOD.replace("json://", ""), r"key destination\[0\]\.url is no URL \(it is not shown\): use an apprise URL"),
    (GOOD.replace('url = "json', "url = json"), r"not valid TOML"),
    (GOOD.replace("[[destination]]", "[[target]]"), r"unknown field `target`"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_named_with_its_fix(text: str, message: str) -> None:
    """File, key and fix; a URL is never part of it, nor of the traceback."""
    with pytest.raises(ConfigurationInvalid, match=message) as refused:
        parse_destinations(text)
    assert str(refused.value).startswith("destinations.toml: ")
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("url", [f"nosuch://{CANARY}", f"slack://{CANARY}", f"mailto://{CANARY}", f"http s://{CANARY}"])
def test_a_url_that_no_messenger_knows_is_refused_unseen(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Apprise says no, in words of ours: neither the message nor a log of a library quotes it."""
    with pytest.raises(ConfigurationInvalid, match=r"key destination\[3\]\.url of 'phone' is no URL that appr") as no:
        AppriseMessenger(3, Destination("phone", url, ("page",)))
    assert CANARY not in str(no.value) + "".join(capfd.readouterr())


def test_a_destination_does_not_show_its_url() -> None:
    """In a log or an assertion it is printed without."""
    assert CANARY not in repr(parse_destinations(GOOD))


def test_the_variables_of_a_notifier() -> None:
    """Read like all others; a port that is none is refused by name."""
    env = environment({"TAPELINE_NOTIFIER_PORT": "9110", "TAPELINE_WATCHDOG_S": "180"})
    assert (env.notifier_port, env.watchdog_s, env.notifier_host) == (9110, 180.0, "127.0.0.1")
    with pytest.raises(ConfigurationInvalid, match="TAPELINE_NOTIFIER_PORT='oak'"):
        environment({"TAPELINE_NOTIFIER_PORT": "oak"})
