"""Whatever a data frame holds goes as JSON, and what has no form there is named."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import polars as pl
import pytest

from swaprec.cells import CellError, json_row


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (float("nan"), None),
        (Decimal("NaN"), None),
        (np.float32("nan"), None),
        (Decimal("sNaN"), None),
        (np.datetime64("NaT"), None),
        (np.timedelta64("NaT"), None),
        (Decimal("9.99"), 9.99),
        (Decimal(12), 12),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "2020-01-02T03:04:00+00:00"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=2, milliseconds=500), 120.5),
        (np.datetime64("2020-01-02T03:04:05", "ns"), "2020-01-02T03:04:05"),
        (np.timedelta64(90, "s"), 90.0),
        (np.int64(7), 7),
        (np.bool_(True), True),  # noqa: FBT003 - the value
        (np.array([1, 2]), [1, 2]),
        (pl.Series([1.0, float("nan")]), [1.0, None]),
        (b"caf\xc3\xa9", "café"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        pytest.param({"b", "a"}, ["a", "b"], id="a set"),
        ({"deep": [Decimal("1.5"), (date(2020, 1, 2),)]}, {"deep": [1.5, ["2020-01-02"]]}),
    ],
    ids=repr,
)
def test_a_value_goes_in_the_form_that_json_has_for_it(given: Any, expected: Any) -> None:
    [found] = json_row({"any": given}).values()
    assert (found, type(found)) == (expected, type(expected))
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("field", ["title", "category", "timestamp", "item_id"])
def test_a_number_in_a_field_of_text_is_its_text(field: str) -> None:
    given = [7, 7.0, 2.5, np.int32(7), np.float64(7.0), Decimal(7)]
    assert [json_row({field: one})[field] for one in given] == ["7", "7", "2.5", "7", "7", "7"]
    assert json_row({"text": ["a", 1984]}) == {"text": ["a", "1984"]}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"price": float("inf")}, "price: inf is infinite"),
        ({"name": b"caf\xe9"}, "name: these bytes are no UTF-8 text: 0xe9 at byte 3"),
        ({"name": "\ud800"}, "name: '\\ud800' (str) is no Unicode text"),
        ({"name": object}, "name: <class 'object'> (type) has no form in JSON"),
        ({"item_id": True}, "item_id: expected text or a whole number, got True (bool)"),
        ({"item_id": None}, "item_id: expected text or a whole number, got None"),
        ({"item_id": ["a"]}, "item_id: expected text"),
        ({3: "x"}, "the name of a column is 3 (int): expected text"),
        ("item", "expected a mapping such as"),
        (["item"], "expected a mapping such as"),
    ],
    ids=repr,
)
def test_what_cannot_be_sent_is_named_with_its_column(row: Any, says: str) -> None:
    with pytest.raises(CellError) as error:
        json_row(row)
    assert says in str(error.value)


def test_a_value_nested_without_end_is_refused_before_it_exhausts_the_stack() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CellError, match="nested more than"):
        json_row({"a": endless})


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(CellError) as error:
        json_row({"item_id": ["x" * 10_000]})
    assert len(str(error.value)) < 200
