from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import ITEMS, activate, running, wait_for_job
from tests.tiny import tiny_backbone
from transrec.backbone import Backbone

NDJSON = {"Content-Type": "application/x-ndjson"}


def searchable(client: httpx.Client) -> set[str]:
    body = {"history": ["i0"], "k": 500, "exclude": {"seen": False}}
    return {
        item["item_id"]
        for item in client.post("/recommend?domain=movies", json=body).json()["items"]
    }


def test_a_domain_is_created_once_and_changed_after(
    client: httpx.Client, backbone: Backbone
) -> None:
    assert client.put("/domains/movies", json={"title": "Films"}).status_code == 201
    again = client.put("/domains/movies", json={})
    assert (again.status_code, again.json()["title"], again.json()["backbone"]) == (
        200,
        "Films",
        backbone.fingerprint,
    )
    assert [card["domain"] for card in client.get("/domains").json()["items"]] == ["movies"]


@pytest.mark.parametrize("name", ["Movies", ".hidden", "a" * 64, "a%20b"])
def test_a_name_that_is_none_is_refused(client: httpx.Client, name: str) -> None:
    answer = client.put(f"/domains/{name}", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_domain_name")


def test_a_backbone_is_named_by_folder_or_by_the_beginning_of_its_fingerprint(
    settings: Settings, backbone: Backbone
) -> None:
    other = tiny_backbone(settings.data / "backbones" / "second", seed=5)
    with running(settings) as client:
        unclear = client.put("/domains/movies", json={})
        assert (unclear.status_code, unclear.json()["code"]) == (422, "backbone_not_found")
        assert "tiny (" in unclear.json()["detail"]
        assert (
            client.put("/domains/a", json={"backbone": "second"}).json()["backbone"]
            == other.fingerprint
        )
        short = backbone.fingerprint[:10]
        assert (
            client.put("/domains/b", json={"backbone": short}).json()["backbone"]
            == backbone.fingerprint
        )
        assert client.put("/domains/b", json={"backbone": "second"}).status_code == 409


def test_items_are_searchable_when_the_answer_comes(movies: httpx.Client) -> None:
    assert len(searchable(movies)) == 60
    report = movies.post(
        "/domains/movies/items", json=[{"item_id": "new", "title": "storm"}, ITEMS[0]]
    ).json()
    assert (report["accepted"], report["unchanged"], report["updated"]) == (1, 1, 0)
    assert "new" in searchable(movies)


def test_items_are_searchable_under_the_version_before_too(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    movies.post("/domains/movies/items", json=[{"item_id": "new", "title": "storm"}])
    assert movies.post("/domains/movies/rollback").json()["version"] == 1
    assert "new" in searchable(movies)


def test_a_changed_text_changes_the_score(movies: httpx.Client) -> None:
    def score() -> float:
        body = {"history": ["i0"], "k": 500}
        items = movies.post("/recommend?domain=movies", json=body).json()["items"]
        return next(float(item["score"]) for item in items if item["item_id"] == "i5")

    before = score()
    report = movies.post(
        "/domains/movies/items", json=[{"item_id": "i5", "text": "violin storm"}]
    ).json()
    assert report["updated"] == 1
    assert score() != before


def test_ndjson_is_read_line_by_line_and_bad_rows_are_named(movies: httpx.Client) -> None:
    rows = [
        json.dumps({"item_id": "n1", "title": "oslo"}),
        "{broken",
        json.dumps({"item_id": "n2"}),
        json.dumps({"item_id": "", "title": "x", "colour": "red"}),
        json.dumps(["n3"]),
        "",
        json.dumps({"item_id": "n4", "title": "violin", "popularity": -1}),
    ]
    report = movies.post("/domains/movies/items", content="\n".join(rows), headers=NDJSON).json()
    assert (report["accepted"], report["rejected_count"]) == (1, 5)
    codes = [(row["index"], row["code"]) for row in report["rejected"]]
    assert codes == [
        (1, "malformed_json"),
        (2, "invalid_item"),
        (3, "invalid_item"),
        (4, "invalid_item"),
        (5, "invalid_item"),
    ]
    assert "title or text is needed" in report["rejected"][1]["detail"]
    assert "colour" in report["rejected"][2]["detail"]


@pytest.mark.parametrize(("count", "last"), [(9_000, "import"), (12_000, "verify")])
def test_a_large_import_becomes_a_job_with_progress(
    movies: httpx.Client, count: int, last: str
) -> None:
    def lines() -> Iterator[bytes]:
        for n in range(count):
            row = {"item_id": f"b{n}", "title": f"film {n % 50}", "attributes": {"n": "x" * 90}}
            yield json.dumps(row).encode() + b"\n"

    answer = movies.post("/domains/movies/items", content=lines(), headers=NDJSON)
    assert answer.status_code == 202
    job = wait_for_job(movies, answer.json())
    assert (job["status"], job["result"]["accepted"], job["kind"]) == ("succeeded", count, "import")
    assert job["stage"] == last, "a bulk import is compacted"
    assert job["done"] == job["total"]
    assert movies.get("/domains/movies").json()["searchable_items"] == count + 60


def test_an_import_need_not_be_waited_for(movies: httpx.Client) -> None:
    answer = movies.post(
        "/domains/movies/items?wait=false", json=[{"item_id": "late", "title": "storm"}]
    )
    assert (answer.status_code, answer.headers["location"]) == (202, f"/jobs/{answer.json()['id']}")
    assert wait_for_job(movies, answer.json())["result"]["accepted"] == 1


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"[{", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"", "application/json", 400),
        (b"x", "text/csv", 415),
    ],
)
def test_a_body_that_is_no_list_of_items_stores_nothing(
    movies: httpx.Client, content: bytes, kind: str, status: int
) -> None:
    answer = movies.post("/domains/movies/items", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert movies.get("/domains/movies").json()["items"] == 60


def test_items_are_listed_in_pages_and_shown_one_by_one(movies: httpx.Client) -> None:
    ids = []
    cursor = None
    while True:
        page = movies.get(
            "/domains/movies/items", params={"limit": 25, **({"cursor": cursor} if cursor else {})}
        ).json()
        ids += [item["item_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert ids == [item["item_id"] for item in ITEMS]
    assert movies.get("/domains/movies/items/i3").json()["text"] == ITEMS[3]["title"]
    assert movies.get("/domains/movies/items/zz").json()["code"] == "item_not_found"
    assert movies.get("/domains/movies/items?cursor=x").status_code == 422


def test_a_deleted_domain_leaves_nothing_and_its_name_is_free(
    movies: httpx.Client, bundle: Callable[..., Path], settings: Settings
) -> None:
    activate(movies, bundle(1))
    assert movies.delete("/domains/movies").status_code == 204
    assert movies.post("/recommend?domain=movies", json={"history": []}).status_code == 404
    assert not list((settings.data / "vectors").rglob("*.safetensors"))
    assert movies.put("/domains/movies", json={}).json()["versions"] == []
    assert movies.delete("/domains/books").status_code == 404
