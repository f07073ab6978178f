from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.conftest import ITEMS, activate
from tests.tiny import tiny_adapter
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.embed import embed
from transrec.model import encode_users


def offline(
    backbone: Backbone, adapter: Adapter | None, rows: list[int], k: int
) -> list[tuple[str, float]]:
    """What the library gives without any service."""
    vectors = embed(backbone, [item["title"] for item in ITEMS], adapter, dtype="float32")
    side = None if adapter is None else adapter.user
    user = encode_users(backbone.model.user_encoder, [np.array(rows)], vectors, side)[0]
    scores = vectors @ user
    scores[rows] = -np.inf
    return [(f"i{row}", float(scores[row])) for row in np.argsort(-scores)[:k]]


def ask(client: httpx.Client, **body: object) -> dict[str, Any]:
    answer = client.post("/recommend", params={"domain": "movies"}, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_none_answers_before_any_adapter_is_there(movies: httpx.Client, backbone: Backbone) -> None:
    answer = ask(movies, history=["i3", "i9"], k=5)
    assert (answer["version"], answer["digest"]) == ("none", backbone.fingerprint)
    assert len(answer["items"]) == 5
    assert {item["source"] for item in answer["items"]} == {"model"}


def test_an_answer_is_the_offline_answer_of_its_version(
    movies: httpx.Client, bundle: Callable[..., Path], backbone: Backbone
) -> None:
    activate(movies, bundle(1))
    for rows in ([5], [3, 9, 20], [int(n) for n in np.random.default_rng(0).permutation(60)[:20]]):
        answer = ask(movies, history=[f"i{row}" for row in rows], k=10)
        expected = offline(backbone, tiny_adapter(backbone, 1), rows, 10)
        assert answer["version"] == 1
        assert [item["item_id"] for item in answer["items"]] == [item_id for item_id, _ in expected]
        assert [item["score"] for item in answer["items"]] == pytest.approx(
            [score for _, score in expected], rel=1e-4
        )
        assert [item["rank"] for item in answer["items"]] == list(range(1, 11))


def test_the_whole_history_is_seen_though_the_network_reads_its_end(movies: httpx.Client) -> None:
    history = [f"i{row}" for row in range(15)]
    answer = ask(movies, history=history, k=60)
    assert (answer["history_used"], answer["history_truncated"]) == (6, True)
    assert {item["item_id"] for item in answer["items"]} == {f"i{row}" for row in range(15, 60)}


def test_seen_items_come_back_when_asked_and_named_ones_stay_out(movies: httpx.Client) -> None:
    answer = ask(movies, history=["i1"], k=60, exclude={"seen": False, "item_ids": ["i7", "gone"]})
    ids = {item["item_id"] for item in answer["items"]}
    assert "i1" in ids
    assert "i7" not in ids
    assert len(ids) == 59


def test_an_offset_continues_the_same_list(movies: httpx.Client) -> None:
    whole = ask(movies, history=["i1", "i2"], k=10)["items"]
    assert ask(movies, history=["i1", "i2"], k=5, offset=5)["items"] == whole[5:]


def test_unknown_items_are_skipped_and_named_or_refused(movies: httpx.Client) -> None:
    answer = ask(movies, history=["zz", {"item_id": "i4"}, "zz"])
    assert (answer["unknown_items"], answer["history_used"]) == (["zz"], 1)
    refused = movies.post(
        "/recommend?domain=movies", json={"history": ["zz", "i4", "yy"], "on_unknown": "error"}
    )
    assert refused.status_code == 422
    assert len(refused.json()["errors"]) == 2


@pytest.mark.parametrize(("history", "reason"), [([], "empty_history"), (["zz"], "all_unknown")])
def test_without_a_known_history_the_popular_answer_and_say_why(
    movies: httpx.Client, history: list[str], reason: str
) -> None:
    answer = ask(movies, history=history, k=3, exclude={"item_ids": ["i6"]})
    assert answer["fallback"] == {"used": True, "reason": reason}
    assert [item["item_id"] for item in answer["items"]] == ["i13", "i20", "i27"]
    assert ask(movies, history=history, fallback="none")["items"] == []


def test_metadata_and_timing_come_when_asked(movies: httpx.Client) -> None:
    answer = ask(movies, history=["i1"], k=2, include=["metadata", "timing"])
    assert all(item["metadata"]["title"].startswith("film") for item in answer["items"])
    assert answer["timing_ms"]["total"] > 0
    assert "metadata" not in ask(movies, history=["i1"], k=2)["items"][0]


def test_an_empty_catalog_answers_empty_and_says_so(client: httpx.Client) -> None:
    client.put("/domains/books", json={})
    answer = client.post("/recommend?domain=books", json={"history": ["a"]}).json()
    assert (answer["items"], answer["fallback"]["reason"]) == ([], "empty_catalog")


def test_a_version_can_be_pinned_while_it_is_in_memory(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    activate(movies, bundle(1))
    activate(movies, bundle(2))
    assert ask(movies, history=["i1"])["version"] == 2
    assert ask(movies, history=["i1"], version=1)["version"] == 1
    removed = movies.post("/recommend?domain=movies", json={"history": ["i1"], "version": "none"})
    assert (removed.status_code, removed.json()["code"]) == (409, "version_not_servable")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "malformed_body"),
        (b"{", 400, "malformed_body"),
        (b"[]", 422, "invalid_request"),
        (b"{}", 422, "history"),
        (b'{"history": [1, ""], "k": 0, "hystory": 1}', 422, "hystory"),
        (b'{"history": [' + b'"a",' * 2000 + b'"a"]}', 422, "1000"),
        (b'{"history": ["' + b"a" * 2_000_000 + b'"]}', 413, "1048576 bytes"),
    ],
)
def test_bad_bodies_are_answered_with_what_was_expected(
    movies: httpx.Client, body: bytes, status: int, says: str
) -> None:
    answer = movies.post("/recommend?domain=movies", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert says in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_every_wrong_value_of_a_body_is_listed(movies: httpx.Client) -> None:
    answer = movies.post(
        "/recommend?domain=movies", json={"history": ["a"], "k": 0, "fallback": "no", "x": 1}
    )
    assert {error["loc"][0] for error in answer.json()["errors"]} == {"k", "fallback", "x"}


def test_an_unknown_domain_is_named_with_those_that_exist(movies: httpx.Client) -> None:
    answer = movies.post("/recommend?domain=books", json={"history": []})
    assert (answer.status_code, answer.json()["code"]) == (404, "domain_not_found")
    assert "there is movies" in answer.json()["detail"]
    assert movies.post("/recommend", json={"history": []}).status_code == 422
