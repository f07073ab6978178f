"""Several processes train as one: real ones, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_store.bundle import read_bundle
from tests.tiny import tiny_backbone
from tests.training.runs import HOULSBY, adapt
from training.config import RunConfig
from training.run import run

FOLDER = Path(__file__).parent


def launch(
    config: RunConfig, folder: Path, *words: str, processes: int = 2, die_after: int = 0
) -> subprocess.CompletedProcess[str]:
    described = folder / "run.json"
    described.write_text(config.model_dump_json(), "utf-8")
    line = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"}
    environment |= {"DIE_AFTER": str(die_after)} if die_after else {}
    script = [str(FOLDER / "two_processes.py"), str(described), *words]
    return subprocess.run(
        [*line, *script], capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["bce", "full_softmax"])
def test_two_processes_take_the_steps_of_one(log: Path, tmp_path: Path, loss: str) -> None:
    tiny_backbone(tmp_path / "backbone")
    settings: dict[str, Any] = {"loss": loss, "epochs": 2, "dropout": 0.0, "batch_size": 64}
    alone = run(adapt(log, tmp_path / "backbone", tmp_path / "alone", HOULSBY, **settings))
    together = adapt(log, tmp_path / "backbone", tmp_path / "together", HOULSBY, **settings)
    done = launch(together, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done") == 2
    report = json.loads((tmp_path / "together" / "result.json").read_text("utf-8"))
    assert report["processes"] == 2
    # A step an epoch.
    first, second = zip(report["curves"]["loss"], alone.report["curves"]["loss"], strict=True)
    assert first[0] == pytest.approx(first[1], rel=1e-6)
    # Adam makes much of the least of gradients.
    assert second[0] == pytest.approx(second[1], rel=1e-4)
    tensors = read_bundle(tmp_path / "together" / "bundle.safetensors").tensors
    for name, value in read_bundle(alone.artifact).tensors.items():
        torch.testing.assert_close(
            torch.tensor(tensors[name]), torch.tensor(value), rtol=1e-2, atol=1e-3
        )


@pytest.mark.slow
def test_several_processes_resume_bit_for_bit_and_only_as_many(log: Path, tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "backbone")
    whole = adapt(log, tmp_path / "backbone", tmp_path / "whole", epochs=4)
    assert launch(whole, tmp_path).returncode == 0
    cut = adapt(log, tmp_path / "backbone", tmp_path / "cut", epochs=4)
    assert launch(cut, tmp_path, die_after=2).returncode != 0
    assert not (tmp_path / "cut" / "result.json").exists()
    assert launch(cut, tmp_path, "--resume").returncode == 0
    wanted, found = (
        read_bundle(tmp_path / name / "bundle.safetensors").tensors for name in ("whole", "cut")
    )
    assert all((found[name] == value).all() for name, value in wanted.items())
    again = launch(whole, tmp_path, "--resume", processes=1)
    assert again.returncode != 0
    assert "holds a run of 2 processes: resume it with as many, not with 1" in again.stderr
