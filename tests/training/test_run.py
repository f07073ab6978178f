"""Runs: what each stage trains, writes and reports."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from adapters_store.bundle import read_bundle
from tests.tiny import tiny_backbone
from tests.training.runs import adapt, pretrain
from training.data import load_dataset
from training.evaluate import evaluate
from training.importers import canonical
from training.importers.tables import Tables
from training.progress import Reporter
from training.run import finished, run
from training.run_file import parse_config
from training.trackers import TrackerError
from transrec.adapters import Adapter, AdapterSpec, expected_tensors
from transrec.backbone import Backbone
from transrec.errors import BackboneError


def test_pretraining_writes_a_backbone_better_than_chance(backbone: Path, log: Path) -> None:
    loaded = Backbone.load(backbone)
    report = json.loads((backbone.parent / "result.json").read_text("utf-8"))
    assert report["backbone"] == loaded.fingerprint
    assert report["test"]["hr"] > 0.4  # by chance 10 of some 33 candidates
    assert report["test"]["users"] == len(
        load_dataset(pretrain(log, backbone, backbone).data).sequences
    )


@pytest.mark.parametrize("loss", ["bce", "cpc", "in_batch_debiased", "full_softmax"])
def test_an_adapter_trains_under_each_loss_and_its_bundle_evaluates_the_same(
    log: Path, tmp_path: Path, loss: str
) -> None:
    backbone = tmp_path / "untrained"  # there is much to learn
    tiny_backbone(backbone)
    config = adapt(log, backbone, tmp_path / "run", loss=loss, epochs=8)
    result = run(config)
    bundle = read_bundle(result.artifact)
    loaded = Backbone.load(backbone)
    spec = AdapterSpec.parse(bundle.manifest.spec)
    assert {name: value.shape for name, value in bundle.tensors.items()} == expected_tensors(
        spec, loaded.shape
    )
    adapter = Adapter.from_tensors(spec, loaded.shape, bundle.tensors)
    again = evaluate(loaded, adapter, load_dataset(config.data), dtype=bundle.manifest.dtype).report
    assert again == result.report["test"] == bundle.manifest.metrics["test"]
    assert result.report["curves"]["loss"][-1] < result.report["curves"]["loss"][0]
    assert set(result.report["baselines"]) == {
        "none",
        "popularity",
        "recent_popularity",
        "item_knn",
    }


def test_a_backbone_pretrained_with_cpc_is_adapted_with_it(
    log: Path, checkpoint: Path, tmp_path: Path
) -> None:
    source = run(pretrain(log, checkpoint, tmp_path / "source", loss="cpc", epochs=2))
    assert Backbone.load(source.artifact).config.loss == "cpc"
    target = run(adapt(log, source.artifact, tmp_path / "run", loss="cpc", epochs=1))
    assert 0 < target.report["test"]["hr"] <= 1


def test_full_fine_tuning_trains_everything_and_leaves_its_start_alone(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    before = Backbone.load(backbone)
    raw = adapt(log, backbone, tmp_path / "full", adapter={}, epochs=1).model_dump(mode="json")
    result = run(parse_config({**raw, "stage": "finetune"}))
    after = Backbone.load(result.artifact)
    same = [
        name
        for name, value in after.model.state_dict().items()
        if torch.equal(value, before.model.state_dict()[name])
    ]
    assert result.report["parameters"]["total"] == before.parameters_total
    assert all("word" in name or "token_type" in name or ".position" in name for name in same), same
    assert Backbone.load(backbone).fingerprint == before.fingerprint != after.fingerprint


def test_the_manifest_says_what_the_bundle_is(log: Path, backbone: Path, tmp_path: Path) -> None:
    config = adapt(log, backbone, tmp_path / "run", epochs=1)
    manifest = read_bundle(run(config).artifact).manifest
    assert (manifest.domain, manifest.kind, manifest.dtype) == ("walk", "houlsby", "float32")
    assert manifest.backbone == Backbone.load(backbone).fingerprint
    assert manifest.data_digest == load_dataset(config.data).digest
    assert (
        manifest.parameters["total"]
        == manifest.parameters["item"] + manifest.parameters["user"]
        > 0
    )
    assert str(tmp_path) not in json.dumps(manifest.to_json()), (
        "a bundle travels: no folder of this machine"
    )
    assert manifest.created_at.endswith("Z")


def test_where_there_is_no_git_a_bundle_names_no_commit(
    log: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(adapt(log, backbone, tmp_path / "run", epochs=1))
    assert read_bundle(result.artifact).manifest.commit == ""


def test_only_the_adapter_changes(log: Path, backbone: Path, tmp_path: Path) -> None:
    before = Backbone.load(backbone).fingerprint
    run(adapt(log, backbone, tmp_path / "run", epochs=1))
    assert Backbone.load(backbone).fingerprint == before


def test_training_stops_when_validation_has_not_improved_for_long(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    report = run(adapt(log, backbone, tmp_path / "run", epochs=60, patience=2, lr=1e-5)).report
    assert len(report["curves"]["loss"]) < 60
    assert len(report["curves"]["loss"]) == report["best_epoch"] + 2


def test_a_whole_encoder_can_be_pretrained(log: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run(pretrain(log, checkpoint, tmp_path / "run", train_encoder=True, epochs=1))
    name = "blocks.0.query.weight"
    fresh = Backbone.from_encoder(str(checkpoint)).model.item_encoder.get_parameter(name)
    trained = Backbone.load(result.artifact).model.item_encoder.get_parameter(name)
    assert not torch.equal(fresh, trained)


def test_ids_alone_learn_the_walk(log: Path, tmp_path: Path) -> None:
    raw = {"stage": "ids", "output": str(tmp_path / "run"), "data": {"folder": str(log)}}
    train = {"epochs": 40, "lr": 5e-3, "loss": "full_softmax", "batch_size": 16}
    config = parse_config(raw | {"backbone": {"width": 16, "max_history": 6}, "train": train})
    result = run(config)
    assert result.report["test"]["hr"] > 0.6  # the next item is one of three
    assert result.report["parameters"]["total"] > 40 * 16
    assert finished(config) == result


def test_targets_that_stand_in_histories_are_warned_of_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = pl.DataFrame({"item_id": list("abcde"), "title": list("abcde")})
    rows = [(f"u{user}", item, time) for user in range(8) for time, item in enumerate("aabbccddee")]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    canonical.write(Tables(items, log), tmp_path / "log")
    raw = {
        "stage": "ids",
        "output": str(tmp_path / "run"),
        "data": {"folder": str(tmp_path / "log")},
    }
    more = {"backbone": {"width": 16, "max_history": 6}, "train": {"epochs": 1, "batch_size": 8}}
    config = parse_config(raw | more)
    result = run(config, Reporter("walk", Console(file=sys.stdout, width=400)))
    lines = capsys.readouterr().out.splitlines()
    warned = next(
        place for place, line in enumerate(lines) if "warning: 8 of 8 users' last items" in line
    )
    assert warned < next(place for place, line in enumerate(lines) if "epoch 1/1" in line)
    assert result.report["test"]["hr"] == 0
    assert result.report["data"]["notes"] == {}


@pytest.mark.parametrize("kind", ["houlsby", "lora", "prefix"])
def test_recomputed_blocks_give_the_same_training(
    log: Path, backbone: Path, tmp_path: Path, kind: str
) -> None:
    adapter = {"item": {"kind": kind}, "user": {"kind": "houlsby", "hidden": 4}}
    runs = [
        run(adapt(log, backbone, tmp_path / str(again), adapter, epochs=1, recompute=again))
        for again in (False, True)
    ]
    one, two = (read_bundle(done.artifact).tensors for done in runs)
    assert all(np.allclose(value, two[name], rtol=1e-5, atol=1e-6) for name, value in one.items())


def test_bfloat16_trains_close_to_float32(log: Path, backbone: Path, tmp_path: Path) -> None:
    losses = [
        run(adapt(log, backbone, tmp_path / precision, epochs=2, precision=precision)).report[
            "curves"
        ]["loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_the_lowest_layers_of_a_checkpoint_are_a_backbone(
    log: Path, checkpoint: Path, tmp_path: Path
) -> None:
    whole = Backbone.from_encoder(str(checkpoint))
    config = pretrain(log, checkpoint, tmp_path / "run", epochs=1)
    cut = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"encoder_layers": 1})}
    )
    loaded = Backbone.load(run(cut).artifact)
    assert loaded.model.text_encoder is not None
    assert len(loaded.model.text_encoder.blocks) == 1
    for name, value in loaded.model.item_encoder.state_dict().items():
        assert torch.equal(value, whole.model.item_encoder.state_dict()[name])
    with pytest.raises(BackboneError, match="encoder_layers 9: the checkpoint has 3"):
        Backbone.from_encoder(str(checkpoint), layers=9)


def test_metrics_go_to_tensorboard_if_asked(log: Path, backbone: Path, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    report = run(adapt(log, backbone, tmp_path / "run", track="tensorboard", epochs=3)).report
    found = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard" / "walk"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in found.Scalars("hr")] == pytest.approx(report["curves"]["hr"])


def test_a_tracker_that_is_not_installed_is_named(
    log: Path, backbone: Path, tmp_path: Path
) -> None:
    if find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed")
    with pytest.raises(TrackerError, match="mlflow is not installed; pip install mlflow"):
        run(adapt(log, backbone, tmp_path / "run", track="mlflow"))
