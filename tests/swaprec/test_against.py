from __future__ import annotations

from pathlib import Path

import pytest

from adapters_store.bundle import read_bundle
from service.wire.responses import RecommendedItem
from swaprec.against import ASKED, OfflineComparison, _place, compare
from swaprec.catalog import catalog_items
from swaprec.client import Client
from swaprec.errors import ProblemError, Stop, Unreachable
from swaprec.evaluation import evaluate_run, run_config
from swaprec.show import talk
from tests.swaprec.conftest import World
from training.data import Dataset, load_dataset


@pytest.fixture
def dataset(world: World) -> Dataset:
    return load_dataset(run_config(world.run).data)


def serve_part(client: Client, world: World, dataset: Dataset, first: int) -> str:
    """Serve the run's bundle over the catalog from a row on; returns its digest."""
    client.put_domain("walk")
    client.import_items("walk", list(catalog_items(dataset))[first:])
    client.push(world.run / "bundle.safetensors", activate=True)
    return read_bundle(world.run / "bundle.safetensors").digest


def item(name: str, score: float) -> RecommendedItem:
    return {"item_id": name, "score": score, "rank": 1, "source": "model"}


def test_items_with_the_targets_score_are_ties_and_not_better() -> None:
    items = [item("a", 3.0), item("b", 2.0), item("c", 2.0), item("d", 1.0)]
    assert _place(items, "a") == (0, 0)
    assert _place(items, "b") == _place(items, "c") == (1, 1)
    assert _place(items, "d") == (3, 0)


def test_a_target_that_is_not_answered_is_a_miss_even_in_a_short_answer() -> None:
    assert _place([item("a", 3.0)], "gone") == (ASKED, 0)


def test_a_service_without_the_whole_catalog_is_named_and_not_measured(
    client: Client, world: World, dataset: Dataset
) -> None:
    digest = serve_part(client, world, dataset, first=30)
    with pytest.raises(Stop, match="does not serve the data set's catalog") as caught:
        compare({}, dataset, client, "walk", digest)
    assert "--catalog" in caught.value.hint


def test_a_service_without_any_item_is_named_too(
    client: Client, world: World, dataset: Dataset
) -> None:
    digest = serve_part(client, world, dataset, first=len(dataset.texts))
    with pytest.raises(Stop, match="does not serve the data set's catalog"):
        compare({}, dataset, client, "walk", digest)


def test_another_bundle_is_named_with_both_digests(
    client: Client, world: World, dataset: Dataset
) -> None:
    digest = serve_part(client, world, dataset, first=0)
    with pytest.raises(
        Stop, match=f"version 1 \\({digest[:12]}\\), the run's bundle is 0123456789ab"
    ):
        compare({}, dataset, client, "walk", "0123456789abcdef")


def test_sides_that_differ_by_more_than_a_thousandth_do_not_agree() -> None:
    names = [
        f"{measure}{bound}"
        for measure in ("hr", "ndcg")
        for bound in ("", "_optimistic", "_pessimistic")
    ]
    offline = dict.fromkeys(names, 0.3)
    assert OfflineComparison(offline, {**offline, "ndcg": 0.3009}).agrees
    assert not OfflineComparison(offline, {**offline, "hr_pessimistic": 0.2985}).agrees


def test_a_service_or_domain_that_is_not_there_is_known_before_anything_is_computed(
    url: str, tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'stage = "adapt"\ndomain = "walk"\noutput = "o"\ndata.folder = "d"\nbackbone.folder ='
        ' "b"\n',
        "utf-8",
    )
    with pytest.raises(ProblemError, match="domain_not_found"):
        evaluate_run(config, (), url, talk())
    with pytest.raises(Unreachable):
        evaluate_run(config, (), "http://127.0.0.1:9", talk())
