"""A trained tiny run and a real service to push it to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.settings import Settings
from swaprec.client import Client
from tests.service.conftest import running
from tests.tiny import tiny_backbone
from tests.training.conftest import tiny_log
from training.run import run
from training.run_file import parse_config


@dataclass(frozen=True)
class World:
    """A trained run's folder, the backbone it fits, and the log it was trained on."""

    run: Path
    backbone: Path
    log: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    tiny_backbone(folder / "backbone")
    raw = {
        "stage": "adapt",
        "domain": "walk",
        "output": str(folder / "run"),
        "data": {"folder": str(tiny_log(folder / "log"))},
    }
    adapter = {"item": {"kind": "houlsby", "hidden": 8}, "user": {"kind": "houlsby", "hidden": 4}}
    train = {"epochs": 6, "lr": 5e-3, "loss": "full_softmax"}
    run(
        parse_config(
            {
                **raw,
                "backbone": {"folder": str(folder / "backbone")},
                "adapter": adapter,
                "train": train,
            }
        )
    )
    return World(folder / "run", folder / "backbone", folder / "log")


@pytest.fixture
def url(tmp_path: Path, world: World) -> Iterator[str]:
    with running(Settings(data=tmp_path / "data", backbones=(world.backbone,), port=0)) as http:
        yield str(http.base_url).rstrip("/")


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client
