"""Rows of an import: what they name changes,
what they do not name stays, and what is wrong is counted by kind.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from service.state import DomainRecord
from tests.service.conftest import components_of, wait_for_job

NDJSON = {"Content-Type": "application/x-ndjson"}
FULL = {
    "item_id": "full",
    "title": "Heat",
    "category": "crime",
    "timestamp": "1995",
    "popularity": 7.0,
    "available": False,
    "attributes": {"year": 1995, "country": "US"},
}


def load(client: httpx.Client, *rows: dict[str, Any], as_array: bool = False) -> dict[str, Any]:
    """Import rows, as an array or line by line; returns the report."""
    place = "/domains/movies/items"
    if as_array:
        answer = client.post(place, json=rows)
    else:
        answer = client.post(place, content="\n".join(map(json.dumps, rows)), headers=NDJSON)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def stored(client: httpx.Client, item_id: str = "full") -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/domains/movies/items/{item_id}").json()
    return found


@pytest.mark.parametrize("as_array", [False, True])
def test_what_a_row_does_not_name_stays_as_it_is(movies: httpx.Client, as_array: bool) -> None:
    load(movies, FULL)
    before = stored(movies)
    report = load(movies, {"item_id": "full", "title": "Heat (1995)"}, as_array=as_array)
    assert (report["accepted"], report["updated"]) == (0, 1)
    after = {
        **before,
        "text": "Heat (1995)",
        "metadata": {**before["metadata"], "title": "Heat (1995)"},
    }
    assert stored(movies) == after
    assert load(movies, {"item_id": "full"}, as_array=as_array)["unchanged"] == 1
    assert load(movies, {"item_id": "full", "available": True}, as_array=as_array)["updated"] == 1
    assert stored(movies) == {**after, "available": True}


def test_null_gives_a_field_its_default(movies: httpx.Client) -> None:
    load(movies, FULL)
    load(movies, {"item_id": "full", "popularity": None, "available": None, "category": None})
    found = stored(movies)
    assert (found["popularity"], found["available"]) == (0.0, True)
    assert found["metadata"] == {
        "title": "Heat",
        "timestamp": "1995",
        "year": 1995,
        "country": "US",
    }
    load(movies, {"item_id": "full", "attributes": {"country": None}})
    assert stored(movies)["metadata"] == {"title": "Heat", "timestamp": "1995", "year": 1995}
    load(movies, {"item_id": "full", "attributes": None})
    assert stored(movies)["metadata"] == {"title": "Heat", "timestamp": "1995"}
    patched = movies.patch("/domains/movies/items/i6", json={"popularity": None}).json()
    assert patched["popularity"] == 0.0


def test_rows_of_one_item_in_one_body_build_on_each_other(movies: httpx.Client) -> None:
    load(
        movies,
        {"item_id": "new", "popularity": 3, "title": "Storm"},
        {"item_id": "new", "category": "news"},
    )
    assert (stored(movies, "new")["popularity"], stored(movies, "new")["metadata"]["category"]) == (
        3.0,
        "news",
    )


def test_a_text_of_its_own_stays_where_only_the_title_changes(movies: httpx.Client) -> None:
    load(movies, {"item_id": "new", "title": "Storm", "text": "the storm over oslo"})
    load(movies, {"item_id": "new", "title": "Violin"})
    assert (stored(movies, "new")["text"], stored(movies, "new")["metadata"]["title"]) == (
        "the storm over oslo",
        "Violin",
    )
    load(movies, {"item_id": "new", "text": None})
    assert stored(movies, "new")["text"] == "Violin"


@pytest.mark.parametrize("query", ["", "?wait=false"])
def test_a_put_replaces_whatever_it_does_not_name(movies: httpx.Client, query: str) -> None:
    load(movies, FULL)
    answer = movies.put(f"/domains/movies/items/full{query}", json={"title": "Storm"})
    if query:
        assert wait_for_job(movies, answer.json())["result"]["updated"] == 1
    assert stored(movies) == {
        "item_id": "full",
        "text": "Storm",
        "image": "",
        "popularity": 0.0,
        "available": True,
        "metadata": {"title": "Storm"},
    }


def test_what_somebody_changes_while_rows_are_embedded_is_not_undone(
    movies: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(movies, {**FULL, "available": True})
    writer = components_of(movies).writer
    embed = writer._embed

    def interrupted(record: DomainRecord, items: Any, *more: Any) -> None:
        embed(record, items, *more)
        monkeypatch.setattr(writer, "_embed", embed)
        movies.patch("/domains/movies/items/full", json={"available": False})

    monkeypatch.setattr(writer, "_embed", interrupted)
    load(movies, {"item_id": "full", "title": "Heat (1995)"})
    assert (stored(movies)["text"], stored(movies)["available"]) == ("Heat (1995)", False)


def test_many_rows_that_each_name_other_attributes_cannot_grow_an_item_without_bound(
    movies: httpx.Client,
) -> None:
    rows = [
        {"item_id": "new", "title": "x", "attributes": {f"a{n}": "x" * 30_000}} for n in range(8)
    ]
    report = load(movies, *rows)
    assert (report["accepted"], report["rejected_count"]) == (1, 6)
    assert "at most 81920 are kept" in report["rejected"][0]["detail"]


def test_a_number_as_timestamp_is_kept_as_its_text(movies: httpx.Client) -> None:
    for given, kept in (
        (1700000000, "1700000000"),
        (1700000000.0, "1700000000"),
        (2.5, "2.5"),
        ("1995", "1995"),
    ):
        assert (
            load(movies, {"item_id": "new", "title": "x", "timestamp": given})["rejected_count"]
            == 0
        )
        assert stored(movies, "new")["metadata"]["timestamp"] == kept
    report = load(movies, {"item_id": True, "title": False, "timestamp": [1]})
    for field in ("item_id is true", "title is false", "timestamp is"):
        assert field in report["rejected"][0]["detail"]


def test_rejected_rows_are_counted_by_kind_however_many_there_are(movies: httpx.Client) -> None:
    rows = [{"item_id": f"r{n}", "title": "x", "popularity": f"no {n}"} for n in range(1200)]
    report = load(movies, *rows, {"item_id": "fine", "title": "x"}, {"item_id": "bare"})
    assert (report["accepted"], report["rejected_count"], len(report["rejected"])) == (
        1,
        1201,
        1000,
    )
    assert "no 0" in report["rejected"][0]["detail"]
    kinds = report["rejected_kinds"]
    assert sorted((kind["count"], kind["item_id"]) for kind in kinds.values()) == [
        (1, "bare"),
        (1200, "r0"),
    ]
    assert any("title or text is needed" in kind for kind in kinds)


def test_rows_are_of_one_kind_whatever_their_ids_are(movies: httpx.Client) -> None:
    report = load(
        movies,
        *({"item_id": f"r{n}\n", "title": "x"} for n in range(100)),
        *({"item_id": f"{n}" * 400, "title": "x"} for n in range(10, 50)),
        {"item_id": "last", "title": "x", "popularity": -1},
    )
    kinds = report["rejected_kinds"]
    assert [(kind["count"], kind["item_id"]) for kind in kinds.values()][::2] == [
        (100, "r0\n"),
        (1, "last"),
    ]
    assert [kind["count"] for kind in kinds.values()] == [100, 40, 1]
    assert all(
        name.startswith("invalid_item: ") and "|" not in name and "pattern" not in name
        for name in kinds
    )


def test_a_stranger_cannot_make_a_report_of_many_kinds(movies: httpx.Client) -> None:
    report = load(
        movies, *({"item_id": "x", "title": "x", f"field{n}" * 50: 1} for n in range(200))
    )
    assert (
        report["rejected_count"]
        == sum(kind["count"] for kind in report["rejected_kinds"].values())
        == 200
    )
    assert len(report["rejected_kinds"]) <= 31
    assert max(map(len, report["rejected_kinds"])) <= 200


def test_rejected_rows_are_listed_in_their_order_whatever_was_wrong_with_them(
    movies: httpx.Client,
) -> None:
    report = load(
        movies, {"item_id": "a"}, {"item_id": ""}, {"item_id": "b"}, {"item_id": "c", "title": "x"}
    )
    assert [row["index"] for row in report["rejected"]] == [0, 1, 2]


def test_texts_that_the_tokenizer_does_not_know_are_warned_of(movies: httpx.Client) -> None:
    thai = [{"item_id": f"th{n}", "title": f"ภาพยนตร์ เรื่อง {chr(0x0E01 + n)}"} for n in range(20)]
    [warning] = load(movies, *thai)["warnings"]
    assert (warning["code"], warning["share"]) == ("unknown_tokens", 1.0)
    assert "100% of the tokens" in warning["detail"]
    assert "'th0'" in warning["detail"]
    assert "warnings" not in load(movies, {"item_id": "new", "title": "the storm over oslo"})


@pytest.mark.parametrize("as_array", [False, True])
def test_a_row_of_very_many_lists_is_rejected_before_it_is_parsed(
    movies: httpx.Client, as_array: bool
) -> None:
    report = load(
        movies,
        {"item_id": "a", "title": [[]] * 20_000},
        {"item_id": "b", "title": "b"},
        as_array=as_array,
    )
    assert (report["accepted"], report["rejected_count"]) == (1, 1)
    assert "lists and objects in one row, expected at most 10000" in report["rejected"][0]["detail"]
