"""Nothing of a domain that was deleted appears in a later one of its name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from adapters_store.bundle import Manifest, write_bundle
from adapters_store.domains import LOCK
from adapters_store.errors import VersionNotFound
from adapters_store.store import Store
from service.content.item_reader import ItemReader
from service.data_folder import end_removals
from service.errors import DomainNotFound
from service.state import DomainRecord, Probe, State, StoredItem
from service.state.fence import fence
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from tests.service.conftest import MakeBundle, components_of, upload

MOVIES = DomainRecord("movies", "f" * 64)
ROUNDS = 30

UPLOADER = """
import sys
from pathlib import Path
from adapters_store.domains import LOCK
from adapters_store.store import Store
from service.errors import DomainNotFound
from service.state.fence import fence
from service.state.sqlite import SqliteState
data, bundle = Path(sys.argv[1]), Path(sys.argv[2])
state, store = SqliteState(data), Store(data / "adapters")
for _ in sys.stdin:
    record = state.get_domain("movies")
    print("read", flush=True)
    try:
        store.add("movies", bundle, lambda bundle: [], fence(state, record))
        store.record_activation("movies", 1, "activate", fence(state, record))
    except (DomainNotFound, LookupError):
        print("refused", flush=True)
    else:
        print("added", flush=True)
"""


def test_an_upload_of_another_process_never_outlives_the_deletion_of_its_domain(
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "a.safetensors"
    manifest = Manifest(
        domain="movies", kind="houlsby", spec={}, backbone="f" * 64, dtype="float32"
    )
    write_bundle(bundle, manifest, {"a": np.zeros(3, np.float32)})
    state = SqliteState(tmp_path)
    store = Store(tmp_path / "adapters")
    command = [sys.executable, "-c", UPLOADER, str(tmp_path), str(bundle)]
    outcomes: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for _ in range(ROUNDS):
            state.put_domain(MOVIES)
            record = state.get_domain("movies")
            other.stdin.write("go\n")
            other.stdin.flush()
            assert other.stdout.readline() == "read\n"
            store.remove_domain(
                "movies", lambda: state.delete_domain("movies"), fence(state, record)
            )
            outcomes.append(other.stdout.readline().strip())
            state.put_domain(MOVIES)
            assert store.versions("movies") == []
            assert store.live("movies") is None
            assert store.domains() == []
            state.delete_domain("movies")
        other.stdin.close()
    assert len(outcomes) == ROUNDS
    state.close()


def test_uploads_that_race_the_deletion_of_their_domain_over_http_leave_no_version(
    client: httpx.Client, bundle: MakeBundle
) -> None:
    path = bundle(1)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(8):
            client.put("/domains/movies", json={})
            uploading = pool.submit(upload, client, path)
            deleting = pool.submit(client.delete, "/domains/movies")
            assert uploading.result().status_code in (201, 404)
            assert deleting.result().status_code == 204
            client.put("/domains/movies", json={})
            assert client.get("/domains/movies").json()["versions"] == []
            assert client.delete("/domains/movies").status_code == 204


def test_state_refuses_what_is_written_for_an_earlier_domain_of_the_name(state: State) -> None:
    state.put_domain(MOVIES)
    incarnation = state.get_domain("movies").incarnation
    item = StoredItem("i1", "a film")
    state.upsert_items("movies", [item], "changed", incarnation)
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    for write in (
        lambda: state.upsert_items("movies", [item], "changed", incarnation),
        lambda: state.replace_item("movies", item, StoredItem("i1", "another"), incarnation),
        lambda: state.put_probes("movies", [Probe(["i1"], "i2")], incarnation),
        lambda: state.create_job("import", "movies", {}, None, incarnation),
    ):
        with pytest.raises(DomainNotFound):
            write()
    assert (state.count_items("movies"), state.probes("movies"), state.jobs("movies")) == (
        0,
        [],
        [],
    )
    now = state.get_domain("movies").incarnation
    assert state.upsert_items("movies", [item], "changed", now).accepted == 1
    assert state.create_job("import", "movies", {}, None, now).domain == "movies"


def test_an_import_that_was_sent_to_the_deleted_domain_is_refused(
    client: httpx.Client, tmp_path: Path
) -> None:
    client.put("/domains/movies", json={})
    components = components_of(client)
    incarnation = components.state.get_domain("movies").incarnation
    client.delete("/domains/movies")
    client.put("/domains/movies", json={})
    spooled = tmp_path / "data" / "imports" / "x.ndjson.part"
    spooled.write_text('{"item_id": "i1", "title": "old"}\n')
    with pytest.raises(DomainNotFound):
        components.imports.submit("movies", spooled, incarnation)
    assert list(spooled.parent.iterdir()) == []
    assert client.get("/domains/movies").json()["items"] == 0


def test_a_removal_ends_where_somebody_who_waits_to_write_makes_its_lock_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SqliteState(tmp_path)
    store = Store(tmp_path / "adapters")
    state.put_domain(MOVIES)
    record = state.get_domain("movies")
    store.record_activation("movies", None, "activate", fence(state, record))
    rmdir = Path.rmdir

    def late(path: Path) -> None:
        (path / LOCK).touch()
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", late)
    store.remove_domain("movies", lambda: state.delete_domain("movies"), fence(state, record))
    assert (store.domains(), store.half_removed()) == ([], [])
    state.close()


@pytest.mark.parametrize(
    "error", [FileNotFoundError("vectors/movies"), RuntimeError("1 vectors were lost")]
)
def test_items_whose_vectors_go_with_their_domain_are_refused_as_of_a_removed_domain(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    vectors = components_of(client).writer._vectors

    def complete(*_: object) -> None:
        client.delete("/domains/movies").raise_for_status()
        raise error

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(vectors, "complete", complete)
    sends: tuple[Callable[[], httpx.Response], ...] = (
        lambda: client.post("/domains/movies/items", json=[{"item_id": "i1", "title": "film"}]),
        lambda: client.put("/domains/movies/items/i1", json={"title": "film"}),
    )
    for send in sends:
        client.put("/domains/movies", json={}).raise_for_status()
        answer = send()
        assert (answer.status_code, answer.json()["code"]) == (404, "domain_not_found")
    client.put("/domains/movies", json={}).raise_for_status()
    monkeypatch.setattr(vectors, "complete", fail)
    with pytest.raises(type(error)):
        components_of(client).writer.upsert("movies", [StoredItem("i1", "film")])


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_item_whose_domain_is_deleted_while_it_is_read_leaves_no_vector_behind(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    client.put("/domains/movies", json={}).raise_for_status()
    client.put("/domains/movies/items/i1", json={"title": "film"}).raise_for_status()
    settle = ItemReader.settle

    def delete(reader: ItemReader) -> None:
        if "movies" in client.get("/domains").text:
            client.delete("/domains/movies").raise_for_status()
        settle(reader)

    monkeypatch.setattr(ItemReader, "settle", delete)
    answer = client.request(method, "/domains/movies/items/i1", json={"title": "another film"})
    assert (answer.status_code, answer.json()["code"]) == (404, "domain_not_found")
    vectors = components_of(client).settings.data / "vectors"
    assert [path.name for path in vectors.glob("*")] == []


def test_a_flip_of_the_deleted_domain_is_not_written_into_the_new_one(tmp_path: Path) -> None:
    state = SqliteState(tmp_path)
    store = Store(tmp_path / "adapters")
    state.put_domain(MOVIES)
    old = fence(state, state.get_domain("movies"))
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    for write in (
        lambda: store.record_activation("movies", None, "activate", old),
        lambda: store.record_canary("movies", None, 5, "canary", old),
        lambda: store.rollback("movies", old),
        lambda: store.pin("movies", 1, pinned=True, fence=old),
        lambda: store.delete("movies", 1, old),
    ):
        with pytest.raises(DomainNotFound):
            write()
    assert store.domains() == []
    with pytest.raises(VersionNotFound):
        store.card("movies", 1)
    state.close()


def test_a_snapshot_that_is_taken_while_its_domain_is_deleted_is_not_left_for_a_restore(
    tmp_path: Path,
) -> None:
    state = SqliteState(tmp_path)
    snapshots = Snapshots(tmp_path / "snapshots")
    state.put_domain(MOVIES)
    state.upsert_items("movies", [StoredItem("i1", "a film")])
    old = state.get_domain("movies")
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    with pytest.raises(DomainNotFound):
        snapshots.take(state, old, 1)
    assert snapshots.all() == []
    state.upsert_items("movies", [StoredItem("i2", "a new film")])
    record = state.get_domain("movies")
    snapshots.take(state, record, 1)
    assert (snapshots.generation(record), snapshots.generation(old)) == (1, -1)
    state.close()


def test_a_removal_that_was_killed_half_way_is_ended_and_one_that_did_not_happen_is_not(
    tmp_path: Path,
) -> None:
    state = SqliteState(tmp_path)
    store = Store(tmp_path / "adapters")

    def killed() -> None:
        raise KeyboardInterrupt

    for name in ("gone", "there"):
        state.put_domain(DomainRecord(name, "f" * 64))
        store.record_activation(name, None, "activate")
        with pytest.raises(KeyboardInterrupt):
            store.remove_domain(name, killed)
    state.delete_domain("gone")
    assert store.half_removed() == ["gone", "there"]
    end_removals(state, store)
    assert (store.domains(), store.half_removed()) == (["there"], [])
    state.close()
