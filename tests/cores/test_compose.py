"""The compose files are valid and mean what they promise: own keys only, no way out, nothing to write to."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapeline_common.embedded import ALLOCATOR
from tapeline_common.settings import Environment
from tapeline_common.wiring import installed_services

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "compose.backtest.yml")
OURS = tuple(sorted(installed_services()))
REACH_OUTSIDE = {"marketdata", "execution", "notifier"}


def parsed(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


STACK = parsed("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
EVERY = [(file, name) for file in FILES for name in parsed(file)["services"]]


def compose_program() -> list[str] | None:
    """Compose as a plugin, as a program, or as ``TAPELINE_COMPOSE`` names it."""
    candidates = [shlex.split(os.environ.get("TAPELINE_COMPOSE", "")), ["docker", "compose"], ["docker-compose"]]
    for command in candidates:
        if (
            command
            and shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True).returncode == 0
        ):
            return command
    return None


def mounted(service: dict[str, Any]) -> dict[str, str]:
    """Named volumes of a service: name → where."""
    parts = [re.split(r":(?![-?])", volume) for volume in service.get("volumes", []) if volume[0] not in "$./"]
    return {part[0]: part[1] for part in parts}


@pytest.mark.parametrize("file", FILES)
def test_compose_itself_accepts_the_file(file: str) -> None:
    """``docker compose config``; what follows here is checked with or without it."""
    program = compose_program()
    if program is None:
        pytest.skip("no docker compose on this machine (TAPELINE_COMPOSE can name one)")
    checked = subprocess.run(
        [*program, "-f", file, "config", "--quiet"],
        cwd=ROOT,
        env={**os.environ, "BARS": "bars.parquet"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


def test_every_service_has_its_container() -> None:
    """Folder, package suffix and compose service are the same word."""
    assert {name for name in SERVICES if name in OURS} == set(OURS)
    assert {name: SERVICES[name]["build"]["args"]["SERVICE"] for name in OURS} == {name: name for name in OURS}


def test_networks_volumes_and_configs_are_declared_and_used() -> None:
    """No name is used that is not declared, and none declared that nobody uses; files of configs exist."""
    for kind in ("networks", "volumes", "configs"):
        used: set[str] = set()
        for service in SERVICES.values():
            if kind == "volumes":
                used.update(mounted(service), _default_volumes(service))
            elif kind == "configs":
                used.update(config["source"] for config in service.get("configs", []))
            else:
                used.update(service.get("networks", []))
        assert used == set(STACK[kind]), kind
    for config in STACK["configs"].values():
        assert (ROOT / re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", config["file"])).is_file()


def _default_volumes(service: dict[str, Any]) -> list[str]:
    """Volumes that are mounted where a setting names no folder."""
    listed = [str(volume) for volume in service.get("volumes", [])]
    return [found[1] for volume in listed if (found := re.match(r"\$\{\w+:-([a-z]+)\}:", volume))]


@pytest.mark.parametrize("file", FILES)
def test_folders_that_are_mounted_exist(file: str) -> None:
    """The engine would make a missing one, as root, and mount nothing of what was meant."""
    listed = [volume for service in parsed(file)["services"].values() for volume in service.get("volumes", [])]
    folders = [volume.partition(":")[0] for volume in listed if volume.startswith(("./", "/"))]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_dependencies_name_services_that_can_meet_the_condition() -> None:
    """Who must be healthy has a health check; who must be done is not restarted."""
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_started":
                assert name == "restarter", (name, other)
            elif wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (name, other)
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no", (name, other)


def test_only_exchanges_and_messengers_are_reached_outside() -> None:
    """The bus and the database lead nowhere; the console's network lets this machine in and nothing out."""
    networks = STACK["networks"]
    closed = {name for name, network in networks.items() if network.get("internal")}
    assert closed == {"bus", "database", "reading", "alerts"}
    assert networks["console"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert {name for name, service in SERVICES.items() if "outside" in service.get("networks", [])} == REACH_OUTSIDE
    assert {name for name, service in SERVICES.items() if "database" in service.get("networks", [])} == {
        "postgres",
        "migrate",
        "ledger",
        "operator",
    }
    assert {name for name, service in SERVICES.items() if "reading" in service.get("networks", [])} == {
        "postgres",
        "grafana",
    }
    for name, service in SERVICES.items():
        alone = name in ("provision", "restarter")
        assert service.get("network_mode") == "none" if alone else service["networks"], name


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_a_container_can_do_as_little_as_it_needs(file: str, name: str) -> None:
    """No root, no capability, nothing to write to but its volumes, ports on this machine only, images by tag."""
    service = parsed(file)["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert (service["user"] in ("root", "0", "0:0")) == (name == "restarter")
    assert any(place.startswith("/tmp:") for place in service["tmpfs"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert re.fullmatch(r"[a-z/]+:(?!latest)\S+", service["image"])


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_a_container_has_bounds(file: str, name: str) -> None:
    """Memory, processes and logs end somewhere: one container cannot take the machine from the others."""
    service = parsed(file)["services"][name]
    assert re.fullmatch(r"\d+[mg]", re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["mem_limit"]))
    assert service["pids_limit"] <= 512
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["init"] is True


def test_one_container_holds_the_engines_socket_and_only_if_asked_for() -> None:
    """Whoever holds it is root on the machine: it has no network, no key and no other volume, and ends first."""
    holders = [name for name, one in SERVICES.items() if any("docker.sock" in str(v) for v in one.get("volumes", []))]
    assert holders == ["restarter"]
    restarter = SERVICES["restarter"]
    assert restarter["profiles"] == ["restarter"]
    assert restarter["network_mode"] == "none"
    assert len(restarter["volumes"]) == 1
    running = {name for name, one in SERVICES.items() if one.get("restart") != "no"} - {"restarter"}
    assert set(restarter["depends_on"]) == running


ONE_SHOT = ("provision", "migrate", "operator")


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONE_SHOT])
def test_what_runs_on_is_watched_and_restarted(name: str) -> None:
    """A health check and a restart policy for everything but the one-shot containers."""
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_a_process_sees_its_own_keys_only() -> None:
    """One volume of keys per process, read only; only the container that draws them sees them all."""
    for name, service in SERVICES.items():
        keys = {volume: place for volume, place in mounted(service).items() if volume.endswith("-keys")}
        if name == "provision":
            assert keys == {f"{place.rpartition('/')[2]}-keys": place for place in keys.values()}
            assert set(keys) == {volume for volume in STACK["volumes"] if volume.endswith("-keys")}
        else:
            assert keys in ({}, {f"{name}-keys": "/run/tapeline"}), name
            read_only = [volume for volume in service.get("volumes", []) if "-keys:" in volume]
            assert all(volume.endswith(":ro") for volume in read_only)


def test_the_image_prepares_every_folder_that_becomes_a_volume() -> None:
    """A fresh volume takes over the owner of the image's folder: without one, provision could not write."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    listed = re.search(r"for name in ([a-z \\\n]+); do", dockerfile)
    assert listed is not None
    places = {place for volume, place in mounted(SERVICES["provision"]).items() if volume.endswith("-keys")}
    assert {f"/provision/{name}" for name in listed[1].replace("\\", " ").split()} == places


def test_variables_are_those_a_process_reads() -> None:
    """``TAPELINE_*`` in a service's environment is a field of ``Environment``: a misspelt one would be ignored."""
    known = {f"TAPELINE_{field.upper()}" for field in Environment.__struct_fields__}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_settings_are_documented() -> None:
    """Every ``${VARIABLE}`` has its line in .env.example, with the same default; and no line is left over."""
    found: dict[str, str] = {}
    for file in FILES:
        for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / file).read_text()):
            assert found.setdefault(name, default) == default, f"{name} has two defaults"
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == found


def test_the_dockerfile_builds_everywhere() -> None:
    """No feature of a newer builder, no other registry's image for uv, no root, nothing unpinned."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert not re.search(r"^# syntax|<<|--link|--chmod|latest", text, re.MULTILINE)
    assert set(re.findall(r"--mount=(\S+)", text)) == {"type=cache,id=tapeline-uv,target=/var/cache/uv"}
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == [
        "python:${PYTHON_VERSION}-slim",
        "common",
        "python:${PYTHON_VERSION}-slim",
    ]
    assert re.findall(r"^USER (.+)", text, re.MULTILINE) == ["10001:10001"]
    assert re.search(r"uv==\d", text)
    assert "--constraint deploy/requirements.txt --build-constraint deploy/requirements.txt" in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in source.split()), source


def test_memory_is_given_in_the_image_as_it_is_without() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()

    assert dict(re.findall(rf"\b({'|'.join(ALLOCATOR)})=(\S+)", text)) == ALLOCATOR


def test_prometheus_scrapes_every_service() -> None:
    """One target per service, on the port that provision tells them; and itself, and who passes its alerts on."""
    jobs = {job["job_name"]: job for job in parsed("deploy/prometheus/prometheus.yml")["scrape_configs"]}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert set(targets["tapeline"]) == {f"{name}:9100" for name in OURS}
    assert targets["alertmanager"] == ["alertmanager:9093"]
    assert targets["prometheus"] == ["localhost:9090"]
