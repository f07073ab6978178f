"""Every kind is trained, pushed, and answers as it did offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters_store.bundle import read_bundle
from service.settings import Settings
from swaprec.catalog import catalog_items
from swaprec.client import Client
from swaprec.evaluation import evaluate_run, load_adapter
from swaprec.show import talk
from tests.service.conftest import running
from tests.swaprec.conftest import World
from tests.tiny import TINY_KINDS, tiny_spec
from training.config import RunConfig, parse_config
from training.data import load_dataset
from training.run import run
from transrec.backbone import Backbone
from transrec.embed import embed
from transrec.model import encode_users


def run_of(kind: str, world: World, output: Path) -> RunConfig:
    """A short run of a kind, for a domain of its name."""
    raw = {"stage": "adapt", "domain": kind, "output": str(output), "data": {"folder": str(world.log)}}
    train = {"epochs": 2, "lr": 5e-3, "loss": "full_softmax", "embed_dtype": "float32"}
    adapter = tiny_spec(kind).to_json()
    return parse_config({**raw, "backbone": {"folder": str(world.backbone)}, "adapter": adapter, "train": train})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Client]:
    data = tmp_path_factory.mktemp("kinds")
    with (
        running(Settings(data=data, backbones=(world.backbone,), port=0)) as http,
        Client(str(http.base_url)) as client,
    ):
        yield client


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_kind_trains_goes_live_and_answers_with_the_offline_rank_lists(
    kind: str, world: World, service: Client, tmp_path: Path
) -> None:
    config = run_of(kind, world, tmp_path / "run")
    result = run(config)
    bundle, dataset = read_bundle(result.artifact), load_dataset(config.data)
    assert bundle.manifest.spec["item"]["kind"] == kind
    service.put_domain(kind)
    service.import_items(kind, list(catalog_items(dataset)))
    service.push(result.artifact, activate=True)
    backbone = Backbone.load(world.backbone)
    adapter = load_adapter(bundle, backbone)
    vectors = embed(backbone, dataset.texts, adapter, dtype="float32")
    histories = dataset.split().history("test")[:6]
    users = encode_users(backbone.model.user_encoder, histories, vectors, adapter.user)
    names = dataset.items["item_id"].to_list()
    for history, user in zip(histories, users, strict=True):
        answer = service.recommend(kind, [names[row] for row in history], k=8)
        offline = [row for row in (-(vectors @ user)).argsort(kind="stable") if row not in history][:8]
        served = [item["score"] for item in answer["items"]]
        assert served == pytest.approx([float(vectors[row] @ user) for row in offline], rel=1e-4, abs=1e-5)
    compared = evaluate_run(tmp_path / "run", (), service.url, talk())
    assert compared["agrees"], compared
    assert compared["difference"] == 0.0
