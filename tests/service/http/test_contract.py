"""The OpenAPI document is kept: whatever is sent,
no answer has a status or a form that it does not name.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import activate, upload
from tests.service.raw import Answer, ask

SEED = int(os.environ.get("CONTRACT_SEED", "20261128"))
ROUNDS = int(os.environ.get("CONTRACT_ROUNDS", "4"))
PROBLEM = "application/problem+json"
TEXTS = [
    "",
    "i3",
    "movies",
    "1",
    "none",
    "a/b",
    "..",
    "%",
    "\n",
    "i3\n",
    "\0",
    "é" * 200,
    "x" * 300,
    "\u2028",
    "\ufffd",
]
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    1.5,
    1e308,
    10**40,
    *TEXTS,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "i1"],
]
PARTS = [
    "movies",
    "i3",
    "i3%0A",
    "%FF",
    "%",
    "%2F",
    ".",
    "..",
    "1",
    "01",
    "none",
    "a" * 3000,
    "%00",
    "-1",
    "%E2%80%A8",
]
RAW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"nul",
    b"\xff",
    b'"\\ud800"',
    b"[" * 5000,
    b'{"a": NaN}',
    b"1" * 5000,
    b"--x\r\n",
]
KINDS = [
    "application/json",
    "application/x-ndjson",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "",
    "a/b",
]
FIELDS = [
    "history",
    "k",
    "offset",
    "version",
    "exclude",
    "item_ids",
    "user_id",
    "fallback",
    "on_unknown",
    "include",
]
FIELDS += [
    "item_id",
    "text",
    "image_b64",
    "items",
    "target",
    "arms",
    "strategy",
    "gate",
    "canary_percent",
    "pinned",
]
FIELDS += [
    "title",
    "backbone",
    "attributes",
    "popularity",
    "timestamp",
    "available",
    "min_hr10",
    "max_drop",
]
NOT_PROVOKED = {401, 403, 429, 500, 503, 507}
"""Without keys, load or a broken disk none of these is answered;
other tests provoke each of them.
"""

Document = dict[str, Any]


@cache
def document() -> Document:
    return create_app(Settings()).openapi()


def operations(doc: Document) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, one)
        for path, found in doc["paths"].items()
        for method, one in found.items()
    ]


def test_every_error_is_a_problem_and_each_operation_has_content_and_a_plain_id_of_its_own() -> (
    None
):
    listed = operations(document())
    ids = [one["operationId"] for _, _, one in listed]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    assert [name for name in ids if not re.fullmatch("[a-z]+(_[a-z]+)*", name)] == []
    for method, path, one in listed:
        for status, answer in one["responses"].items():
            content = list(answer.get("content", {}))
            expected = (
                content == [PROBLEM] if status >= "400" else bool(content) == (status != "204")
            )
            assert expected, (method, path, status, content)
        assert ("422" in one["responses"]) == bool(
            one.get("parameters") or one.get("requestBody")
        ), (method, path)
        assert {"413", "415"} <= one["responses"].keys() or not one.get("requestBody"), (
            method,
            path,
        )
        writes = one.get("x-scope") in ("write", "admin")
        assert ("507" in one["responses"]) == writes, (method, path)


def body_of(draw: random.Random, depth: int = 0) -> Any:
    """A body that has our fields in odd places with odd values."""
    if depth > 2 or draw.random() < 0.5:
        return draw.choice(ODD)
    if draw.random() < 0.3:
        return [body_of(draw, depth + 1) for _ in range(draw.randrange(3))]
    return {name: body_of(draw, depth + 1) for name in draw.sample(FIELDS, draw.randrange(4))}


VALID: dict[str, Callable[[random.Random], Any]] = {
    "/recommend": lambda draw: {"history": ["i1"], draw.choice(FIELDS): body_of(draw)},
    "/compare": lambda draw: {"history": ["i1"], draw.choice(FIELDS): body_of(draw)},
    "/similar": lambda draw: {"item_id": "i1", draw.choice(FIELDS): body_of(draw)},
    "/embed": lambda draw: {"items": ["i1", body_of(draw)]},
    "/domains/{domain}/probes": lambda draw: [
        {"history": ["i1"], "target": "i2", draw.choice(FIELDS): body_of(draw)}
    ],
    "/domains/{domain}/items": lambda draw: [
        {"item_id": "i1", "title": "x", draw.choice(FIELDS): body_of(draw)}
    ],
    "/domains/{domain}/items/{item_id}": lambda draw: {
        "title": "x",
        draw.choice(FIELDS): body_of(draw),
    },
}


def sent(draw: random.Random, path: str) -> bytes:
    if draw.random() < 0.25:
        return draw.choice(RAW)
    made = VALID[path](draw) if path in VALID and draw.random() < 0.6 else body_of(draw)
    return json.dumps(made).encode()


def filled(draw: random.Random, path: str, one: dict[str, Any]) -> str:
    """A path with odd parts and an odd query; often one that is there."""
    there = {"domain": "movies", "item_id": "i3", "version": "1", "job_id": "nowhere"}

    def part(found: re.Match[str]) -> str:
        return there[found[1]] if draw.random() < 0.5 else draw.choice(PARTS)

    names = [
        parameter["name"] for parameter in one.get("parameters", []) if parameter["in"] == "query"
    ]
    query = {name: draw.choice(["movies", "1", *TEXTS]) for name in names if draw.random() < 0.7}
    if "domain" in names and draw.random() < 0.5:
        query["domain"] = "movies"
    return re.sub(r"\{(\w+)\}", part, path) + (
        "?" + urlencode(query, errors="replace") if query else ""
    )


def fault(one: dict[str, Any], answer: Answer) -> str:
    """What the document does not allow about an answer; empty where all is well."""
    documented = one["responses"].get(str(answer.status))
    if documented is None or answer.status in NOT_PROVOKED:
        return f"status {answer.status}"
    if answer.status == 204 and (answer.body or "content-type" in answer.headers):
        return f"204 with {answer.headers.get('content-type')}"
    if answer.status != 204 and answer.kind not in documented["content"]:
        return f"kind {answer.kind}"
    if answer.status >= 400:
        problem = json.loads(answer.body)
        if set(problem) - {"errors"} != {"type", "title", "status", "detail", "code", "request_id"}:
            return f"members {sorted(problem)}"
        if len(answer.body) > 60_000:
            return f"{len(answer.body)} bytes"
    return ""


def test_no_odd_request_is_answered_otherwise_than_the_document_says(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    draw = random.Random(SEED)
    seen: Counter[str] = Counter()
    activate(movies, bundle(1))
    for _ in range(ROUNDS):
        for method, path, one in operations(document()):
            place = filled(draw, path, one)
            if (
                place.startswith("/domains/movies")
                and method == "DELETE"
                and path == "/domains/{domain}"
            ):
                continue
            body = sent(draw, path) if method in ("POST", "PUT", "PATCH") else b""
            kind = KINDS[0] if draw.random() < 0.7 else draw.choice(KINDS)
            answer = ask(movies, method, place, body, kind)
            assert not fault(one, answer), (method, place, kind, body[:300], answer)
            seen[str(answer.status)] += 1
    assert {"200", "400", "404", "409", "415", "422"} <= seen.keys(), seen
    assert movies.get("/livez").status_code == 200


def test_statuses_that_are_documented_do_occur(
    movies: httpx.Client, bundle: Callable[..., Path]
) -> None:
    big = gzip.compress(json.dumps({"title": "x" * 40_000_000}).encode(), 1)
    activate(movies, bundle(1))
    occurring = {
        "DELETE /domains/movies/items/i5": 204,
        "PUT /domains/movies/items/new": 201,
        "PUT /domains/movies/items/i6": 200,
        "PUT /domains/movies/items/i7?wait=false": 202,
        "PATCH /domains/movies/items/i6": 200,
        "PATCH /domains/movies/items/i8?wait=false": 202,
        "DELETE /adapters/movies/versions/1": 409,
        "POST /domains/movies/rollback": 200,
        "POST /adapters/movies/versions/1/promote": 409,
        "POST /domains/movies/evaluate": 409,
        "POST /adapters/movies/versions/9/activate": 404,
    }
    for request, status in occurring.items():
        method, _, path = request.partition(" ")
        body = b'{"title": "x"}' if "/items/" in path and method in ("PUT", "PATCH") else b""
        assert ask(movies, method, path, body).status == status, request
    for method, path in (
        ("POST", "/recommend?domain=movies"),
        ("PUT", "/domains/movies/items/i1"),
        ("PUT", "/domains/a"),
    ):
        answer = ask(movies, method, path, big, Content_Encoding="gzip")
        assert answer.status == 413, (path, answer.body)
    assert upload(movies, bundle(1)).status_code == 200
    assert ask(movies, "GET", f"/domains/{quote('no where')}").status == 404
