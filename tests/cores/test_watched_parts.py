"""The small parts that metrics are made of: what the configuration names, kinds of trouble, volumes, rate budgets."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.errors import AuthorizationError, SlowConsumerError, StaleConnectionError
from tests.cores.test_provision import variables, write

from tapeline_common.measures import WAITS, Kind, Measure, unit_of
from tapeline_common.nats_client import Away, ServerSaid, TooMuchWaits
from tapeline_common.nats_trouble import NatsTrouble, kind_of
from tapeline_common.process import configured
from tapeline_common.settings import ConfigurationInvalid, parse, volumes
from tapeline_marketdata.exchange_figures import BUDGET_WINDOW_S, ExchangeFigures, RequestOutcome

CONFIG = """
[[instrument]]
name = "BTC/USDT"
[[instrument]]
name = "ETH/USDT"
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
[[strategy.preset]]
name = "quick"
"""


def test_the_configuration_names_what_belongs_together() -> None:
    """An instrument with its venue, a strategy with its instruments and its presets; an exchange where one is asked."""
    shared = {"currency": "USDT"}
    presets = CONFIG + "parameters = { fast = 2 }\n"
    assert configured(parse(presets)) == [
        {"instrument": "BTC-USDT_sim", "venue": "sim", **shared},
        {"instrument": "ETH-USDT_sim", "venue": "sim", **shared},
        {"strategy": "ema", "instrument": "BTC-USDT_sim", **shared},
        {"strategy": "ema", "preset": "quick"},
    ]
    asked = configured(parse('[feed]\nkind = "exchange"\nexchange = "kraken"\n' + presets))
    assert [row.get("exchange") for row in asked] == ["kraken", "kraken", "kraken", None]


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (ServerSaid('Permissions Violation for Publish to "tape.x"'), NatsTrouble.PERMISSION_VIOLATION),
        (ServerSaid("Authorization Violation"), NatsTrouble.AUTHENTICATION),
        (ServerSaid("User Authentication Expired"), NatsTrouble.AUTHENTICATION),
        (AuthorizationError(), NatsTrouble.AUTHENTICATION),
        (SlowConsumerError("a", "b", 1, None), NatsTrouble.SLOW_CONSUMER),
        (ServerSaid("Slow Consumer"), NatsTrouble.SLOW_CONSUMER),
        (StaleConnectionError(), NatsTrouble.CONNECTION),
        (Away("the connection to NATS ended"), NatsTrouble.CONNECTION),
        (TooMuchWaits("much"), NatsTrouble.CONNECTION),
        (ConnectionRefusedError(), NatsTrouble.CONNECTION),
        (TimeoutError(), NatsTrouble.CONNECTION),
        (ServerSaid("Invalid Subject"), NatsTrouble.OTHER),
        (ValueError("a listener stumbled"), NatsTrouble.OTHER),
    ],
)
def test_trouble_on_the_bus_is_of_a_kind(trouble: Exception, kind: NatsTrouble) -> None:
    """Both clients' errors, by what they are or what the server said."""
    assert kind_of(trouble) is kind


def test_volumes_are_named_paths() -> None:
    assert volumes("") == {}
    assert volumes("data=/var/lib/tapeline, logs=/var/log") == {
        "data": Path("/var/lib/tapeline"),
        "logs": Path("/var/log"),
    }


@pytest.mark.parametrize("wrong", ["data", "=x", "data=", "data=/a,data=/b"])
def test_volumes_that_are_none_are_refused_by_name(wrong: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="TAPELINE_DISKS"):
        volumes(wrong)


def test_containers_are_told_what_the_ledger_watches(tmp_path: Path) -> None:
    """The ledger alone; a path of the container."""
    write(tmp_path)
    told = variables(tmp_path, "ledger")
    assert (told.nats_monitor_url, volumes(told.disks)) == ("http://nats:8222", {"data": Path("/")})
    assert (variables(tmp_path, "risk").nats_monitor_url, variables(tmp_path, "risk").disks) == ("", "")


def test_the_rate_budget_is_that_of_the_last_minute() -> None:
    """Weights times what one of them takes, as a share; what is older does not count."""
    figures = ExchangeFigures()
    assert figures.budget_used(0.0) == 0.0
    for second in range(10):
        figures.spend(3.0, 0.5, float(second))
    assert figures.budget_used(9.0) == pytest.approx(10 * 3.0 * 0.5 / BUDGET_WINDOW_S)
    assert figures.budget_used(BUDGET_WINDOW_S + 4.5) == pytest.approx(5 * 3.0 * 0.5 / BUDGET_WINDOW_S)
    assert figures.budget_used(1_000.0) == 0.0


def test_requests_are_counted_with_their_times() -> None:
    figures = ExchangeFigures()
    figures.count(RequestOutcome.OK, 0.2)
    figures.count(RequestOutcome.TIMEOUT, 20.0)
    assert dict(figures.requests) == {RequestOutcome.OK: 1, RequestOutcome.TIMEOUT: 1}
    assert (sum(figures.seconds.counts), figures.seconds.sum, figures.seconds.edges) == (2, 20.2, WAITS)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("tapeline_x_time_seconds", "Unix seconds"),
        ("tapeline_x_seconds", "seconds"),
        ("process_cpu_seconds_total", "seconds"),
        ("tapeline_x_ratio", "fraction"),
        ("tapeline_x", "-"),
    ],
)
def test_a_unit_is_read_off_the_name(name: str, unit: str) -> None:
    """The longest ending that fits; what is given goes first."""
    kind = Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
    assert unit_of(Measure(name=name, kind=kind, text="x")) == unit
    assert unit_of(Measure(name=name, kind=kind, text="x", unit="sheep")) == "sheep"
