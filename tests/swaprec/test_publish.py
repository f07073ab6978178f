"""`swaprec publish`: from a run, or from a folder that was handed over, to a running service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swaprec.client import Client
from swaprec.evaluation import run_config
from swaprec.publish import handover, to_folder
from tests.swaprec.conftest import World
from training.data import load_dataset


def swaprec(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swaprec", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("by_folder", [False, True])
def test_catalog_probes_and_bundle_are_published_and_score_as_the_trainer_said(
    client: Client, url: str, world: World, tmp_path: Path, by_folder: bool
) -> None:
    source = str(world.run)
    if by_folder:
        written = swaprec("publish", source, "--to", str(tmp_path / "store"))
        source = written.stdout.strip()
        assert sorted(path.name for path in Path(source).iterdir()) == [
            "bundle.safetensors",
            "handover.json",
            "items.ndjson",
            "probes.json",
        ]
    done = swaprec("publish", source, "--url", url)
    assert (done.returncode, done.stdout.strip()) == (0, "walk@1"), done.stderr
    test = json.loads((world.run / "result.json").read_text("utf-8"))["test"]
    found = client.evaluate("walk")
    dataset = load_dataset(run_config(world.run).data)
    assert found["probes"] == len(dataset.sequences)
    assert test["hr_pessimistic"] <= found["hr"] <= test["hr_optimistic"]
    assert client.domain("walk")["live_version"] == 1
    asked = swaprec("probe", "walk", "--url", url, "--json")
    assert json.loads(asked.stdout)["hr"] == found["hr"]


def test_a_handed_over_folder_is_replaced_whole(world: World, tmp_path: Path) -> None:
    place = to_folder(handover(world.run), tmp_path)
    (place / "items.ndjson").write_text("torn", "utf-8")
    again = to_folder(handover(world.run), tmp_path)
    assert again == place
    assert len((place / "items.ndjson").read_text("utf-8").splitlines()) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["walk"]


def test_what_is_no_run_is_named(tmp_path: Path, world: World) -> None:
    done = swaprec("publish", str(tmp_path))
    assert done.returncode == 2
    assert "bundle.safetensors is not there" in done.stderr
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    shutil.copy(world.run / "bundle.safetensors", lonely)
    assert swaprec("publish", str(lonely)).returncode != 0
