"""What clients get wrong: each a clear answer, nothing half-written, nothing left behind."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.content.import_rows import MAX_ROW_BYTES
from service.settings import Settings
from service.state.sqlite import FILE
from tests.service.conftest import running, wait_for_job, wait_until
from transrec.backbone import Backbone

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


def row(attributes: str = "{}", item_id: str = '"bad"', title: str = '"x"') -> str:
    return f'{{"item_id": {item_id}, "title": {title}, "attributes": {attributes}}}'


def left_behind(settings: Settings) -> list[str]:
    return [path.name for path in (settings.data / "imports").iterdir()]


def server_errors(client: httpx.Client) -> list[str]:
    lines = client.get("/metrics").text.splitlines()
    return [
        line for line in lines if line.startswith("swaprec_requests_total") and 'status="5' in line
    ]


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (row('{"a": NaN}'), "malformed_json", "expected value"),
        (row('{"a": 1e999}'), "invalid_item", "attributes"),
        (row('{"a": "\\ud800"}'), "malformed_json", "hex escape"),
        (row(item_id='"\\udfff"'), "malformed_json", "escape"),
        (row('{"a": ' + "[" * 1_000 + "]" * 1_000 + "}"), "malformed_json", "recursion limit"),
        (
            row('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
            "item_too_large",
            "lists and objects in one row",
        ),
        (row('{"a": ' + "9" * 5000 + "}"), "malformed_json", "number out of range"),
        (row(json.dumps({"a": "x" * 70_000})), "invalid_item", "at most 65536"),
        (row(title=json.dumps("x" * 5_000)), "invalid_item", "title"),
        (row(item_id=json.dumps("x" * 300)), "invalid_item", "item_id"),
        ("x" * (3 * MAX_ROW_BYTES), "item_too_large", f"longer than {MAX_ROW_BYTES} bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_row_that_cannot_be_kept_is_named_and_the_rows_around_it_are_stored(
    movies: httpx.Client, bad: str, code: str, says: str
) -> None:
    rows = [row(item_id='"before"'), bad, row(item_id='"after"')]
    answer = movies.post("/domains/movies/items", content="\n".join(rows), headers=NDJSON)
    report = answer.json()
    assert (answer.status_code, report["accepted"], report["rejected_count"]) == (200, 2, 1)
    assert (report["rejected"][0]["index"], report["rejected"][0]["code"]) == (1, code)
    assert says in report["rejected"][0]["detail"]
    assert len(report["rejected"][0]["item_id"] or "") <= 256
    listed = movies.get("/domains/movies/items?limit=1000").json()["items"]
    assert [item["item_id"] for item in listed[60:]] == ["before", "after"]


def test_deeply_nested_and_odd_but_valid_rows_come_back_as_they_were(movies: httpx.Client) -> None:
    attributes = json.loads('{"a": ' + "[" * 150 + "]" * 150 + ', "nul": "a\\u0000b"}')
    for title in ("one", "two"):
        item = {"item_id": "a b", "title": title, "attributes": attributes}
        content = b"\xef\xbb\xbf" + json.dumps(item).encode() + b"\r\n"
        assert (
            movies.post("/domains/movies/items", content=content, headers=NDJSON).json()["rejected"]
            == []
        )
    last = movies.get("/domains/movies/items?limit=1000").json()["items"][60:]
    assert [(item["item_id"], item["text"], item["metadata"]["a"]) for item in last] == [
        ("a b", "two", attributes["a"])
    ]


def test_an_array_that_is_no_json_stores_nothing(movies: httpx.Client) -> None:
    for bad in (f"[{row()}, {row('[' * 9000)}]", f"[{row()}, NaN]", f"[{row()}"):
        answer = movies.post("/domains/movies/items", content=bad, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
    assert movies.get("/domains/movies").json()["items"] == 60


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("PUT", "/domains/movies", "application/json"),
        ("POST", "/recommend?domain=movies", "application/json"),
        ("POST", "/domains/movies/items", "application/json"),
        ("POST", "/domains/movies/items", "application/x-ndjson"),
    ],
)
def test_a_limit_holds_for_bodies_that_do_not_say_how_long_they_are(
    tmp_path: Path, backbone: Backbone, method: str, path: str, kind: str
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield b'{"item_id": "a", "title": "' + b"x" * 1000 + b'"}\n'

    settings = Settings(data=tmp_path / "data", port=0, max_body_bytes=4096, max_import_bytes=4096)
    with running(settings) as client:
        assert client.put("/domains/movies", json={}).json()["backbone"] == backbone.fingerprint
        answer = client.request(method, path, content=chunks(), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
        assert "4096 bytes" in answer.json()["detail"]
        assert left_behind(settings) == []
        assert client.get("/domains/movies").json()["items"] == 0


@pytest.mark.parametrize("path", ["/domains/movies/items", "/recommend?domain=movies", "/adapters"])
def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_and_is_no_server_error(
    movies: httpx.Client, settings: Settings, path: str
) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/adapters" else "application/json"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length:"
        " 100000\r\n\r\n[".encode()
    )
    with socket.create_connection(("127.0.0.1", movies.base_url.port or 0)) as connection:
        connection.sendall(head)
    route = path.partition("?")[0].replace("movies", "{domain}")
    wait_until(lambda: f'route="{route}",status="400"' in movies.get("/metrics").text)
    assert left_behind(settings) == []
    assert not list((settings.data / "adapters").rglob("*.part"))
    assert server_errors(movies) == []


def test_what_breaks_inside_is_answered_without_its_inside(
    movies: httpx.Client, settings: Settings
) -> None:
    with sqlite3.connect(settings.data / FILE) as db:
        db.execute("UPDATE items SET metadata = 'no JSON'")
    db.close()
    answer = movies.get("/domains/movies/items", headers={"X-Request-Id": "mine-2"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers.get("connection") != "close"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-2"
    assert "JSON" not in answer.text
    assert "sqlite" not in answer.text.lower()


@pytest.mark.parametrize("cursor", ["x", "-1", "²", "9" * 30, ""])
def test_a_cursor_that_no_page_gave_is_refused(movies: httpx.Client, cursor: str) -> None:
    answer = movies.get("/domains/movies/items", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_domain_is_created_without_a_body_and_refused_with_a_broken_one(
    client: httpx.Client,
) -> None:
    assert client.put("/domains/movies").status_code == 201
    for bad, status, code in (
        (b"{", 400, "malformed_body"),
        (b'{"title": "\xff"}', 400, "malformed_body"),
        (b'{"titel": 1, "backbone": 2}', 422, "invalid_request"),
    ):
        answer = client.put("/domains/books", content=bad)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert {tuple(error["loc"]) for error in answer.json()["errors"]} == {("titel",), ("backbone",)}
    assert client.get("/domains/books").status_code == 404


def test_an_import_job_that_fails_leaves_no_file(movies: httpx.Client, settings: Settings) -> None:
    answer = movies.post("/domains/movies/items?wait=false", content=b"[{", headers=JSON)
    assert answer.status_code == 202
    job = wait_for_job(movies, answer.json())
    assert (job["status"], job["error"]["code"]) == ("failed", "malformed_body")
    wait_until(lambda: left_behind(settings) == [])
    assert movies.get("/domains/movies").json()["items"] == 60


def test_every_error_in_the_openapi_document_is_a_problem(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    assert "ProblemBody" in text
    assert "HTTPValidationError" not in text


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/jobs?state=x", '"state" is no parameter here: expected domain, limit'),
        ("GET", "/jobs?Limit=5&domain=movies", '"Limit" is no parameter here: did you mean limit?'),
        ("HEAD", "/jobs?state=x", ""),
        ("GET", "/domains/movies?limit=1", '"limit" is no parameter here: expected none'),
        ("GET", "/adapters?domian=movies", '"domian" is no parameter here: did you mean domain?'),
        ("GET", "/livez?a=", '"a" is no parameter here: expected none'),
        ("POST", "/recommend?domain=movies&k=5", '"k" is no parameter here: expected domain'),
        ("DELETE", "/domains/movies?force=true", '"force" is no parameter here: expected none'),
        (
            "PUT",
            "/domains/movies/items/i3?wait=true&replace=1",
            '"replace" is no parameter here: expected wait',
        ),
        (
            "GET",
            "/jobs?a=1&b=2",
            '2 values are not as expected; the first: "a" is no parameter here',
        ),
    ],
)
def test_an_unknown_query_parameter_is_refused_with_those_that_are_known(
    movies: httpx.Client, method: str, path: str, says: str
) -> None:
    answer = movies.request(method, path, json={"history": []} if method == "POST" else None)
    assert answer.status_code == 422
    if method != "HEAD":
        assert answer.json()["code"] == "invalid_request"
        assert answer.json()["detail"].startswith(says)
        assert answer.json()["errors"][0]["loc"][0] == "query"
    assert movies.get("/domains/movies").status_code == 200
