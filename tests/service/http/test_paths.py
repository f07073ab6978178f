"""A path names what its bytes say: nothing else is read, changed or deleted."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import httpx

from service.access.keys import KeyFile
from service.settings import Settings
from service.state.sqlite import FILE
from tests.service.conftest import components_of, running
from tests.service.raw import ask
from transrec.backbone import Backbone

BAD_IDS = [
    "i3%0A",
    "%0Ai3",
    "i%0A3",
    "i3%00",
    "i3%C2%85",
    "i3%E2%80%A8",
    "i3%E2%80%A9",
    "i3%7F",
    "",
    "x" * 257,
    "%C3%A9" * 129,
]
BROKEN = ["i3%FF", "%ED%A0%80", "i3%", "i3%zz", "i3%4", "%C0%AE%C0%AE"]
METHODS = ["GET", "PUT", "PATCH", "DELETE"]


def count(client: httpx.Client) -> int:
    found: int = client.get("/domains/movies").json()["items"]
    return found


def test_a_path_never_names_another_item_than_its_exact_bytes(movies: httpx.Client) -> None:
    for method in METHODS:
        body = json.dumps({"title": "changed"}).encode() if method in ("PUT", "PATCH") else b""
        for name, expected in [*((one, 422) for one in BAD_IDS), *((one, 400) for one in BROKEN)]:
            answer = ask(movies, method, f"/domains/movies/items/{name}", body)
            assert (answer.status, answer.kind) == (expected, "application/problem+json"), (
                method,
                name,
                answer,
            )
        for name in (
            "i3/",
            "i3%2F",
            "i3%252F",
            "./i3",
            "../items/i3",
            "%2e/i3",
            "i3%20",
            "%20i3",
            "I3",
            "i3%250A",
        ):
            if method != "PUT":
                assert ask(movies, method, f"/domains/movies/items/{name}", body).status == 404, (
                    method,
                    name,
                )
    assert count(movies) == 60
    assert movies.get("/domains/movies/items/i3").json()["text"] == "film the the the 3"


def test_a_path_that_is_not_utf8_is_quoted_as_it_was_sent(movies: httpx.Client) -> None:
    answer = ask(movies, "GET", "/domains/movies/items/i3%FF")
    assert (
        json.loads(answer.body)["detail"]
        == 'the path is not UTF-8: invalid start byte at byte 2 of "i3%FF"'
    )


def test_every_other_id_is_put_shown_changed_and_deleted_by_its_encoded_path(
    movies: httpx.Client,
) -> None:
    for item_id in ("a/b", "a b", "..", ".", "a%2Fb", "%", "é", "日本/語", "?", "#", "a//b", "/"):
        place = f"/domains/movies/items/{''.join(f'%{byte:02X}' for byte in item_id.encode())}"
        put = ask(movies, "PUT", place, b'{"title": "odd"}')
        assert (put.status, json.loads(put.body)["item_id"]) == (201, item_id)
        assert ask(movies, "GET", put.headers["location"]).status == 200
        assert ask(movies, "PATCH", place, b'{"title": "odder"}').status == 200
        assert ask(movies, "DELETE", place).status == 204
    assert count(movies) == 60


def test_an_id_from_before_the_check_may_only_be_deleted_by_its_exact_path(
    movies: httpx.Client, settings: Settings
) -> None:
    with sqlite3.connect(settings.data / FILE) as db:
        db.execute("UPDATE items SET item_id = ? WHERE item_id = 'i3'", ("i4\n",))
    db.close()
    place = "/domains/movies/items/i4%0A"
    assert [ask(movies, method, place, b"{}").status for method in ("GET", "PUT", "PATCH")] == [
        422,
        422,
        422,
    ]
    assert ask(movies, "DELETE", place).status == 204
    assert ask(movies, "DELETE", place).status == 422
    assert movies.get("/domains/movies/items/i4").status_code == 200


def test_no_other_path_is_read_as_something_near_it(movies: httpx.Client) -> None:
    expected = {
        "GET /livez%0A": 422,
        "GET /metrics%0A": 422,
        "DELETE /domains/movies%0A": 422,
        "DELETE /domains/movies%2Fitems%2Fi3": 422,
        "DELETE /domains%2Fmovies": 422,
        "DELETE /domains/movies/": 404,
        "GET /jobs/": 404,
        "GET /jobs/%2e%2e%2fdomains": 422,
        "DELETE /adapters/movies/versions/1%0A": 422,
        "DELETE /adapters/movies/versions/%201": 422,
        "DELETE /adapters/movies/versions/+1": 422,
        "DELETE /adapters/movies/versions/01": 422,
        "DELETE /adapters/movies/versions/1.0": 422,
        "DELETE /adapters/movies/versions/1_0": 422,
        "GET /domains/%FF": 400,
    }
    words = {request: request.split(" ") for request in expected}
    answers = {request: ask(movies, method, path) for request, (method, path) in words.items()}
    assert {request: answer.status for request, answer in answers.items()} == expected
    assert {answer.kind for answer in answers.values()} == {"application/problem+json"}
    assert count(movies) == 60


def test_a_key_for_one_domain_sees_no_metrics_whatever_the_path_ends_with(
    tmp_path: Path, backbone: Backbone
) -> None:
    assert backbone.fingerprint
    _, token = KeyFile(tmp_path / "data" / "keys.json").add("shop", "read", ["shop"])
    with running(Settings(data=tmp_path / "data", port=0), token) as client:
        for path in ("/metrics", "/metrics%0A", "/info%0A", "/%6Detrics", "/metrics/"):
            assert ask(client, "GET", path, token=token).status in (403, 404, 422), path


def test_head_answers_like_get_without_a_body(movies: httpx.Client) -> None:
    job = movies.post(
        "/domains/movies/items?wait=false", json=[{"item_id": "new", "title": "x"}]
    ).json()
    paths = [
        "/livez",
        "/readyz",
        "/metrics",
        "/info",
        "/domains",
        "/domains/movies",
        "/domains/movies/items",
    ]
    paths += [
        "/domains/movies/items/i3",
        "/domains/movies/probes",
        "/adapters",
        "/jobs",
        f"/jobs/{job['id']}",
    ]
    paths += [f"/jobs/{job['id']}/events", "/openapi.json", "/docs"]
    for path in paths:
        answer = movies.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
        assert answer.headers["content-type"] == movies.get(path).headers["content-type"]
    assert movies.head("/domains/nowhere").status_code == 404
    assert components_of(movies).state.count_items("movies") == 61
