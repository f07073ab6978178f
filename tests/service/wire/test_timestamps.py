"""Times of histories and items: which are read, how they order, which are refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.wire.requests import RecommendRequest
from tests.service.wire.test_validation import refused

TIMES = {
    "a": "1997-09-24T00:00:00Z",
    "b": 5,
    "c": "1997-09-24T00:00:00+01:00",
    "d": "1997-09-24",
    "e": -1.5,
}


def test_a_history_whose_entries_all_have_a_time_is_ordered_by_it() -> None:
    history = [{"item_id": name, "timestamp": time} for name, time in TIMES.items()]
    wanted = RecommendRequest.model_validate({"history": history})
    assert wanted.entries() == ["e", "b", "c", "a", "d"], (
        "entries of one time stay as they were sent"
    )
    assert RecommendRequest.model_validate({"history": ["x", {"item_id": "a"}]}).entries() == [
        "x",
        "a",
    ]


def test_a_history_is_answered_alike_in_whichever_order_its_times_are_sent(
    movies: httpx.Client,
) -> None:
    timed = [{"item_id": f"i{n}", "timestamp": 100 + n} for n in range(12)]
    answers = [
        movies.post("/recommend?domain=movies", json={"history": history}).json()["items"]
        for history in (timed, timed[::-1], [entry["item_id"] for entry in timed])
    ]
    assert answers[0] == answers[1] == answers[2]


NO_TIMES: list[Any] = [
    "yesterday",
    "",
    "123",
    True,
    [],
    {},
    1e13,
    1_700_000_000_000,
    "2026-13-01",
    "24:00",
]
NO_TIMES += [10**400, -(10**400)]


@pytest.mark.parametrize("time", NO_TIMES)
def test_what_is_no_time_is_refused(time: Any) -> None:
    [(loc, message)] = refused(RecommendRequest, {"history": [{"item_id": "a", "timestamp": time}]})
    assert loc == ["history", 0, "timestamp"]
    assert "ISO 8601" in message


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_that_no_float_holds_is_refused_as_an_items_time(
    movies: httpx.Client, value: int
) -> None:
    row = {"item_id": "big", "title": "the film", "timestamp": value}
    answers = [
        movies.put("/domains/movies/items/big", json={"title": "the film", "timestamp": value}),
        movies.patch("/domains/movies/items/i1", json={"timestamp": value}),
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    [rejected] = movies.post("/domains/movies/items", json=[row]).json()["rejected"]
    assert rejected["detail"].startswith("timestamp is ")


@pytest.mark.parametrize(
    "other", ["b", {"item_id": "b"}, {"text": "x"}, {"item_id": "b", "timestamp": None}]
)
def test_a_history_with_times_for_some_entries_only_is_refused(other: Any) -> None:
    [(loc, message)] = refused(
        RecommendRequest, {"history": [other, {"item_id": "a", "timestamp": 5}]}
    )
    assert loc == ["history"]
    assert "with every entry" in message
