"""An item is refused for the same reasons whether its JSON is read by the model or before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
from pydantic import BaseModel

from service.errors import MalformedBody, ServiceError
from service.wire.json_body import parse_body, parse_value, read_json
from service.wire.requests import ItemBody, ItemPatch
from tests.service.wire.test_validation import ODD

HUGE: tuple[Any, ...] = (10**400, -(10**400), 2**70, float("nan"), {"a": [None, 10**400]})


def outcome(parse: Callable[[], BaseModel]) -> object:
    try:
        return parse().model_dump_json(exclude_unset=True)
    except ServiceError as error:
        return error.code, error.detail, error.errors


def read_and_parse(model: type[BaseModel], body: bytes) -> BaseModel:
    return parse_value(model, read_json(body, "{}"))


@pytest.mark.parametrize("model", [ItemBody, ItemPatch])
def test_every_odd_value_of_every_field_has_the_same_outcome(model: type[BaseModel]) -> None:
    outcomes = set()
    for name, odd in product([*model.model_fields, "other"], [*ODD, *HUGE]):
        for value in (odd, [odd], {name: odd}):
            body = json.dumps({"item_id": "a", name: value}).encode()
            by_model = outcome(partial(parse_body, model, body, "{}"))
            before = outcome(partial(read_and_parse, model, body))
            assert repr(by_model) == repr(before), body
            outcomes.add(repr(by_model))
    assert len(outcomes) > 50


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b"{} x", b"\xff", b'{"title": "\\ud800"}'])
def test_no_json_is_refused_in_the_same_words(body: bytes) -> None:
    by_model = outcome(partial(parse_body, ItemPatch, body, "{}"))
    assert by_model == outcome(partial(read_and_parse, ItemPatch, body))
    with pytest.raises(MalformedBody, match="Invalid JSON"):
        read_json(body, "{}")
