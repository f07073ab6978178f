from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.service.conftest import ITEMS, activate, components_of, wait_for_job


def _recommended(client: httpx.Client, **wishes: Any) -> list[str]:
    body = {"history": ["i0", "i1"], "k": 60, **wishes}
    answer = client.post("/recommend?domain=movies", json=body)
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_new_item_is_searchable_when_the_answer_comes(movies: httpx.Client) -> None:
    answer = movies.put(
        "/domains/movies/items/new", json={"title": "Heat (1995) crime", "category": "crime"}
    )
    assert answer.status_code == 201
    assert answer.headers["location"] == "/domains/movies/items/new"
    assert "new" in _recommended(movies)
    assert movies.get("/domains/movies/items/new").json()["metadata"]["category"] == "crime"


def test_the_same_item_again_changes_nothing(movies: httpx.Client) -> None:
    before = movies.get("/domains/movies").json()["index_generation"]
    body = {key: value for key, value in ITEMS[3].items() if key != "item_id"}
    assert movies.put("/domains/movies/items/i3", json=body).status_code == 200
    assert movies.get("/domains/movies").json()["index_generation"] == before


def test_a_changed_text_moves_the_item(movies: httpx.Client) -> None:
    def vector() -> list[float]:
        body = {"items": ["i5", {"text": "Another title"}]}
        found, wanted = movies.post("/embed?domain=movies", json=body).json()["vectors"]
        return [abs(one - other) for one, other in zip(found, wanted, strict=True)]

    assert max(vector()) > 1e-3
    assert (
        movies.put("/domains/movies/items/i5", json={"title": "Another title"}).status_code == 200
    )
    assert max(vector()) < 1e-4


def test_a_deleted_item_is_in_no_later_answer(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    assert movies.delete("/domains/movies/items/i7").status_code == 204
    assert "i7" not in _recommended(movies)
    assert movies.get("/domains/movies/items/i7").status_code == 404
    assert movies.delete("/domains/movies/items/i7").status_code == 404
    movies.post("/domains/movies/rollback")
    assert "i7" not in _recommended(movies)
    activate(movies, bundle(3))
    assert "i7" not in _recommended(movies)
    assert "i7" not in _recommended(movies, history=[])
    unknown = movies.post("/recommend?domain=movies", json={"history": ["i7", "i1"]}).json()
    assert unknown["unknown_items"] == ["i7"]


def test_an_item_that_comes_back_is_searchable_again(movies: httpx.Client) -> None:
    movies.delete("/domains/movies/items/i7")
    assert movies.put("/domains/movies/items/i7", json={"title": "Back again"}).status_code == 201
    assert "i7" in _recommended(movies)


def test_what_is_not_available_is_known_to_histories_and_never_recommended(
    movies: httpx.Client,
) -> None:
    answer = movies.patch("/domains/movies/items/i9", json={"available": False})
    assert answer.status_code == 200
    assert answer.json()["available"] is False
    assert "i9" not in _recommended(movies)
    assert "i9" not in _recommended(movies, history=[])
    answer = movies.post("/recommend?domain=movies", json={"history": ["i9"]}).json()
    assert (answer["unknown_items"], answer["history_used"]) == ([], 1)
    movies.patch("/domains/movies/items/i9", json={"available": True})
    assert "i9" in _recommended(movies)


def test_a_patch_changes_what_it_names_and_nothing_else(movies: httpx.Client) -> None:
    body = {"title": "Heat", "category": "crime", "attributes": {"year": 1995, "country": "US"}}
    movies.put("/domains/movies/items/heat", json=body)
    answer = movies.patch(
        "/domains/movies/items/heat", json={"category": None, "attributes": {"country": None}}
    )
    assert answer.json()["metadata"] == {"title": "Heat", "year": 1995}
    assert (
        movies.patch("/domains/movies/items/heat", json={"title": "Heat (1995)"}).json()["text"]
        == "Heat (1995)"
    )
    assert movies.patch("/domains/movies/items/nowhere", json={"title": "x"}).status_code == 404


def test_bad_items_are_refused_with_every_problem_and_nothing_changes(movies: httpx.Client) -> None:
    answer = movies.put("/domains/movies/items/i3", json={"titel": "x", "popularity": -1})
    assert answer.status_code == 422
    assert {error["loc"][0] for error in answer.json()["errors"]} == {"titel", "popularity"}
    assert movies.put("/domains/movies/items/i3", json={"popularity": 1}).status_code == 422
    assert (
        movies.put("/domains/movies/items/i3", json={"item_id": "i4", "title": "x"}).status_code
        == 422
    )
    assert movies.put("/domains/movies/items/i3", content=b"{").status_code == 400
    assert (
        movies.patch("/domains/movies/items/i3", json={"title": None, "text": None}).status_code
        == 422
    )
    assert movies.put("/domains/movies/items/" + "x" * 300, json={"title": "x"}).status_code == 422
    assert movies.get("/domains/movies/items/i3").json()["text"] == ITEMS[3]["title"]


def test_an_id_may_hold_slashes_spaces_and_letters_of_any_language(movies: httpx.Client) -> None:
    for name in ("a/b c", "søk", "50%", "a?b#c"):
        path = "/domains/movies/items/" + "".join(f"%{byte:02X}" for byte in name.encode())
        assert movies.put(path, json={"title": "One"}).status_code == 201
        assert movies.get(path).json()["item_id"] == name
        assert name in _recommended(movies, k=100)
        assert movies.delete(path).status_code == 204


def test_an_item_need_not_be_waited_for(movies: httpx.Client) -> None:
    answer = movies.put("/domains/movies/items/late?wait=false", json={"title": "Storm over Oslo"})
    assert (answer.status_code, answer.headers["location"]) == (202, f"/jobs/{answer.json()['id']}")
    assert wait_for_job(movies, answer.json())["result"]["accepted"] == 1
    assert "late" in _recommended(movies)
    changed = movies.patch(
        "/domains/movies/items/late?wait=false", json={"available": False, "popularity": 3}
    )
    assert changed.status_code == 202
    assert wait_for_job(movies, changed.json())["result"] == {"updated": 1, "unchanged": 0}
    assert "late" not in _recommended(movies)
    assert movies.get("/domains/movies/items/late").json()["popularity"] == 3
    assert list((components_of(movies).settings.data / "imports").iterdir()) == []


def test_an_item_that_is_wrong_is_refused_at_once_whether_or_not_it_is_waited_for(
    movies: httpx.Client,
) -> None:
    place = "/domains/movies/items"
    assert movies.put(f"{place}/new?wait=false", json={"category": "crime"}).status_code == 422
    assert movies.put(f"{place}/new?wait=false", json={"title": "x", "pop": 1}).status_code == 422
    assert (
        movies.put(f"{place}/new?wait=false", json={"text": ["x" * 20_000] * 8 + ["y"]}).status_code
        == 422
    )
    assert movies.patch(f"{place}/i1?wait=false", json={"title": None}).status_code == 422
    assert movies.patch(f"{place}/gone?wait=false", json={"available": False}).status_code == 404
    assert movies.put("/domains/books/items/i1?wait=false", json={"title": "x"}).status_code == 404
    assert movies.get("/jobs").json()["items"] == []
    assert list((components_of(movies).settings.data / "imports").iterdir()) == []
