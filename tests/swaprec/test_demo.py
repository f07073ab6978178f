from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from service.settings import Settings
from swaprec.client import Client
from swaprec.demo import SOURCE, TARGETS, Recipe, Running, demo, shelve, trained
from swaprec.demo_show import SWAP_ANSWERS, DemoDomain, publish, show, swap_under_requests
from swaprec.errors import Stop, Unreachable
from swaprec.evaluation import run_config
from tests.service.conftest import running
from tests.swaprec.conftest import World
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle
from tests.training.conftest import tiny_log
from training.config import RunConfig
from training.data import Dataset, load_dataset
from training.run import finished
from training.run_file import parse_config
from transrec.backbone import Backbone


def console() -> Console:
    return Console(file=io.StringIO(), width=80, markup=False)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def short_run(folder: Path, log: Path, backbone: Path) -> RunConfig:
    return parse_config(
        {
            "stage": "adapt",
            "domain": "walk",
            "output": str(folder / "run"),
            "data": {"folder": str(log)},
            "backbone": {"folder": str(backbone)},
            "adapter": {"user": {"kind": "houlsby", "hidden": 4}},
            "train": {"epochs": 1},
        }
    )


def test_a_finished_run_is_taken_again(world: World, tmp_path: Path) -> None:
    config = short_run(tmp_path, world.log, world.backbone)
    output = console()
    first = trained(config, output)
    assert "trained before" not in said(output)
    assert trained(config, output) == first
    assert "walk: trained before" in said(output)


def test_a_run_is_done_again_when_its_data_or_its_backbone_changed(tmp_path: Path) -> None:
    log = tiny_log(tmp_path / "log")
    backbone = tmp_path / "backbone"
    tiny_backbone(backbone)
    config = short_run(tmp_path, log, backbone)
    before = trained(config, console()).report
    tiny_log(log, seed=1)
    after_data = trained(config, console()).report
    output = console()
    assert after_data["data"]["digest"] != before["data"]["digest"]
    shutil.rmtree(backbone)
    fingerprint = tiny_backbone(backbone, seed=1).fingerprint
    after_backbone = trained(config, output).report
    assert after_backbone["backbone"] == fingerprint != before["backbone"]
    assert "trained before" not in said(output)


def test_the_demos_configurations_meet_in_its_folder(tmp_path: Path) -> None:
    encoder = tmp_path / "minilm"
    encoder.mkdir()
    recipe = Recipe(tmp_path, encoder)
    source = recipe.config(SOURCE)
    assert (source.stage, source.backbone.encoder) == ("pretrain", str(encoder))
    assert source.train.threads == 1
    for name in TARGETS:
        target = recipe.config(name)
        assert (target.stage, target.domain) == ("adapt", name)
        assert target.backbone.folder == source.output / "backbone"
        assert (target.data.folder == source.data.folder) == (name != "adressa")


def domain_of(world: World) -> DemoDomain:
    config = run_config(world.run)
    result = finished(config)
    assert result is not None
    return DemoDomain("walk", load_dataset(config.data), result, "Walks")


def test_a_domain_is_filled_and_shown_with_the_film_that_was_watched_next(
    client: Client, world: World
) -> None:
    domain = domain_of(world)
    output = console()
    publish(client, domain, output)
    report = show(client, [domain], output)
    text = " ".join(said(output).split())
    assert "40 films, answered by version none, now by version 1" in text
    measured = report["domains"]["walk"]
    split = domain.dataset.split()
    assert measured["user"] == domain.dataset.user_ids[0]
    assert measured["next"] == domain.titles[split.test[0]]
    assert f"really watched next: {measured['next']}, " in text
    assert measured["difference"] == 0
    assert [one["domain"] for one in report["memory"]] == ["walk"]
    assert max(map(len, said(output).splitlines())) <= 80


def test_a_running_service_is_filled_with_a_backbone_that_it_had_not_seen(
    world: World, tmp_path: Path
) -> None:
    domain = domain_of(world)
    output = console()
    source = replace(domain.result, artifact=world.backbone)
    with (
        running(Settings(data=tmp_path / "data", port=0)) as http,
        Client(str(http.base_url)) as client,
    ):
        assert client.info()["backbones"] == []
        shelved = shelve(source, tmp_path / "data" / "backbones")
        assert shelve(source, tmp_path / "data" / "backbones") == shelved
        publish(client, domain, output)
        assert client.domain("walk")["live_version"] == 1
        assert [one["name"] for one in client.info()["backbones"]] == [shelved.name]
    assert [path.name for path in shelved.parent.iterdir()] == [shelved.name]


def test_a_service_that_does_not_run_is_noticed_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        demo(tmp_path / "demo", 8000, console(), running=Running("http://127.0.0.1:9", tmp_path))
    assert not (tmp_path / "demo").exists()


def test_the_swap_is_answered_by_both_versions_and_ends_where_it_began(
    client: Client, world: World
) -> None:
    domain = domain_of(world)
    output = console()
    publish(client, domain, output)
    answers = swap_under_requests(client, domain, output)["answers"]
    assert answers.keys() == {"1", "none"}
    assert min(answers.values()) >= SWAP_ANSWERS
    assert client.domain("walk")["live_version"] == 1


def test_a_service_that_does_not_answer_the_runs_bundle_stops_the_demo(
    client: Client, world: World, tmp_path: Path
) -> None:
    domain = domain_of(world)
    output = console()
    publish(client, domain, output)
    backbone = Backbone.load(world.backbone)
    client.push(
        tiny_bundle(tmp_path / "other.safetensors", backbone, "walk", tiny_adapter(backbone)),
        activate=True,
    )
    with pytest.raises(Stop, match="walk answers from version 2"):
        show(client, [domain], output)


def test_a_failed_request_stops_the_demo(client: Client, world: World) -> None:
    publish(client, domain_of(world), console())
    with pytest.raises(Stop, match="failed: 422"):
        swap_under_requests(
            client, replace(domain_of(world), dataset=with_an_impossible_id(world)), console()
        )


def with_an_impossible_id(world: World) -> Dataset:
    dataset = domain_of(world).dataset
    return replace(dataset, items=dataset.items.with_columns(item_id=pl.lit("")))
