"""Runs that end early, or that start where another one stood: what is left, and how they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from adapters_store.bundle import read_bundle
from tests.training.runs import Interrupting, adapt, pretrain
from training.checkpoint import CheckpointError
from training.config import RunConfig
from training.importers import canonical
from training.importers.tables import Tables
from training.loop import TrainingError
from training.run import finished, run
from training.run_file import parse_config


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one_bit_for_bit(
    log: Path, checkpoint: Path, backbone: Path, tmp_path: Path, stage: str
) -> None:
    def config(output: Path) -> RunConfig:
        return (
            pretrain(log, checkpoint, output)
            if stage == "pretrain"
            else adapt(log, backbone, output, loss="bce")
        )

    whole = run(config(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt), Interrupting(after=2) as reporter:
        run(config(tmp_path / "cut"), reporter)
    resumed = run(config(tmp_path / "cut"), resume=True)
    name = "backbone/model.safetensors" if stage == "pretrain" else "bundle.safetensors"
    if stage == "pretrain":
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    else:
        one, two = (read_bundle(tmp_path / side / name) for side in ("whole", "cut"))
        assert all(np.array_equal(one.tensors[key], two.tensors[key]) for key in one.tensors)
    assert whole.report["curves"] == resumed.report["curves"]


def test_a_loss_that_explodes_is_an_error_that_says_what_is_left(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"lower train\.lr and start again"):
        run(adapt(log, backbone, tmp_path / "run", lr=1e30, epochs=20))


def test_an_adapter_that_trains_nothing_is_refused(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="kind none on both sides"):
        run(adapt(log, backbone, tmp_path / "run", {"item": {"kind": "none"}}))


def test_a_folder_that_holds_a_run_is_not_written_over(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    config = adapt(log, backbone, tmp_path / "run", epochs=1)
    assert finished(config) is None
    run(config)
    found = finished(config)
    assert found is not None
    assert found.artifact == tmp_path / "run" / "bundle.safetensors"
    with pytest.raises(FileExistsError, match="--resume goes on with it"):
        run(config)
    with pytest.raises(FileExistsError, match="another configuration"):
        run(adapt(log, backbone, tmp_path / "run", epochs=2), resume=True)


def test_a_damaged_checkpoint_says_what_to_do(log: Path, backbone: Path, tmp_path: Path) -> None:
    config = adapt(log, backbone, tmp_path / "run", epochs=1)
    run(config)
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(CheckpointError, match="delete it to start the run afresh"):
        run(config, resume=True)


def test_a_run_of_before_a_setting_was_added_is_known_again(log: Path, tmp_path: Path) -> None:
    raw = {"stage": "ids", "output": str(tmp_path / "run"), "data": {"folder": str(log)}}
    config = parse_config(
        raw | {"backbone": {"width": 16, "max_history": 6}, "train": {"epochs": 1}}
    )
    result = run(config)
    path = tmp_path / "run" / "config.json"
    older = json.loads(path.read_text("utf-8"))
    del older["data"]["columns"]
    path.write_text(json.dumps(older), "utf-8")
    assert finished(config) == result
    path.write_text("{}", "utf-8")
    assert finished(config) is None


def test_users_of_three_interactions_leave_nothing_to_train_on(
    tmp_path: Path, backbone: Path
) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["film a", "film b", "film c"]})
    rows = [("u", name, time) for time, name in enumerate("abc")]
    canonical.write(
        Tables(items, pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")),
        tmp_path / "d",
    )
    config = adapt(tmp_path / "d", backbone, tmp_path / "run")
    short = config.model_copy(
        update={"data": config.data.model_copy(update={"min_interactions": 3})}
    )
    with pytest.raises(TrainingError, match="no user of d has two training interactions"):
        run(short)


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_from_it(
    log: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(adapt(log, backbone, tmp_path / "whole"))
    real = torch.save
    calls = []

    def full_at_the_third(content: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            file.write(b"half of it")
            # Torch's words.
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        real(content, file)

    monkeypatch.setattr(torch, "save", full_at_the_third)
    config = adapt(log, backbone, tmp_path / "cut")
    with pytest.raises(
        TrainingError, match=r"cannot take a checkpoint.*that of epoch 2 is intact.*--resume"
    ):
        run(config)
    assert not list((tmp_path / "cut").glob(".*part"))
    resumed = run(config, resume=True)
    assert resumed.report["curves"] == whole.report["curves"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")]
)
def test_no_memory_says_what_to_change(
    log: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def none_left(*_: Any) -> None:
        raise error

    monkeypatch.setattr("training.loop.predict", none_left)
    with pytest.raises(
        TrainingError, match=r"out of memory in epoch 1: lower train\.batch_size.*nothing was kept"
    ):
        run(adapt(log, backbone, tmp_path / "run"))
