"""Held-out probes: kept, replaced, and asked by the path that answers requests."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest

from tests.service.conftest import MakeBundle, activate

HISTORIES = [["i1", "i2", "i3"], ["i9"], ["i4", "zz"], ["i30", "i31"]]


def answers(client: httpx.Client, version: int | str) -> list[list[str]]:
    """What `/recommend` says to each history."""
    found = []
    for history in HISTORIES:
        body = {"history": history, "k": 10, "version": version}
        answer = client.post("/recommend?domain=movies", json=body).json()
        found.append([item["item_id"] for item in answer["items"]])
    return found


@pytest.mark.parametrize("version", [1, "none"])
def test_a_version_is_evaluated_by_what_it_would_answer(
    movies: httpx.Client, bundle: MakeBundle, version: Any
) -> None:
    activate(movies, bundle(1))
    lists = answers(movies, version)
    targets = [lists[0][0], lists[1][2], "i4", "gone"]  # first, third, seen and so never, unknown
    probes = [
        {"history": had, "target": target} for had, target in zip(HISTORIES, targets, strict=True)
    ]
    put = movies.put("/domains/movies/probes", json=probes)
    assert (put.status_code, put.json()) == (200, {"domain": "movies", "probes": 4})
    found = movies.post("/domains/movies/evaluate", json={"version": version}).json()
    assert (found["version"], found["probes"], found["hr"]) == (version, 4, 0.5)
    assert found["ndcg"] == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert found["unknown_targets"] == 1
    assert found["distinct_items"] == len({item for items in lists for item in items})


def test_without_a_version_the_live_one_is_evaluated(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    movies.put("/domains/movies/probes", json=[{"history": ["i1"], "target": "i2"}])
    assert movies.post("/domains/movies/evaluate").json()["version"] == "none"
    activate(movies, bundle(1))
    assert movies.post("/domains/movies/evaluate").json()["version"] == 1


def test_probes_are_replaced_and_counted(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", json=[{"history": ["i1"], "target": "i2"}] * 3)
    movies.put("/domains/movies/probes", json=[{"history": ["i1"], "target": "i2"}])
    assert movies.get("/domains/movies/probes").json() == {"domain": "movies", "probes": 1}
    movies.put("/domains/movies/probes", json=[])
    refused = movies.post("/domains/movies/evaluate")
    assert (refused.status_code, "has no probes: PUT" in refused.json()["detail"]) == (409, True)


def test_wrong_probes_are_all_named_and_the_old_ones_stay(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", json=[{"history": ["i1"], "target": "i2"}])
    wrong = [
        {"history": [], "target": "i1"},
        {"history": ["i1"]},
        {"history": ["i1"], "target": "i2", "k": 3},
    ]
    refused = movies.put("/domains/movies/probes", json=wrong)
    assert refused.status_code == 422
    assert [error["loc"] for error in refused.json()["errors"]] == [
        [0, "history"],
        [1, "target"],
        [2, "k"],
    ]
    assert movies.put("/domains/movies/probes", content=b"[{").status_code == 400
    assert movies.get("/domains/movies/probes").json()["probes"] == 1


@pytest.mark.parametrize(
    "ask", [("PUT", "probes", "[]"), ("GET", "probes", ""), ("POST", "evaluate", "{}")]
)
def test_an_unknown_domain_is_named(client: httpx.Client, ask: tuple[str, str, str]) -> None:
    method, path, body = ask
    answer = client.request(method, f"/domains/nope/{path}", content=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "domain_not_found")


def test_a_version_that_is_not_in_memory_is_refused(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", content=json.dumps([{"history": ["i1"], "target": "i2"}]))
    assert movies.post("/domains/movies/evaluate", json={"version": 7}).status_code == 409
