"""Runs whose items have pictures, alone or beside a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from adapters_store.bundle import read_bundle
from tests.checkpoints import bert_checkpoint, vit_checkpoint
from tests.lmdbs import pickled, written
from tests.tiny import (
    TINY_KINDS,
    tiny_adapter,
    tiny_backbone,
    tiny_contents,
    tiny_picture,
    tiny_spec,
)
from tests.training.conftest import ITEMS, tiny_log
from training.config import DataConfig
from training.data import load_dataset
from training.evaluate import evaluate
from training.importers.tables import DataError
from training.run import run
from training.run_file import ConfigError, parse_config
from training.state_cache import item_states
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone
from transrec.images import decode
from transrec.seam import Modality

Modalities = tuple[Modality, ...]
IMAGE: Modalities = ("image",)
PAIR: Modalities = ("text", "image")


def data(folder: Path, modalities: Modalities) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "text": "{title}" if "text" in modalities else "",
        "images": str(folder / "images.zip"),
        "min_interactions": 3,
    }


@pytest.mark.parametrize("modalities", [IMAGE, PAIR], ids="+".join)
def test_a_source_and_its_target_of_images_and_of_pairs(
    tmp_path: Path, modalities: Modalities
) -> None:
    log = tiny_log(tmp_path / "log", modalities=modalities)
    encoders = {"image_encoder": str(vit_checkpoint(tmp_path / "vit"))}
    if "text" in modalities:
        encoders["encoder"] = str(bert_checkpoint(tmp_path / "bert"))
    sizes = {"width": 16, "max_history": 6, "max_tokens": 12}
    train = {
        "epochs": 3,
        "embed_dtype": "float32",
        "batch_size": 16,
        "lr": 3e-3,
        "encoder_lr": 1e-3,
    }
    raw = {"stage": "pretrain", "output": str(tmp_path / "source"), "data": data(log, modalities)}
    raw |= {
        "backbone": encoders | sizes,
        "train": train | {"train_encoder": True, "embed_dtype": "bfloat16"},
    }
    source = run(parse_config(raw))
    backbone = Backbone.load(source.artifact)
    assert backbone.config.modalities == modalities
    assert source.report["parameters"]["total"] == backbone.parameters_total
    measured = evaluate(
        backbone, None, load_dataset(parse_config(raw).data), dtype="bfloat16"
    ).report
    assert measured == source.report["test"], "what was measured is what was saved"

    spec = tiny_spec("houlsby").to_json()
    raw = {
        "stage": "adapt",
        "domain": "walk",
        "output": str(tmp_path / "run"),
        "data": data(log, modalities),
    }
    raw |= {"backbone": {"folder": str(source.artifact)}, "adapter": spec}
    config = parse_config(raw | {"train": train | {"epochs": 9, "loss": "full_softmax"}})
    result = run(config)
    bundle = read_bundle(result.artifact)
    adapter = Adapter.from_tensors(
        AdapterSpec.parse(bundle.manifest.spec), backbone.shape, bundle.tensors
    )
    again = evaluate(backbone, adapter, load_dataset(config.data), dtype="float32").report
    assert again == result.report["test"]
    assert result.report["curves"]["loss"][-1] < result.report["curves"]["loss"][0]


@pytest.mark.parametrize("modalities", [IMAGE, PAIR], ids="+".join)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_cached_states_give_what_the_encoder_gives(
    tmp_path: Path, kind: str, modalities: Modalities
) -> None:
    backbone = tiny_backbone(modalities=modalities)
    contents = tiny_contents(12, modalities)
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).item
    inputs = backbone.inputs(contents)
    rows = np.array([7, 3, 11, 0, 2])
    states = item_states(backbone, contents, side, tmp_path, keep="float32", dtype="float32")
    again = item_states(backbone, contents, side, tmp_path, keep="float32", dtype="float32")
    project = backbone.model.project
    with torch.inference_mode():
        found = project(states.pooled(rows, side), side)
        for place, row in enumerate(rows):
            given = inputs.load(np.array([row]), "cpu")
            expected = project(backbone.model.item_encoder(given, side), side)[0]
            assert torch.allclose(found[place], expected, atol=1e-5)
        assert torch.equal(project(again.pooled(rows, side), side), found)


def test_pictures_of_an_encoder_that_trains_are_decoded_once(tmp_path: Path) -> None:
    backbone = tiny_backbone(modalities=IMAGE)
    contents = tiny_contents(5, IMAGE)
    reported: list[tuple[int, int]] = []
    for _ in range(2):
        states = item_states(
            backbone,
            contents,
            None,
            tmp_path,
            trains_encoder=True,
            progress=lambda done, total: reported.append((done, total)),
        )
        assert states.pooled(np.arange(5), None).shape == (5, 24)
    assert reported == [(5, 5)]


def test_items_without_a_picture_and_damaged_ones_are_counted_and_named(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2, ITEMS):
        (images / f"{number}.png").write_bytes(tiny_picture(number))
    (images / "2.png").write_bytes(tiny_picture(2)[:-100])
    given = {**data(log, IMAGE), "images": images}
    dataset = load_dataset(DataConfig(**given))
    assert dataset.rejected.counts["item without an image"] == 3
    assert dataset.rejected.counts["damaged image"] == 1
    assert "2.png: damaged or truncated" in dataset.rejected.examples["damaged image"]
    assert not {"i0", "i1", "i2"} & set(dataset.item_ids)
    assert max(int(row.max()) for row in dataset.sequences) < len(dataset.contents) == ITEMS - 3
    with_titles = load_dataset(DataConfig(**{**given, "text": "film {item_id}"}))
    assert len(with_titles.contents) == ITEMS, "an item that has a text can do without a picture"


def test_pictures_of_an_lmdb_are_read_as_those_of_a_zip(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    values = {
        str(number): pickled(number, np.asarray(decode(tiny_picture(number))))
        for number in range(1, ITEMS)
    }
    images = written(tmp_path / "images.lmdb", values | {"2": values["2"][:-20]})
    dataset = load_dataset(DataConfig(**{**data(log, IMAGE), "images": images}))
    assert len(dataset.contents) == ITEMS - 2
    assert dataset.rejected.counts["damaged image"] == 1
    assert (
        "2.png: no pickled LMDB_Image, damaged or truncated"
        in dataset.rejected.examples["damaged image"]
    )
    zipped = load_dataset(DataConfig(**data(log, IMAGE)))
    pixels = dict(zip(zipped.item_ids, zipped.contents, strict=True))
    for item, content in zip(dataset.item_ids, dataset.contents, strict=True):
        assert content.image is not None
        stored = pixels[item].image
        assert stored is not None
        assert decode(content.image.read()).tobytes() == decode(stored.read()).tobytes()


def test_the_digest_distinguishes_pictures(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    before = load_dataset(DataConfig(**data(log, IMAGE))).digest
    images = tmp_path / "images"
    images.mkdir()
    for number in range(ITEMS):
        (images / f"{number}.png").write_bytes(tiny_picture(number + (number == 7)))
    assert load_dataset(DataConfig(**{**data(log, IMAGE), "images": images})).digest != before


@pytest.mark.parametrize(
    ("images", "says"),
    [("nowhere", "there is no such folder or zip"), ("items.parquet", "is no zip")],
)
def test_images_that_are_not_there_are_named(tmp_path: Path, images: str, says: str) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    with pytest.raises(DataError, match=says):
        load_dataset(DataConfig(**{**data(log, IMAGE), "images": log / images}))


def test_a_catalog_without_the_column_image_is_named(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    pl.read_parquet(log / "items.parquet").drop("image").write_parquet(log / "items.parquet")
    with pytest.raises(DataError, match="lack a column image; they have item_id, title"):
        load_dataset(DataConfig(**data(log, IMAGE)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"backbone": {"encoder": "x"}},
            "data.images and backbone.image_encoder belong together: nobody reads it",
        ),
        ({"data": {"text": "", "images": None}}, "there is nothing to read of an item"),
        ({"data": {"images": None}}, "belong together: there is nothing to read"),
        ({"data": {"where": {"part": 3, "parts": 2}}}, "part 3 of 2: expected 1 to 2"),
        ({"backbone": {}}, "needs the name or folder of a checkpoint, here or as image_encoder"),
    ],
)
def test_what_does_not_fit_together_is_reported_before_anything_runs(
    change: Any, says: str
) -> None:
    raw: dict[str, Any] = {
        "stage": "pretrain",
        "output": "x",
        "data": {"folder": "x", "images": "y", **change.get("data", {})},
        "backbone": change.get("backbone", {"encoder": "a", "image_encoder": "b"}),
    }
    with pytest.raises(ConfigError, match=says):
        parse_config(raw)


def test_two_parts_of_a_catalog_are_disjoint_and_whole(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log", modalities=IMAGE)
    parts = [
        set(
            load_dataset(
                DataConfig(**{**data(log, IMAGE), "where": {"part": part, "parts": 2}})
            ).item_ids
        )
        for part in (1, 2)
    ]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == ITEMS
    assert min(map(len, parts)) > ITEMS // 4
