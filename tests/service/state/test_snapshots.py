from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.errors import StateError
from service.settings import Settings
from service.state import DomainRecord, Probe, StoredItem
from service.state.snapshots import Snapshots
from service.state.snapshots import restore as restore_one
from service.state.sqlite import FILE, SqliteState
from swaprec.restore import restore
from tests.service.conftest import activate, running

ITEMS = [
    StoredItem(f"i{n}", f"film {n}", float(n), {"year": 1900 + n}, available=n % 2 == 0)
    for n in range(30)
]


def taken(folder: Path) -> Snapshots:
    """Snapshot a domain of thirty items and a probe."""
    state = SqliteState(folder / "before")
    state.put_domain(DomainRecord("movies", "f", "Films"))
    state.upsert_items("movies", ITEMS)
    state.put_probes("movies", [Probe(["i1"], "i2")])
    snapshots = Snapshots(folder / "snapshots")
    snapshots.take(state, state.get_domain("movies"), 1)
    state.close()
    return snapshots


def test_a_restored_domain_has_every_item_in_order_and_its_probes(tmp_path: Path) -> None:
    snapshots = taken(tmp_path)
    state = SqliteState(tmp_path / "after")
    [card] = snapshots.all()
    assert restore_one(snapshots, state, card) == 30
    assert [item for _, item in state.list_items("movies", -1, 100)] == ITEMS
    assert state.probes("movies") == [Probe(["i1"], "i2")]
    assert state.get_domain("movies").title == "Films"
    with pytest.raises(StateError, match="left as it is"):
        restore_one(snapshots, state, card)
    state.close()


def test_a_damaged_snapshot_is_refused_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    snapshots = taken(tmp_path)
    state = SqliteState(tmp_path / "after")
    [path] = (tmp_path / "snapshots").glob("*/*.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    [card] = snapshots.all()
    with pytest.raises(StateError, match="is not the snapshot"):
        restore_one(snapshots, state, card)
    assert state.domains() == []
    state.close()


def test_a_lost_state_is_restored_and_answers_from_the_version_that_was_live(
    settings: Settings, bundle: Callable[..., Path]
) -> None:
    items = [{"item_id": f"i{n}", "title": f"film {n} of the year"} for n in range(400)]
    with running(settings) as client:
        for name in ("movies", "small"):
            client.put(f"/domains/{name}", json={})
        client.post("/domains/movies/items", json=items)
        client.post("/domains/small/items", json=items[:3])
        activate(client, bundle(1))
        before = _answer(client)
        with pytest.raises(StateError, match="another swaprec serves from"):
            restore(settings)
    for path in settings.data.glob(f"{FILE}*"):
        path.unlink()
    found = {one.domain: one for one in restore(settings)}
    assert (found["movies"].what, found["movies"].items) == ("restored", 400)
    assert "what changed since is missing" in found["movies"].detail
    assert {one.what for one in restore(settings)} == {"there"}
    with running(settings) as client:
        after = _answer(client)
    assert (after["version"], after["items"]) == (before["version"], before["items"])


def _answer(client: httpx.Client) -> dict[str, object]:
    answer = client.post("/recommend?domain=movies", json={"history": ["i1", "i2"]})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found
