"""Times and ids of interactions: rows that cannot be used are counted."""

from __future__ import annotations

import polars as pl
import pytest

from training.cleaning import clean
from training.importers.tables import DataError, Tables


def interactions(times: list[object], kind: pl.DataType | None = None) -> Tables:
    items = pl.DataFrame({"item_id": ["a"], "title": ["x"]})
    users = [f"u{place}" for place in range(len(times))]
    log = pl.DataFrame(
        {"user_id": users, "item_id": "a", "timestamp": pl.Series(times, dtype=kind, strict=False)}
    )
    return Tables(items, log)


@pytest.mark.parametrize(
    "times",
    [
        ["9", "10", "later", None],
        ["2020-09-01", "2020-10-01", "later", None],
        ["2020-09-01T00:00:00Z", "2020-09-01T00:00:01Z", "later", None],
        [9.0, 10.0, float("nan"), float("inf")],
        [9, 10, None, None],
    ],
)
def test_times_sort_as_times_and_rows_without_one_are_counted(times: list[object]) -> None:
    tables = clean(interactions(times))
    assert tables.interactions.sort("timestamp")["user_id"].to_list() == ["u0", "u1"]
    assert tables.rejected.counts == {"interaction without a usable timestamp": 2}


def test_times_that_nobody_can_read_are_an_error() -> None:
    with pytest.raises(DataError, match="text such as 'soon': expected numbers or ISO dates"):
        list(clean(interactions(["soon", "later"])).chunks())
    with pytest.raises(DataError, match="has the type Boolean"):
        list(clean(interactions([True, False])).chunks())


def test_rows_without_an_id_are_counted() -> None:
    items = pl.DataFrame({"item_id": ["a", None, ""], "title": ["x", "y", "z"]})
    rows = [("u1", "a", 1), (None, "a", 2), ("u2", None, 3), ("u3", " ", 4)]
    log = pl.DataFrame(
        rows,
        schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64},
        orient="row",
    )
    tables = clean(Tables(items, log))
    assert tables.interactions.rows() == [("u1", "a", 1)]
    assert tables.rejected.counts == {
        "item without an id": 2,
        "interaction without a user": 1,
        "interaction without an item": 2,
    }
