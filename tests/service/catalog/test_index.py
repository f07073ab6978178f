from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from service.catalog.bases import Bases, Catalog
from service.catalog.index import MIN_RECALL, ExactIndex, TunedIndex, build
from service.embedding.worker import WorkerProcess
from service.settings import Settings
from service.state import DomainRecord
from tests.service.conftest import activate, running
from tests.tiny import tiny_adapter, tiny_bundle
from transrec.backbone import Backbone

WIDTH = 32


def clustered(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((400, WIDTH))
    return (
        centres[rng.integers(0, 400, count)] + 0.5 * rng.standard_normal((count, WIDTH))
    ).astype(np.float32)


def shared(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(
        np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)])
    )


def test_an_approximate_index_keeps_its_recall_on_queries_it_was_not_tuned_on(
    tmp_path: Path,
) -> None:
    vectors = clustered(30_000)
    path = tmp_path / "a.faiss"
    tuned = build(vectors, clustered(256, 1), "items", path)
    assert tuned is not None
    assert tuned.recall_at_10 >= MIN_RECALL
    assert tuned.microseconds < tuned.exact_microseconds
    index = TunedIndex(path, vectors, tuned)
    exact = ExactIndex(vectors)
    users = clustered(200, 2)
    for k in (1, 10, 100):
        scores, rows = index.search(users, k)
        best, wanted = exact.search(users, k)
        assert scores.shape == rows.shape == wanted.shape
        assert shared(wanted, rows) > 0.96
        assert np.allclose(scores, np.einsum("bd,bkd->bk", users, vectors[rows]), atol=1e-4), (
            "scores are exact"
        )
        assert (np.diff(scores) <= 1e-6).all()
        assert (scores[:, 0] <= best[:, 0] + 1e-4).all()


def test_more_than_the_visited_lists_hold_is_answered_exactly(tmp_path: Path) -> None:
    vectors = clustered(20_000)
    tuned = build(vectors, clustered(64, 1), "items", tmp_path / "a.faiss")
    assert tuned is not None
    index = TunedIndex(tmp_path / "a.faiss", vectors, tuned)
    scores, rows = index.search(clustered(2, 2), 19_000)
    assert rows.shape == (2, 19_000)
    assert np.allclose(scores, ExactIndex(vectors).search(clustered(2, 2), 19_000)[0], atol=1e-4)


def test_a_query_is_answered_alone_as_in_a_batch_and_its_recall_is_what_was_measured(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((60, WIDTH)).astype(np.float32) * 2
    # Lists that hold less than is asked for, beside long ones.
    sizes = rng.permutation([5] * 30 + [1000] * 30)
    vectors = np.concatenate(
        [
            c + rng.standard_normal((n, WIDTH)).astype(np.float32)
            for c, n in zip(centres, sizes, strict=True)
        ]
    )
    queries = centres[rng.integers(0, 60, 300)] + rng.standard_normal((300, WIDTH)).astype(
        np.float32
    )
    tuned = build(vectors, queries[:256], "probes", tmp_path / "a.faiss")
    assert tuned is not None
    index = TunedIndex(tmp_path / "a.faiss", vectors, tuned)
    together = index.search(queries, 10)[1]
    alone = np.concatenate([index.search(query[None], 10)[1] for query in queries])
    assert np.array_equal(together, alone)
    wanted = ExactIndex(vectors).search(queries[:256], 10)[1]
    assert shared(wanted, alone[:256]) == pytest.approx(tuned.recall_at_10, abs=1e-6)
    assert tuned.recall_at_10 >= 0.98


def test_where_nothing_is_gained_search_stays_exact(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((300, WIDTH)).astype(np.float32)
    assert build(noise, noise[:50], "items", tmp_path / "a.faiss") is None
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_not_what_was_written_makes_its_base_absent(tmp_path: Path) -> None:
    record = DomainRecord("movies", "f", incarnation="b")
    count = 20_000
    ids = [f"i{n}" for n in range(count)]
    catalog = Catalog(1, np.arange(count), ids, np.zeros(count), np.ones(count, np.bool_))
    bases = Bases(tmp_path)
    with bases.writing(record, catalog, 1, WIDTH) as base:
        base.vectors("d" * 64, "float32")[:] = clustered(count)
        tuned = build(
            clustered(count), clustered(64, 1), "items", base.index_path("d" * 64, "float32")
        )
        assert tuned is not None
        base.has_index("d" * 64, "float32", tuned)
    found = bases.newest(record, "d" * 64, "float32", None)
    assert found is not None
    assert found[2].describe()["kind"] == "ivf_sq8"
    [path] = tmp_path.glob("*/*/*.faiss")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Bases(tmp_path).newest(record, "d" * 64, "float32", None) is None


def test_another_process_builds_the_same_index(tmp_path: Path) -> None:
    vectors = clustered(20_000)
    np.save(tmp_path / "v.npy", vectors)
    worker = WorkerProcess(lambda _: None, least=1, threads=1)
    try:
        tuned = worker.index(
            tmp_path / "v.npy", 19_000, clustered(64, 1), "probes", tmp_path / "a.faiss"
        )
    finally:
        worker.close()
    assert tuned is not None
    assert (tuned.source, tuned.queries) == ("probes", 64)
    assert TunedIndex(tmp_path / "a.faiss", vectors[:19_000], tuned).search(vectors[:1], 5)[
        1
    ].shape == (1, 5)


@pytest.mark.slow
def test_a_large_catalog_is_served_from_an_index_that_its_card_describes(
    settings: Settings, backbone: Backbone, tmp_path: Path
) -> None:
    adapter = tiny_adapter(backbone, 1)
    path = tiny_bundle(tmp_path / "b.safetensors", backbone, "movies", adapter)
    items = [
        {"item_id": f"i{n}", "title": f"film {n} {n * 7919 % 6007} {n * 31 % 97}"}
        for n in range(6000)
    ]
    asked = {"history": ["i1", "i2", "i3"], "k": 10}
    with running(settings.model_copy(update={"index_items": 5000})) as client:
        client.put("/domains/movies", json={})
        assert client.post("/domains/movies/items", json=items).json()["accepted"] == 6000
        activate(client, path)
        card = client.get("/domains/movies").json()["index"]
        assert card["kind"] in ("exact", "ivf_sq8")
        assert card["kind"] == "exact" or card["recall_at_10"] >= MIN_RECALL
        found = _ids(client, asked)
        client.delete(f"/domains/movies/items/{found[0]}")
        client.put("/domains/movies/items/fresh", json={"title": "film 1 1 1"})
        changed = _ids(client, asked)
        assert found[0] not in changed
    with running(settings.model_copy(update={"index_items": 0})) as client:
        exact = _ids(client, asked)
        assert client.get("/domains/movies").json()["index"]["kind"] in ("exact", card["kind"])
    assert len(set(exact) & set(changed)) >= 9


def _ids(client: httpx.Client, asked: dict[str, object]) -> list[str]:
    answer = client.post("/recommend?domain=movies", json=asked)
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]
