"""Which pictures a sweep keeps: those that items and snapshots of any domain name."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.content.blobs import NOTE, Blobs
from service.content.sweeps import Sweeps
from service.jobs import Jobs
from service.settings import Settings
from service.state import DomainRecord, State, StoredItem
from service.state.redis import RedisState
from service.state.snapshots import Snapshots
from service.state.sqlite import SqliteState
from tests.service.conftest import components_of, running, wait_for_job
from tests.service.content.blob_folder import age, kept, swept
from tests.service.redis_server import RedisServer
from tests.tiny import tiny_backbone, tiny_picture

UNKNOWN = "f" * 64
"""The fingerprint of a backbone that is loaded nowhere."""


def sweeps_of(state: State, blobs: Blobs, tmp_path: Path) -> Sweeps:
    return Sweeps(state, blobs, Snapshots(tmp_path / "snapshots"), {}, Jobs(state, "here"))


def test_domains_whose_backbone_is_not_loaded_here_are_read_as_well(
    blobs: Blobs, tmp_path: Path
) -> None:
    state = SqliteState(tmp_path)
    for name in ("photos", "shop"):
        state.put_domain(DomainRecord(name, UNKNOWN))
    first = blobs.keep(tiny_picture(1))
    second = blobs.keep(tiny_picture(2))
    state.upsert_items("photos", [StoredItem("a", "", image=first), StoredItem("b", "a text")])
    state.upsert_items(
        "shop", [StoredItem("a", "", image=first), StoredItem("b", "", image=second)]
    )
    assert list(sweeps_of(state, blobs, tmp_path).named()) == [first, first, second]
    state.close()


def test_what_a_snapshot_names_stays_for_a_state_that_is_lost(blobs: Blobs, tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "lost")
    state.put_domain(DomainRecord("photos", UNKNOWN))
    digest = blobs.keep(tiny_picture(1))
    state.upsert_items("photos", [StoredItem("a", "", image=digest)])
    Snapshots(tmp_path / "snapshots").take(
        state, state.get_domain("photos"), state.generation("photos")
    )
    state.close()
    empty = SqliteState(tmp_path / "empty")
    assert list(sweeps_of(empty, blobs, tmp_path).named()) == [digest]
    [snapshot] = (tmp_path / "snapshots" / "photos").glob("*.parquet")
    snapshot.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="Parquet"):
        list(sweeps_of(empty, blobs, tmp_path).named())
    empty.close()


def test_nothing_goes_while_state_is_unavailable(
    blobs: Blobs,
    folder: Path,
    tmp_path: Path,
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = RedisState(own_redis.url, tmp_path)
    state.put_domain(DomainRecord("photos", UNKNOWN))
    sweeps = sweeps_of(state, blobs, tmp_path)
    digest = blobs.keep(tiny_picture(1))
    swept(blobs, folder)
    age(folder)
    own_redis.kill()
    with caplog.at_level(logging.INFO, "swaprec"):
        sweeps._sweep()
    assert "pictures are swept another time" in caplog.text
    assert kept(folder) == {digest}
    state.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tiny_backbone(tmp_path / "photos", modalities=("image",))
    return Settings(data=tmp_path / "data", backbones=(tmp_path / "photos",), port=0)


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A service with two domains of pictures 0 to 2, and of 2 to 4."""
    with running(settings) as http:
        for domain, first in (("old", 0), ("new", 2)):
            assert http.put(f"/domains/{domain}").status_code == 201
            for number in range(first, first + 3):
                row = {"image_b64": base64.b64encode(tiny_picture(number)).decode()}
                assert http.put(f"/domains/{domain}/items/i{number}", json=row).status_code == 201
        yield http


def image(client: httpx.Client, domain: str, number: int) -> str:
    digest: str = client.get(f"/domains/{domain}/items/i{number}").json()["image"]
    return digest


def compact(client: httpx.Client, domain: str) -> None:
    job = wait_for_job(client, components_of(client).jobs.submit("fold", domain, {}).to_json())
    assert job["status"] == "succeeded", job


def wait_for_sweep(client: httpx.Client) -> None:
    """Wait until what was asked for in the background is done: one thing after the other."""
    components_of(client).jobs.background(lambda: None).result(20)


def test_the_picture_of_a_deleted_item_goes_after_compactions_and_an_equal_items_stays(
    client: httpx.Client, settings: Settings
) -> None:
    folder = settings.data / "blobs"
    before = kept(folder)
    removed = image(client, "old", 1)
    shared = image(client, "old", 2)
    assert shared == image(client, "new", 2)
    for number in (1, 2):
        assert client.delete(f"/domains/old/items/i{number}").status_code == 204
    for domain in ("old", "new"):
        age(folder)
        compact(client, domain)
        wait_for_sweep(client)
    assert kept(folder) == before - {removed}


def test_the_pictures_of_a_removed_domain_go_but_those_that_another_domain_names(
    client: httpx.Client, settings: Settings
) -> None:
    folder = settings.data / "blobs"
    stays = {image(client, "new", number) for number in (2, 3, 4)}
    age(folder)
    assert client.delete("/domains/old").status_code == 204
    wait_for_sweep(client)
    assert len(kept(folder)) == 5
    age(folder)
    assert client.put("/domains/other").status_code == 201
    assert client.delete("/domains/other").status_code == 204
    wait_for_sweep(client)
    assert kept(folder) == stays


def test_a_service_that_stops_ends_its_sweep(client: httpx.Client, settings: Settings) -> None:
    folder = settings.data / "blobs"
    sweeps = components_of(client).sweeps
    before = kept(folder)
    age(folder)
    sweeps.close()
    sweeps.ask()
    sweeps._sweep()
    assert not (folder / NOTE).exists()
    assert kept(folder) == before
