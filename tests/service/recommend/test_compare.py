from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.conftest import MakeBundle, activate

HISTORY = ["i1", "i2", "i3"]


def compare(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/compare?domain=movies", json={"history": HISTORY, "k": 5, **body})


def test_each_arm_answers_as_it_would_alone(movies: httpx.Client, bundle: MakeBundle) -> None:
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    arms = [{"version": 2}, {"version": 1}, {"strategy": "popular"}]
    compared = compare(movies, arms=arms, include=["metadata"]).json()
    assert [arm["name"] for arm in compared["arms"]] == ["2", "1", "popular"]
    for version, arm in zip((2, 1), compared["arms"], strict=False):
        body = {"history": HISTORY, "k": 5, "version": version, "include": ["metadata"]}
        alone = movies.post("/recommend?domain=movies", json=body).json()
        assert arm["items"] == alone["items"]
        assert arm["index_generation"] == alone["index_generation"]
    body = {"history": [], "k": 5, "exclude": {"item_ids": HISTORY}, "include": ["metadata"]}
    assert (
        compared["arms"][2]["items"]
        == movies.post("/recommend?domain=movies", json=body).json()["items"]
    )
    assert compared["arms"][2]["fallback"] == {"used": False, "reason": None}


def test_overlap_and_what_moved_are_counted_from_the_lists(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    compared = compare(movies).json()
    lists = [[item["item_id"] for item in arm["items"]] for arm in compared["arms"]]
    assert [arm["name"] for arm in compared["arms"]] == ["1", "none", "popular"]
    for row, one in enumerate(lists):
        for column, other in enumerate(lists):
            assert compared["overlap_at_k"][row][column] == len(set(one) & set(other)) / 5
    for moved in compared["moved"]:
        ranks = [
            ids.index(moved["item_id"]) + 1 if moved["item_id"] in ids else None for ids in lists
        ]
        assert moved["ranks"] == ranks
    still = set.intersection(*map(set, lists)) - {moved["item_id"] for moved in compared["moved"]}
    assert all(len({ids.index(item) for ids in lists}) == 1 for item in still)
    best = [min(rank for rank in moved["ranks"] if rank) for moved in compared["moved"]]
    assert best == sorted(best)


def test_unknown_items_are_named_and_the_rest_is_read(movies: httpx.Client) -> None:
    assert compare(movies, history=["i1", "zz", "zz"]).json()["unknown_items"] == ["zz"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"arms": [{"version": 9}]}, 409, "can answer from versions none now, not from 9"),
        ({"arms": [{"strategy": "random"}]}, 422, "arms"),
        ({"arms": [{"version": "none"}] * 9}, 422, "at most 8"),
        ({"history": None}, 422, "history"),
    ],
)
def test_an_arm_that_cannot_answer_is_refused(
    movies: httpx.Client, body: dict[str, Any], status: int, says: str
) -> None:
    answer = compare(movies, **body)
    assert answer.status_code == status
    assert says in answer.text
