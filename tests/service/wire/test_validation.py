"""Wrong values are answered as a client wrote them:
one plain error each, and nothing of the validator's inside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest
from service.wire import requests as schemas
from service.wire.json_body import parse_body
from service.wire.requests import (
    ActivateRequest,
    CompareRequest,
    EmbedRequest,
    EvaluateRequest,
    ItemBody,
    ItemPatch,
    PinBody,
    ProbeBody,
    RecommendRequest,
    SimilarRequest,
)

INSIDE = (
    "constrained",
    "function-",
    "union",
    "|",
    "Item'",
    "Input should",
    "Value error",
    "literal[",
    "discriminator",
    "tag",
)
MODELS = [
    one for one in vars(schemas).values() if isinstance(one, type) and issubclass(one, schemas.Body)
]
ODD: tuple[Any, ...] = (
    None,
    True,
    1,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "a\nb",
    "é" * 129,
    [],
    [1],
    [None],
    {},
    {"x": 1},
)


def refused(model: type[BaseModel], body: Any) -> list[tuple[list[Any], str]]:
    """Errors of a body as (loc, msg); none where it is valid."""
    try:
        parse_body(model, json.dumps(body).encode(), "")
    except InvalidRequest as error:
        return [(one["loc"], one["msg"]) for one in error.errors]
    return []


def said(model: type[BaseModel], body: Any) -> list[str]:
    return [msg for _, msg in refused(model, body)]


def test_each_wrong_entry_of_a_history_is_one_plain_error_at_its_place() -> None:
    history = [
        1,
        95,
        "ok",
        {"item_id": 7},
        {"foo": 1},
        {"item_id": "a", "text": "b"},
        {"text": 1},
        None,
        ["a"],
        "a\nb",
    ]
    found = refused(RecommendRequest, {"history": history})
    assert [loc for loc, _ in found] == [
        ["history", 0],
        ["history", 1],
        ["history", 3, "item_id"],
        ["history", 4],
        ["history", 5, "text"],
        ["history", 6, "text"],
        ["history", 7],
        ["history", 8],
        ["history", 9],
    ]
    assert found[0][1] == 'history[0] is 1, a number: ids are text, send "1"'
    assert "item_id" in found[3][1]
    assert "image_b64" in found[3][1]
    assert "U+000A" in found[8][1]


@pytest.mark.parametrize("given", [True, "5", "5.0", "true", 1.5])
@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (RecommendRequest, {"history": []}, "k"),
        (RecommendRequest, {"history": []}, "offset"),
        (RecommendRequest, {"history": []}, "version"),
        (SimilarRequest, {"item_id": "a"}, "k"),
        (EmbedRequest, {"items": ["a"]}, "version"),
        (CompareRequest, {"history": []}, "k"),
        (EvaluateRequest, {}, "k"),
        (ActivateRequest, {}, "canary_percent"),
    ],
)
def test_neither_text_nor_true_is_taken_for_a_whole_number(
    model: type[BaseModel], body: dict[str, Any], field: str, given: object
) -> None:
    shown = json.dumps(given)
    expected = 'a whole number, or "none"' if field == "version" else "a whole number"
    assert refused(model, {**body, field: given}) == [
        ([field], f"{field} is {shown}: expected {expected}")
    ]
    assert refused(model, {**body, field: 5.0}) == []
    assert refused(model, {**body, field: 5}) == []


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (ActivateRequest, {"gate": {"max_drop": True}}, "gate.max_drop is true: expected a number"),
        (
            ActivateRequest,
            {"gate": {"min_hr10": "0.5"}},
            'gate.min_hr10 is "0.5": expected a number',
        ),
        (ItemBody, {"item_id": "a", "popularity": "3"}, 'popularity is "3": expected a number'),
        (ItemBody, {"item_id": "a", "popularity": True}, "popularity is true: expected a number"),
        (ItemBody, {"item_id": "a", "available": 1}, "available is 1: expected true or false"),
        (ItemPatch, {"available": "yes"}, 'available is "yes": expected true or false'),
        (PinBody, {"pinned": "true"}, 'pinned is "true": expected true or false'),
        (
            RecommendRequest,
            {"history": [], "exclude": {"seen": 0}},
            "exclude.seen is 0: expected true or false",
        ),
    ],
)
def test_no_value_is_taken_for_another_type(
    model: type[BaseModel], body: Any, expected: str
) -> None:
    assert said(model, body) == [expected]


def test_a_row_of_an_import_is_as_strict_as_a_body() -> None:
    with pytest.raises(ValidationError, match="popularity"):
        ItemBody.model_validate({"item_id": "a", "popularity": "3"})
    assert (
        ItemBody.model_validate({"item_id": "a", "popularity": 3, "timestamp": 5}).popularity == 3
    )


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (RecommendRequest, {}, "history is missing"),
        (RecommendRequest, [], "the body is an empty list: expected an object"),
        (RecommendRequest, {"hystory": []}, "hystory is no field here: did you mean history?"),
        (RecommendRequest, {"history": "123"}, 'history is "123": expected a list'),
        (RecommendRequest, {"history": [], "k": 0}, "k is 0: expected at least 1"),
        (
            RecommendRequest,
            {"history": [], "version": "x"},
            'version is "x": expected a whole number, or "none"',
        ),
        (
            RecommendRequest,
            {"history": [], "user_id": 5},
            'user_id is 5, a number: ids are text, send "5"',
        ),
        (
            RecommendRequest,
            {"history": [], "fallback": "a"},
            'fallback is "a": expected "popular" or "none"',
        ),
        (
            RecommendRequest,
            {"history": [], "exclude": {"item_ids": ["a", 5]}},
            'exclude.item_ids[1] is 5, a number: ids are text, send "5"',
        ),
        (
            ProbeBody,
            {"history": ["a"], "target": 5},
            'target is 5, a number: ids are text, send "5"',
        ),
        (EmbedRequest, {"items": [7]}, 'items[0] is 7, a number: ids are text, send "7"'),
        (SimilarRequest, {"item_id": 7}, 'item_id is 7, a number: ids are text, send "7"'),
        (ItemBody, {"item_id": 7}, 'item_id is 7, a number: ids are text, send "7"'),
        (ItemBody, {"item_id": "a", "text": ["x", 3]}, 'text[1] is 3: expected text, such as "3"'),
        (
            CompareRequest,
            {"history": [], "arms": [{}]},
            (
                "arms[0] is an empty object: expected an object with version, or an object with"
                " strategy"
            ),
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given_and_what_is_expected(
    model: type[BaseModel], body: Any, expected: str
) -> None:
    assert expected in said(model, body)


def odd_bodies(model: type[BaseModel]) -> Iterator[Any]:
    """Bodies with each odd value in each field and around it, also in a field that there is not."""
    for name, odd in product([*model.model_fields, "other"], ODD):
        yield from ({name: odd}, {name: [odd]}, {name: [{name: odd}]}, [{name: odd}], odd)


def test_no_error_shows_the_inside_of_the_validator_whatever_stands_in_a_field() -> None:
    bodies = [(model, body) for model in MODELS for body in odd_bodies(model)]
    errors = [
        (body, loc, message) for model, body in bodies for loc, message in refused(model, body)
    ]
    for body, loc, message in errors:
        assert not [word for word in INSIDE if word in message], (body, message)
        assert not [part for part in loc if str(part).startswith("|")]
        assert len(message) < 400
    assert len(errors) > 3000


def test_an_answer_lists_fifty_errors_and_counts_all_of_them(movies: httpx.Client) -> None:
    answer = movies.post(
        "/recommend?domain=movies", json={"history": [1] * 500, "exclude": {"item_ids": [2] * 500}}
    )
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 50)
    assert answer.json()["detail"].startswith("1,000 values")
    probes = movies.put("/domains/movies/probes", json=[{"history": [1], "target": 2}] * 500)
    assert (probes.status_code, len(probes.json()["errors"])) == (422, 50)
    assert probes.json()["detail"].endswith("what follows was not read")
    queried = movies.get("/domains/movies/items?limit=x")
    assert queried.json()["errors"] == [
        {"loc": ["query", "limit"], "msg": 'limit is "x": expected a whole number'}
    ]
    picture = movies.post("/embed?domain=movies", json={"items": ["i1", {"image_b64": "%%"}]})
    assert picture.json()["errors"][0]["loc"] == ["items", 1]
    patched = movies.patch("/domains/movies/items/i1", json={"title": 5, "popularity": "x"})
    assert [error["loc"] for error in patched.json()["errors"]] == [["title"], ["popularity"]]
    report = movies.post(
        "/domains/movies/items",
        json=[{"item_id": 1, "title": "x"}, {"item_id": "a\nb", "title": "x"}],
    )
    details = [row["detail"] for row in report.json()["rejected"]]
    assert details[0] == 'item_id is 1, a number: ids are text, send "1"'
    assert "U+000A" in details[1]


def test_a_validated_value_is_what_pydantic_makes_of_it() -> None:
    with pytest.raises(ValidationError):
        RecommendRequest.model_validate({"history": ["\u2028"]})
    assert RecommendRequest.model_validate({"history": ["é" * 128, "x" * 256]}).entries() == [
        "é" * 128,
        "x" * 256,
    ]
