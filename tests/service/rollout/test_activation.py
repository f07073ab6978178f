from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import started
from service.engine.engine import History
from service.errors import DomainLoading
from service.http.components import Components
from service.settings import Settings
from service.state import DomainRecord, JobRecord, StoredItem
from service.version import Version
from tests.service.conftest import (
    ITEMS,
    MakeBundle,
    activate,
    running,
    upload,
    wait_for_job,
    wait_until,
)
from tests.tiny import tiny_adapter, tiny_bundle, tiny_texts
from transrec.backbone import Backbone


@pytest.fixture
def components(settings: Settings, backbone: Backbone) -> Iterator[Components]:
    """The components of a service without its HTTP, with a domain of sixty items."""
    with started(settings) as components:
        components.state.put_domain(DomainRecord("movies", backbone.fingerprint))
        components.activator.publish_new_domain(components.state.get_domain("movies"))
        components.jobs.start()
        components.writer.upsert("movies", [StoredItem(text, text) for text in tiny_texts(60)])
        yield components


def store(components: Components, texts: list[str]) -> None:
    components.state.upsert_items("movies", [StoredItem(text, text, 0.0, {}) for text in texts])


def make_live(components: Components, path: Path | None) -> JobRecord:
    version: Version = (
        None if path is None else components.store.add("movies", path, lambda _: []).version
    )
    job = components.activator.submit("movies", version)
    wait_until(lambda: components.state.get_job(job.id).ended)
    return components.state.get_job(job.id)


def test_what_a_rollback_returns_to_has_the_items_that_came_during_an_activation(
    components: Components, bundle: MakeBundle
) -> None:
    store(components, ["late storm"])  # stored, and before it is searchable
    assert make_live(components, bundle(1)).status == "succeeded"  # an activation flips
    components.reconciler.reconcile("movies")
    assert components.live.get("movies").live.items.rows(["late storm"])
    assert components.activator.rollback("movies").live.items.rows(["late storm"])


def test_the_version_that_was_asked_for_last_is_live_in_the_end(
    components: Components, bundle: MakeBundle
) -> None:
    cold, warm = (
        components.store.add("movies", bundle(seed), lambda _: []).version for seed in (1, 2)
    )
    components.activator.submit("movies", warm)
    store(components, [f"news {n}" for n in range(2000)])
    jobs = [components.activator.submit("movies", version) for version in (cold, warm)]
    wait_until(lambda: all(components.state.get_job(job.id).ended for job in jobs))
    assert components.live.get("movies").live.version == warm


def test_changes_that_come_together_are_embedded_together(
    components: Components, bundle: MakeBundle
) -> None:
    make_live(components, bundle(1))
    before = components.live.get("movies").live.index_generation

    def change(number: int) -> bool:
        store(components, [f"oslo {number}"])
        components.reconciler.reconcile("movies")
        return bool(components.live.get("movies").live.items.rows([f"oslo {number}"]))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(change, range(16)))
    deployment = components.live.get("movies")
    assert deployment.previous is not None
    assert len(deployment.live.items) == len(deployment.previous.items) == 76
    assert deployment.live.index_generation - before == 16


def test_a_catalog_that_did_not_change_builds_nothing(components: Components) -> None:
    before = components.live.get("movies")
    components.reconciler.reconcile("movies")
    assert components.live.get("movies") is before


def test_live_and_previous_share_one_catalog_in_memory(
    components: Components, bundle: MakeBundle
) -> None:
    store(components, [f"news {n}" for n in range(600)])
    make_live(components, bundle(1))
    make_live(components, bundle(2))
    deployment = components.live.get("movies")
    assert deployment.previous is not None
    assert len(deployment.live.items.base.ids) == 660
    assert deployment.live.items.base is deployment.previous.items.base


def test_an_old_value_answers_as_it_did_after_a_hundred_swaps(
    components: Components, bundle: MakeBundle
) -> None:
    make_live(components, bundle(0))
    held = components.live.get("movies").live
    before = held.engine.encode([History([1, 2, 3], held.slot, held.items)])
    for seed in (1, 2):
        make_live(components, bundle(seed))
    components.store.pin("movies", 3, pinned=True)  # so that it is in memory after a rollback, too
    for _ in range(50):
        components.activator.rollback("movies")
        assert components.activator.submit("movies", 3).ended
    make_live(components, bundle(3))
    assert np.array_equal(held.engine.encode([History([1, 2, 3], held.slot, held.items)]), before)


def test_a_user_side_that_overflows_is_not_activated(
    components: Components, backbone: Backbone, tmp_path: Path
) -> None:
    adapter = tiny_adapter(backbone, 1)
    for weight in adapter.user.parameters():
        weight.fill_(1e30)
    job = make_live(
        components, tiny_bundle(tmp_path / "wild.safetensors", backbone, "movies", adapter)
    )
    assert (job.status, job.stage) == ("failed", "verify")
    assert job.error is not None
    assert "the user side overflows" in job.error["error"]
    assert components.live.get("movies").live.version is None


@pytest.mark.parametrize(
    ("size", "why"), [(1e9, "the adapter collapsed"), (1e20, "are not finite")]
)
def test_an_adapter_that_drowns_the_items_is_not_activated(
    components: Components, backbone: Backbone, tmp_path: Path, size: float, why: str
) -> None:
    store(components, [f"storm {n}" for n in range(60)])
    adapter = tiny_adapter(backbone, 1)
    item: Any = adapter.item
    last = item.bottleneck(1, "ffn")
    assert last is not None
    last.up.bias.copy_(size * last.up.bias.sign())
    job = make_live(
        components, tiny_bundle(tmp_path / "flat.safetensors", backbone, "movies", adapter)
    )
    assert (job.status, job.stage) == ("failed", "verify")
    assert job.error is not None
    assert why in job.error["error"]
    assert components.live.get("movies").live.version is None


def test_a_domain_that_loads_is_answered_at_once_and_not_made_anew(
    components: Components, settings: Settings, bundle: MakeBundle
) -> None:
    make_live(components, bundle(1))
    components.live.remove("movies")
    components.live.wait("movies", "being restored")
    entered = threading.Event()
    leave = threading.Event()

    def restore() -> None:
        with components.reconciler.turn("movies"):  # held as the restore holds it
            entered.set()
            leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(restore)
        assert entered.wait(10)
        try:
            with pytest.raises(DomainLoading):
                components.activator.rollback("movies")
            components.activator.publish_new_domain(components.state.get_domain("movies"))
            assert components.live.find("movies") is None
        finally:
            leave.set()
    assert settings.data.is_dir()


def test_a_damaged_previous_version_keeps_nothing_from_going_on(
    settings: Settings, bundle: MakeBundle
) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        for seed in (1, 2):
            activate(client, bundle(seed))
        path = settings.data / "adapters" / "movies" / "1" / "bundle.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        assert (
            client.post(
                "/domains/movies/items", json=[{"item_id": "new", "title": "oslo"}]
            ).status_code
            == 200
        )
        assert client.post("/domains/movies/rollback").json()["code"] == "conflict"
    with running(settings) as client:
        wait_until(
            lambda: (
                client.get("/readyz").json()
                == {"status": "ready", "loading": {}, "broken": {}, "degraded": {}}
            )
        )
        assert client.get("/domains/movies").json()["live_version"] == 2


def test_a_broken_domain_is_not_silently_made_anew(settings: Settings, bundle: MakeBundle) -> None:
    with running(settings) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        activate(client, bundle(1))
    path = settings.data / "adapters" / "movies" / "1" / "bundle.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with running(settings) as client:
        wait_until(lambda: "movies" in client.get("/readyz").json()["broken"])
        assert client.put("/domains/movies", json={}).json()["status"] == "broken"
        answer = client.post("/recommend?domain=movies", json={"history": ["i1"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "domain_broken")
        assert (
            wait_for_job(client, upload(client, bundle(2), activate="true").json()["job"])["status"]
            == "succeeded"
        )
        assert client.get("/domains/movies").json()["live_version"] == 2


def test_a_version_whose_vectors_lie_ready_is_live_when_the_answer_comes(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    for seed in (1, 2):
        activate(movies, bundle(seed))
    job = movies.post("/adapters/movies/versions/1/activate")
    assert (job.status_code, job.json()["status"]) == (200, "succeeded")
    assert job.json()["result"]["version"] == 1
    assert movies.post("/recommend?domain=movies", json={"history": ["i1"]}).json()["version"] == 1
    assert movies.get(f"/jobs/{job.json()['id']}").json() == job.json()
    gated = movies.post("/adapters/movies/versions/2/activate", json={"gate": {"min_hr10": 0.1}})
    assert gated.status_code == 202, "a gate asks first"


def test_vectors_of_no_version_are_swept(settings: Settings, bundle: MakeBundle) -> None:
    shelf = settings.data / "vectors" / "movies"
    with running(settings) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        for seed in (1, 2, 3):
            activate(client, bundle(seed))
    (shelf / f"{'0' * 32}-float32.safetensors").write_bytes(b"x")  # as an earlier release kept them
    (shelf / f"{'1' * 32}-float32").mkdir()
    with running(settings) as client:
        assert client.delete("/adapters/movies/versions/1").status_code == 204
        kept = {path.name[:32] for path in shelf.iterdir()}
        digests = [
            client.get(f"/adapters/movies/versions/{version}").json()["digest"]
            for version in (2, 3)
        ]
        none = client.get("/domains/movies").json()["backbone"]
    assert kept == {digest[:32] for digest in (*digests, none)}
