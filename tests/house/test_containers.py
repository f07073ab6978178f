"""What the container files promise:
on this machine only, nothing writable but volumes, nobody is root.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.server import GRACE_S
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def compose(name: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return value


SERVICES: dict[str, dict[str, Any]] = compose("docker-compose.yml")["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert str(service["user"]).split(":")[0] not in ("", "0", "root")
    assert service["init"] is True
    assert service["restart"] == ("no" if name == "seed" else "unless-stopped")
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_this_machine_only_and_keeps_data_in_named_volumes(
    name: str,
) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    volumes = {volume.split(":")[0] for volume in service["volumes"]}
    assert volumes <= compose("docker-compose.yml")["volumes"].keys()


def test_the_service_waits_for_a_healthy_redis_and_both_have_time_to_end() -> None:
    swaprec = SERVICES["swaprec"]
    assert swaprec["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "ping" in " ".join(SERVICES["redis"]["healthcheck"]["test"])
    assert {"--appendonly", "always", "noeviction"} <= set(SERVICES["redis"]["command"])
    assert int(swaprec["stop_grace_period"].removesuffix("s")) > GRACE_S


def test_the_service_gets_only_what_it_knows() -> None:
    known = {f"SWAPREC_{name.upper()}" for name in Settings.model_fields} | {"REDIS_URL", "HOME"}
    # what commands read
    known |= {"SWAPREC_URL", "SWAPREC_DEMO_URL", "SWAPREC_KEY", "SWAPREC_SEED", "SWAPREC_WHEELS"}
    environment = set(SERVICES["swaprec"]["environment"]) | set(
        re.findall(r"\b(SWAPREC_\w+)=", DOCKERFILE)
    )
    assert environment <= known
    assert SERVICES["swaprec"]["environment"]["SWAPREC_INSECURE"] == "${SWAPREC_INSECURE:-1}"


def test_the_gpu_override_changes_only_the_device() -> None:
    override = compose("deploy/compose.gpu.yml")["services"]
    assert override.keys() == {"swaprec"}
    assert override["swaprec"].keys() == {"environment", "deploy"}
    [device] = override["swaprec"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_image_runs_one_process_as_somebody_and_checks_its_life() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+):\d+$", final, re.MULTILINE)
    assert user is not None
    assert user[1] != "0"
    assert re.search(r'^ENTRYPOINT \["swaprec"\]$', final, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', final, re.MULTILINE)
    assert "/livez" in final.partition("HEALTHCHECK")[2]
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.11-slim"}


def test_the_image_is_built_from_the_packages_and_nothing_else() -> None:
    assert IGNORED[1] == "*"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    kept = {line[1:] for line in IGNORED if line.startswith("!")}
    assert kept == {*packages, "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}


def test_the_seed_runs_once_after_the_service_is_healthy_and_can_be_turned_off() -> None:
    seed = SERVICES["seed"]
    assert seed["command"] == ["seed"]
    assert seed["depends_on"] == {"swaprec": {"condition": "service_healthy"}}
    assert seed["environment"]["SWAPREC_SEED"] == "${SWAPREC_SEED:-1}"
    assert "ports" not in seed
    assert all("seed" not in service.get("depends_on", {}) for service in SERVICES.values())


def test_the_image_brings_the_seeds_data_checked_by_digest() -> None:
    assert "--require-hashes --requirement demo_wheels.txt" in DOCKERFILE
    assert "COPY swaprec/demo_wheels.txt" in DOCKERFILE
    wheels = (ROOT / "swaprec" / "demo_wheels.txt").read_text("utf-8")
    assert len(re.findall(r"^\S+==\S+ --hash=sha256:[0-9a-f]{64}$", wheels, re.MULTILINE)) == 2
