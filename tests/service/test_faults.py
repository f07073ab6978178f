"""What disks, operators and other programs do to the data folder: clear answers, and nothing
acknowledged is lost.

Killed processes are in `test_kill.py` and `test_kill_service.py`.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters_store.errors import OutOfSpace, StoreError
from service.data_folder import open_state
from service.errors import StateError, StateUnavailable
from service.settings import Settings
from service.state import DomainRecord, StoredItem
from service.state.sqlite import SqliteState
from service.state.sqlite import file as sqlite_file
from swaprec.doctor import examine
from swaprec.restore import restore
from tests.damage import harm
from tests.service.conftest import (
    MakeBundle,
    activate,
    components_of,
    running,
    wait_for_job,
    wait_until,
)
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle
from transrec.backbone import Backbone

ASKED = {"history": ["i1", "i2"], "k": 8}
ITEM = {"title": "film the 7"}


def fill(client: httpx.Client, *bundles: Path) -> None:
    """Make a domain of thirty items with activated versions."""
    client.put("/domains/movies", json={})
    client.post(
        "/domains/movies/items",
        json=[{"item_id": f"i{n}", "title": f"film {n}"} for n in range(30)],
    )
    for bundle in bundles:
        activate(client, bundle)


def answer(client: httpx.Client) -> Any:
    """Return version and items of a recommendation."""
    found = client.post("/recommend?domain=movies", json=ASKED)
    assert found.status_code == 200, found.text
    return found.json()["version"], [item["item_id"] for item in found.json()["items"]]


def put(client: httpx.Client) -> httpx.Response:
    return client.put("/domains/movies/items/new", json=ITEM)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.close()


STATE_FAULTS: list[tuple[str, Callable[[Path], object], set[str]]] = [
    ("removed", lambda path: path.rename(path.with_name("kept.db")), {"state_lost"}),
    (
        "emptied",
        lambda path: os.truncate(path, 0),
        {"state_lost", "state_damaged", "state_unavailable"},
    ),
    ("overwritten", overwrite, {"state_damaged"}),
    ("replaced", replace, {"state_lost"}),
]


@pytest.mark.parametrize(("fault", "codes"), [pytest.param(f, c, id=n) for n, f, c in STATE_FAULTS])
def test_a_state_file_that_is_lost_or_damaged_while_serving_refuses_writes_and_answers_from_memory(
    settings: Settings,
    fault: Callable[[Path], object],
    codes: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_file, "LOOK_EVERY_S", 0.0)
    with running(settings) as client:
        fill(client)
        before = answer(client)
        fault(settings.data / "state.db")
        refused = put(client)
        assert (refused.status_code, refused.json()["code"] in codes) == (503, True), refused.text
        assert refused.headers["retry-after"]
        assert "state.db" in refused.json()["detail"]
        assert answer(client) == before
        assert "state" in client.get("/readyz").json()["degraded"]


def test_a_locked_state_file_is_unavailable_until_it_is_let_go_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_MS", 100)
    with running(settings) as client:
        fill(client)
        before = answer(client)
        with locked(settings.data / "state.db"):
            for refused in (
                put(client),
                client.put("/domains/books", json={}),
                client.delete("/domains/movies/items/i1"),
                client.post("/adapters/movies/versions/none/activate"),
                client.delete("/domains/movies"),
            ):
                assert (refused.status_code, refused.json()["code"]) == (
                    503,
                    "state_unavailable",
                ), refused.text
                assert refused.headers["retry-after"]
                assert "locked" in refused.json()["detail"]
            assert answer(client) == before
        assert client.get("/domains/movies").json()["versions"] == []
        assert put(client).status_code == 201
        assert client.get("/readyz").json()["degraded"] == {}


def test_state_that_may_not_be_written_or_is_full_says_so_and_changes_nothing(
    tmp_path: Path,
) -> None:
    state = SqliteState(tmp_path)
    state.put_domain(DomainRecord("movies", "f" * 64))
    db = state.file.connection()
    db.execute("PRAGMA query_only = ON")
    with pytest.raises(StateUnavailable, match="make it writable"):
        state.upsert_items("movies", [StoredItem("i1", "a film")])
    db.execute("PRAGMA query_only = OFF")
    db.execute("PRAGMA max_page_count = 30")
    with pytest.raises(OutOfSpace, match="free some space"):
        state.upsert_items("movies", [StoredItem(f"i{n}", "a film" * 100) for n in range(1000)])
    assert state.count_items("movies") == 0
    db.execute("PRAGMA max_page_count = 1000000")
    assert state.upsert_items("movies", [StoredItem("i1", "a film")]).accepted == 1
    state.close()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "zeroed", "garbage"])
def test_a_state_that_is_damaged_before_the_start_is_named_and_not_taken_for_a_new_one(
    tmp_path: Path, damage: str
) -> None:
    settings = Settings(data=tmp_path)
    state = open_state(settings)
    state.put_domain(DomainRecord("movies", "f" * 64))
    state.close()
    (tmp_path / "snapshots" / "movies").mkdir(parents=True)
    (tmp_path / "snapshots" / "movies" / "snapshot.json").write_text("{}")
    for ending in ("-wal", "-shm"):
        Path(f"{tmp_path}/state.db{ending}").unlink(missing_ok=True)
    harm(tmp_path / "state.db", damage)
    with pytest.raises(StateError, match="swaprec restore"):
        open_state(settings)
    found = {finding.what: finding for finding in examine(tmp_path)}["state"]
    assert (found.state, "swaprec restore" in found.found + found.advice) == ("bad", True)


def test_a_lost_state_is_restored_with_its_versions_and_what_was_live(
    settings: Settings, bundle: MakeBundle
) -> None:
    with running(settings) as client:
        fill(client, bundle(1), bundle(2))
        components_of(client).reconciler.backlog.request_compaction("movies")
        wait_until((settings.data / "snapshots" / "movies" / "snapshot.json").exists)
        wait_until(lambda: not components_of(client).jobs.unended())
        before = answer(client)
    for path in settings.data.glob("state.db*"):
        path.unlink()
    with pytest.raises(StateError, match=r"state_lost.*movies.*swaprec restore"):
        open_state(settings)
    assert not (settings.data / "state.db").exists()
    assert [(one.domain, one.what, one.items) for one in restore(settings)] == [
        ("movies", "restored", 30)
    ]
    with running(settings) as client:
        assert answer(client) == before
        assert client.get("/domains/movies").json()["previous_version"] == 1


def test_a_domain_that_was_lost_with_its_snapshot_is_named_until_it_is_made_anew(
    settings: Settings, bundle: MakeBundle, caplog: pytest.LogCaptureFixture
) -> None:
    with running(settings) as client:
        fill(client, bundle(1))
    for path in settings.data.glob("state.db*"):
        path.unlink()
    shutil.rmtree(settings.data / "snapshots", ignore_errors=True)
    assert [(one.domain, one.what) for one in restore(settings)] == [("movies", "lost")]
    with caplog.at_level(logging.ERROR, "swaprec"), running(settings) as client:
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "the state lacks the domain movies, known in" in caplog.text
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"], list(ready.json()["degraded"])) == (
            200,
            "ready",
            ["domains"],
        )
        assert "movies" in ready.json()["degraded"]["domains"]
        for lost in (
            client.get("/domains/movies"),
            client.post("/recommend?domain=movies", json={"history": []}),
            client.post("/domains/movies/items", json=[{"item_id": "a", "title": "A"}]),
        ):
            assert (lost.status_code, lost.json()["code"]) == (503, "state_lost"), lost.text
        assert client.get("/domains/books").status_code == 404
        assert client.put("/domains/movies", json={}).status_code == 201
        assert client.get("/readyz").json()["degraded"] == {}
        assert client.get("/domains/movies").status_code == 200
        assert client.delete("/domains/movies").status_code == 204
        assert client.get("/domains/movies").status_code == 404


@pytest.mark.parametrize("damage", ["deleted", "zeroed", "cut"])
def test_a_damaged_activation_log_changes_nothing_that_is_answered(
    settings: Settings, bundle: MakeBundle, damage: str
) -> None:
    with running(settings) as client:
        fill(client, bundle(1))
        before = answer(client)
        harm(settings.data / "adapters" / "movies" / "activations.jsonl", damage)
        components_of(client).reconciler.reconcile("movies")
        assert answer(client) == before
    with running(settings) as client:
        assert answer(client) == before
        assert client.get("/adapters?domain=movies").json()["items"][0]["live"]


def test_an_activation_log_that_is_lost_with_its_copy_is_named_until_a_version_is_activated(
    settings: Settings, bundle: MakeBundle
) -> None:
    with running(settings) as client:
        fill(client, bundle(1))
        client.put("/domains/books", json={})
        before = answer(client)
    for name in ("activations.jsonl", "current.json"):
        (settings.data / "adapters" / "movies" / name).unlink()
    found = {finding.what: finding for finding in examine(settings.data)}["versions"]
    assert (found.state, "movies" in found.found) == ("bad", True)
    with running(settings) as client:
        refused = client.post("/recommend?domain=movies", json=ASKED)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_damaged")
        assert "Activate a version" in refused.json()["detail"]
        assert client.get("/readyz").json()["broken"].keys() == {"movies"}
        assert client.get("/domains/movies").json()["status"] == "broken"
        assert client.post("/recommend?domain=books", json={"history": []}).status_code == 200
        assert [
            card["version"] for card in client.get("/adapters?domain=movies").json()["items"]
        ] == [1]
        assert client.post("/domains/movies/rollback").status_code == 503
        job = wait_for_job(client, client.post("/adapters/movies/versions/1/activate").json())
        assert job["status"] == "succeeded", job
        assert answer(client) == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("bundle.safetensors", "card.json")
        for damage in ("deleted", "zeroed", "cut")
    ],
)
def test_a_damaged_version_is_an_error_that_says_so_and_hides_no_other(
    tmp_path: Path, name: str, damage: str
) -> None:
    from adapters_store.store import Store
    from tests.adapters_store.test_store import accept, make

    store = Store(tmp_path / "store")
    for value in (1.0, 2.0):
        store.add("movies", make(tmp_path, value), accept)
    harm(store.folder / "movies" / "1" / name, damage)
    with pytest.raises((StoreError, FileNotFoundError)):  # the service answers both
        store.open("movies", 1)
    assert store.open("movies", 2).size
    assert 2 in [card.version for card in store.versions("movies")]
    assert store.add("movies", make(tmp_path, 3.0), accept).version == 3


def test_a_mapped_file_that_is_cut_is_let_go_of_and_built_anew(
    settings: Settings, bundle: MakeBundle
) -> None:
    with running(settings) as client:
        fill(client, bundle(1))
        components = components_of(client)
        components.reconciler.backlog.request_compaction("movies")
        wait_until(lambda: components.live.get("movies").live.items.base.is_kept)
        wait_until(lambda: not components.jobs.unended())
        before = answer(client)
        base = components.live.get("movies").live.items.base.path
        for path in base.glob("*.npy"):
            assert not path.stat().st_mode & 0o222, "it is never changed"
            os.truncate(path, path.stat().st_size // 2)
        components.reconciler.reconcile("movies")
        wait_until(lambda: client.post("/recommend?domain=movies", json=ASKED).status_code == 200)
        assert answer(client) == before


def test_a_version_that_verification_refuses_fails_its_job_with_the_reason(
    settings: Settings, bundle: MakeBundle, caplog: pytest.LogCaptureFixture
) -> None:
    with running(settings) as client:
        fill(client)
        overflowing = tiny_adapter(tiny_backbone(), 1, scale=1e30)
        backbone = Backbone.load(settings.data / "backbones" / "tiny", "cpu")
        path = tiny_bundle(bundle(1), backbone, "movies", overflowing)
        with path.open("rb") as file:
            given = client.post("/adapters", files={"file": file}, data={"activate": "true"})
        job = wait_for_job(client, given.json()["job"])
    assert (job["status"], job["error"]["status"], job["error"]["code"]) == (
        "failed",
        422,
        "verification_failed",
    )
    assert "not finite" in job["error"]["detail"] or "overflows" in job["error"]["detail"]
    records = [record for record in caplog.records if job["id"] in record.getMessage()]
    assert [(record.levelname, record.exc_info) for record in records] == [("WARNING", None)]
