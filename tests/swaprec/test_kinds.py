"""Every kind, on texts, images and both, is trained, pushed, and answers as it did offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from adapters_store.bundle import read_bundle
from service.settings import Settings
from swaprec.catalog import catalog_items
from swaprec.client import Client
from swaprec.evaluation import evaluate_run, load_adapter
from swaprec.show import talk
from tests.checkpoints import bert_checkpoint
from tests.service.conftest import running
from tests.tiny import TINY_KINDS, tiny_backbone, tiny_spec
from tests.training.conftest import tiny_log
from training.config import RunConfig
from training.data import load_dataset
from training.run import run
from training.run_file import ConfigError, parse_config
from transrec.backbone import Backbone
from transrec.embed import embed
from transrec.model import encode_users
from transrec.seam import Modality

Modalities = tuple[Modality, ...]
SETS: dict[str, Modalities] = {"text": ("text",), "image": ("image",), "pair": ("text", "image")}


@dataclass(frozen=True)
class Ground:
    """Where runs of one modality begin: a backbone folder and a log."""

    backbone: Path
    log: Path
    modalities: Modalities


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ground]:
    folder = tmp_path_factory.mktemp("grounds")
    for name, modalities in SETS.items():
        tiny_backbone(folder / name, modalities=modalities)
        tiny_log(folder / f"{name}-log", modalities=modalities)
    return {name: Ground(folder / name, folder / f"{name}-log", SETS[name]) for name in SETS}


def run_of(kind: str, ground: Ground, output: Path) -> RunConfig:
    """A short run of a kind."""
    images = {"images": str(ground.log / "images.zip")} if "image" in ground.modalities else {}
    data = {
        "folder": str(ground.log),
        "text": "{title}" if "text" in ground.modalities else "",
        **images,
    }
    raw = {
        "stage": "adapt",
        "domain": f"{ground.backbone.name}-{kind}",
        "output": str(output),
        "data": data,
    }
    train = {"epochs": 2, "lr": 5e-3, "loss": "full_softmax", "embed_dtype": "float32"}
    adapter = tiny_spec(kind).to_json()
    return parse_config(
        {**raw, "backbone": {"folder": str(ground.backbone)}, "adapter": adapter, "train": train}
    )


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, grounds: dict[str, Ground]
) -> Iterator[Client]:
    """One service that has loaded all three backbones."""
    backbones = tuple(ground.backbone for ground in grounds.values())
    settings = Settings(data=tmp_path_factory.mktemp("kinds"), backbones=backbones, port=0)
    with running(settings) as http, Client(str(http.base_url)) as client:
        yield client


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_kind_trains_goes_live_and_answers_with_the_offline_rank_lists(
    kind: str, name: str, grounds: dict[str, Ground], service: Client, tmp_path: Path
) -> None:
    ground = grounds[name]
    config = run_of(kind, ground, tmp_path / "run")
    result = run(config)
    bundle = read_bundle(result.artifact)
    dataset = load_dataset(config.data)
    assert kind in (bundle.manifest.spec["item"]["kind"], bundle.manifest.spec["user"]["kind"])
    service.put_domain(config.domain, backbone=name)
    report = service.import_items(config.domain, list(catalog_items(dataset)))
    assert report["accepted"] == len(dataset.contents)
    service.push(result.artifact, activate=True)
    backbone = Backbone.load(ground.backbone)
    adapter = load_adapter(bundle, backbone)
    vectors = embed(backbone, dataset.contents, adapter, dtype="float32")
    histories = dataset.split().history("test")[:6]
    users = encode_users(backbone.model.user_encoder, histories, vectors, adapter.user)
    names = dataset.items["item_id"].to_list()
    for history, user in zip(histories, users, strict=True):
        answer = service.recommend(config.domain, [names[row] for row in history], k=8)
        offline = [row for row in (-(vectors @ user)).argsort(kind="stable") if row not in history][
            :8
        ]
        served = [item["score"] for item in answer["items"]]
        assert served == pytest.approx(
            [float(vectors[row] @ user) for row in offline], rel=1e-4, abs=1e-5
        )
    compared = evaluate_run(tmp_path / "run", (), service.url, talk())
    assert compared["agrees"], compared
    assert compared["difference"] == 0.0


def test_a_backbone_pretrained_with_cpc_serves(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log")
    checkpoint = bert_checkpoint(tmp_path / "bert")
    data = {"folder": str(log)}
    train = {"epochs": 5, "lr": 5e-3, "loss": "cpc", "embed_dtype": "float32"}
    sizes = {"encoder": str(checkpoint), "width": 16, "max_history": 6, "max_tokens": 12}
    raw = {"stage": "pretrain", "output": str(tmp_path / "source"), "data": data, "backbone": sizes}
    # A random encoder tells titles hardly apart.
    raw["train"] = train | {
        "train_encoder": True,
        "encoder_lr": 3e-3,
    }
    source = run(parse_config(raw)).artifact
    raw = {
        "stage": "adapt",
        "domain": "cpc",
        "output": str(tmp_path / "run"),
        "data": data,
        "train": train,
    }
    config = parse_config(
        raw | {"backbone": {"folder": str(source)}, "adapter": tiny_spec("houlsby").to_json()}
    )
    result = run(config)
    settings = Settings(data=tmp_path / "data", backbones=(source,), port=0)
    with running(settings) as http, Client(str(http.base_url)) as client:
        client.put_domain("cpc")
        client.import_items("cpc", list(catalog_items(load_dataset(config.data))))
        client.push(result.artifact, activate=True)
        compared = evaluate_run(tmp_path / "run", (), client.url, talk())
    assert compared["agrees"], compared
    assert compared["served"]["hr"] > 0


def test_titles_with_abstracts_train_and_serve_as_offline(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log")
    checkpoint = bert_checkpoint(tmp_path / "bert")
    items = pl.read_parquet(log / "items.parquet")
    abstracts = [
        "" if n % 5 == 0 else f"news {'of the storm ' * (n % 3)}{n}" for n in range(items.height)
    ]
    items.with_columns(pl.Series("abstract", abstracts)).write_parquet(log / "items.parquet")
    data = {"folder": str(log), "text": ["{title}", "{abstract}"]}
    train = {"epochs": 5, "lr": 5e-3, "loss": "full_softmax", "embed_dtype": "float32"}
    sizes = {"encoder": str(checkpoint), "width": 16, "max_history": 6, "max_tokens": [12, 8]}
    raw = {"stage": "pretrain", "output": str(tmp_path / "source"), "data": data, "backbone": sizes}
    raw["train"] = train | {"train_encoder": True, "encoder_lr": 3e-3}
    source = run(parse_config(raw)).artifact
    raw = {
        "stage": "adapt",
        "domain": "news",
        "output": str(tmp_path / "run"),
        "data": data,
        "train": train,
    }
    config = parse_config(
        raw | {"backbone": {"folder": str(source)}, "adapter": tiny_spec("houlsby").to_json()}
    )
    result = run(config)
    settings = Settings(data=tmp_path / "data", backbones=(source,), port=0)
    with running(settings) as http, Client(str(http.base_url)) as client:
        client.put_domain("news")
        client.import_items("news", list(catalog_items(load_dataset(config.data))))
        client.push(result.artifact, activate=True)
        compared = evaluate_run(tmp_path / "run", (), client.url, talk())
        assert client.item("news", "i1")["text"] == [items["title"][1], abstracts[1]]
        assert client.item("news", "i5")["text"] == items["title"][5]
        cold = {"text": [items["title"][1], abstracts[1]]}
        by_text, by_id = (
            client.recommend("news", [entry], k=5, exclude={"seen": False})
            for entry in (cold, "i1")
        )
        assert [one["score"] for one in by_text["items"]] == pytest.approx(
            [one["score"] for one in by_id["items"]], rel=1e-4
        )
        report = client.import_items("news", [{"item_id": "x", "text": ["a", "b", "c"]}])
        assert "it has 3 attributes, the backbone reads 2" in report["rejected"][0]["detail"]
    assert compared["agrees"], compared


def test_a_limit_for_each_attribute_is_needed() -> None:
    data = {"folder": "x", "text": ["{a}", "{b}"]}
    backbone = {"encoder": "e"}
    with pytest.raises(
        ConfigError, match=r"data\.text has 2 attributes, give a limit for each of them"
    ):
        parse_config({"stage": "pretrain", "output": "x", "data": data, "backbone": backbone})
