from __future__ import annotations

import gzip
import json
import os

import httpx

from tests.service.raw import Answer, ask

HISTORY = json.dumps({"history": ["i1"], "k": 3}).encode()
ROWS = b"".join(b'{"item_id": "n%d", "title": "film %d"}\n' % (n, n) for n in range(300))
NDJSON = "application/x-ndjson"


def send(
    client: httpx.Client, path: str, body: bytes, encoding: str, kind: str = "application/json"
) -> Answer:
    return ask(client, "POST", path, body, kind, Content_Encoding=encoding)


def test_a_gzip_body_is_read_as_the_plain_one_whatever_its_members_and_chunks(
    movies: httpx.Client,
) -> None:
    plain = movies.post("/recommend?domain=movies", content=HISTORY).json()["items"]
    for body, encoding in (
        (gzip.compress(HISTORY), "gzip"),
        (gzip.compress(HISTORY), "X-Gzip"),
        (gzip.compress(HISTORY[:9]) + gzip.compress(HISTORY[9:]), "gzip"),
        (HISTORY, "identity"),
    ):
        answer = send(movies, "/recommend?domain=movies", body, encoding)
        assert (answer.status, json.loads(answer.body)["items"]) == (200, plain)
    for rows in (
        gzip.compress(ROWS),
        b"".join(gzip.compress(row + b"\n") for row in ROWS.splitlines()),
    ):
        report = send(movies, "/domains/movies/items", rows, "gzip", NDJSON)
        assert json.loads(report.body)["rejected_count"] == 0
    assert movies.get("/domains/movies").json()["items"] == 360
    put = ask(
        movies,
        "PUT",
        "/domains/movies/items/x",
        gzip.compress(b'{"title": "x"}'),
        Content_Encoding="gzip",
    )
    assert put.status == 201


def test_other_encodings_are_415_and_name_what_is_read(movies: httpx.Client) -> None:
    for encoding in ("br", "zstd", "deflate", "gzip, gzip", "compress", "utf-8", "x" * 5000):
        for path in ("/recommend?domain=movies", "/domains/movies/items", "/adapters"):
            kind = "multipart/form-data; boundary=x" if path == "/adapters" else "application/json"
            answer = send(movies, path, HISTORY, encoding, kind)
            assert (answer.status, answer.kind) == (415, "application/problem+json")
            assert answer.headers["accept-encoding"] == "gzip, identity"
            assert len(answer.body) < 1000


def test_a_gzip_body_that_is_broken_too_large_or_a_bomb_is_refused_and_changes_nothing(
    movies: httpx.Client,
) -> None:
    noise = gzip.compress(
        json.dumps({"history": [os.urandom(8).hex() for _ in range(900_000)]}).encode(), 1
    )
    bodies = {
        b"no gzip": 400,
        gzip.compress(HISTORY)[:-5]: 400,
        gzip.compress(HISTORY)[:-5] + b"xxxxx": 400,
        gzip.compress(HISTORY) + b"garbage": 400,
        gzip.compress(b" " * 30_000_000): 413,
        gzip.compress(gzip.compress(b"0" * 10_000_000)): 400,
        noise: 413,
    }
    for body, status in bodies.items():
        assert send(movies, "/recommend?domain=movies", body, "gzip").status == status
    bomb = gzip.compress(b"\n" * 200_000_000, 1)
    assert send(movies, "/domains/movies/items", bomb, "gzip", NDJSON).status == 413
    assert movies.get("/domains/movies").json()["items"] == 60
