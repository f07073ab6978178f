from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from adapters_store.bundle import read_bundle
from tests.tiny import tiny_adapter, tiny_backbone, tiny_contents, tiny_spec, tiny_texts
from training.checkpoint import CheckpointError
from training.config import RunConfig
from training.data import load_dataset
from training.evaluate import evaluate
from training.importers import canonical
from training.importers.tables import Tables
from training.loop import TrainingError
from training.progress import Reporter
from training.run import finished, run
from training.run_file import parse_config
from training.state_cache import item_states
from training.states import PrefixStates
from training.trackers import TrackerError
from transrec.adapters import Adapter, AdapterSpec, expected_tensors
from transrec.backbone import Backbone
from transrec.errors import BackboneError
from transrec.text_encoder import Tokens

HOULSBY = {
    "item": {"kind": "houlsby", "hidden": 8, "layers": 1},
    "user": {"kind": "houlsby", "hidden": 4},
}


def pretrain(log: Path, checkpoint: Path, output: Path, **train: Any) -> RunConfig:
    backbone = {"encoder": str(checkpoint), "width": 16, "max_history": 6, "max_tokens": 12}
    raw = {
        "stage": "pretrain",
        "output": str(output),
        "data": {"folder": str(log)},
        "backbone": backbone,
    }
    return parse_config(
        raw | {"train": {"epochs": 3, "embed_dtype": "float32", "batch_size": 16, **train}}
    )


def adapt(log: Path, backbone: Path, output: Path, adapter: Any = None, **train: Any) -> RunConfig:
    raw = {"stage": "adapt", "domain": "walk", "output": str(output), "data": {"folder": str(log)}}
    settings = {"epochs": 4, "embed_dtype": "float32", "batch_size": 16, "lr": 5e-3, **train}
    return parse_config(
        raw
        | {"backbone": {"folder": str(backbone)}, "adapter": adapter or HOULSBY, "train": settings}
    )


@pytest.fixture(scope="session")
def backbone(log: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = pretrain(
        log,
        checkpoint,
        tmp_path_factory.mktemp("source") / "run",
        epochs=12,
        lr=3e-3,
        loss="full_softmax",
    )
    return run(config).artifact


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


class Interrupting(Reporter):
    """A reporter that stops the run as Ctrl-C would, once some epochs are done."""

    def __init__(self, after: int) -> None:
        super().__init__("cut")
        self._after = after

    def epoch(self, epoch: int, items_per_second: float, curves: dict[str, list[float]]) -> None:
        """Stop after the checkpoint of this epoch."""
        super().epoch(epoch, items_per_second, curves)
        if epoch == self._after:
            raise KeyboardInterrupt


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


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "item",
    [
        {"kind": "none"},
        {"kind": "houlsby", "layers": [0]},
        {"kind": "houlsby", "layers": [1]},
        {"kind": "houlsby", "layers": [1], "train_layer_norm": True},
        {"kind": "lora", "layers": [1]},
        {"kind": "prefix", "layers": [0]},
        {"kind": "bitfit", "layers": [1]},
        {"kind": "layer_norm", "layers": [1]},
        {"kind": "side"},
    ],
    ids=str,
)
def test_cached_states_give_what_the_encoder_gives(
    tmp_path: Path, pooling: Any, item: dict[str, Any]
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    texts = tiny_texts(30)
    side = tiny_adapter(backbone, spec=AdapterSpec.parse({"item": item})).item
    states = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    rows = np.array([7, 3, 29, 0, 12])
    with torch.inference_mode():
        found = states.pooled(rows, side)
        for place, row in enumerate(rows):
            tokens = Tokens(torch.tensor(backbone.tokenize([texts[row]])))
            assert torch.allclose(
                found[place], backbone.model.item_encoder(tokens, side)[0], atol=1e-5
            )
    assert len(list(tmp_path.iterdir())) == 1
    again = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    assert torch.equal(again.pooled(rows, side), states.pooled(rows, side))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("item", [{"kind": "houlsby"}, {"kind": "lora", "layers": [1]}], ids=str)
def test_cached_states_packed_for_a_gpu_give_the_same(
    tmp_path: Path, pooling: Any, item: dict[str, Any]
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    side = tiny_adapter(backbone, spec=AdapterSpec.parse({"item": item})).item
    states = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    assert isinstance(states, PrefixStates)
    rows = np.array([7, 3, 29, 0, 12])
    with torch.inference_mode():
        prefix = states.packed(rows, states.starts[rows + 1] - states.starts[rows])
        packed = states.encoder.suffix(prefix, states.reach.layer, side)
        assert torch.allclose(packed, states.pooled(rows, side), atol=1e-5)


@pytest.mark.parametrize("kind", ["prompt", "k_adapter", "bitfit"])
def test_where_nothing_can_be_cached_nothing_is(tmp_path: Path, kind: str) -> None:
    backbone = tiny_backbone(pooling="cls")
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).item
    states = item_states(backbone, tiny_contents(5), side, tmp_path)
    tokens = Tokens(torch.tensor(backbone.tokenize([tiny_texts(5)[3]])))
    with torch.inference_mode():
        found = states.pooled(np.array([3]), side)
        assert torch.allclose(found, backbone.model.item_encoder(tokens, side), atol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_another_encoder_or_content_has_its_own_cache(tmp_path: Path) -> None:
    item_states(tiny_backbone(seed=0), tiny_contents(5), None, tmp_path)
    item_states(tiny_backbone(seed=1), tiny_contents(5), None, tmp_path)
    item_states(tiny_backbone(seed=0), tiny_contents(6), None, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


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
