"""The items of a catalog: stored, found, replaced and deleted, on each backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.errors import DomainNotFound
from service.state import (
    Deleted,
    State,
    StoredItem,
    Upserted,
)
from tests.service.catalog_rows import read_catalog
from tests.service.state.samples import MOVIES, items

pytestmark = pytest.mark.usefixtures("patient_redis")


def test_rows_keep_their_places_and_new_ones_come_last(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("b", "a"))
    state.upsert_items("movies", items("c", "b", text="changed"))
    rows = read_catalog(state, "movies")
    assert rows.ids == ["b", "a", "c"]
    assert rows.texts == ["changed b", "film a", "changed c"]


def test_an_upsert_counts_new_changed_and_unchanged_and_the_last_of_equal_ids_wins(
    state: State,
) -> None:
    state.put_domain(MOVIES)
    first = state.upsert_items("movies", [*items("a", "b"), *items("a", text="later")])
    assert (first.accepted, first.updated, first.unchanged, first.generation) == (2, 0, 0, 1)
    same = state.upsert_items("movies", items("b"))
    assert (same.unchanged, same.generation) == (1, 1)
    assert state.upsert_items("movies", items("b", text="new")).generation == 2
    assert state.items_by_id("movies", ["a", "zz"])["a"].text == "later a"


def test_items_come_in_pages(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcde"))
    page = state.list_items("movies", -1, 2)
    assert [item.item_id for _, item in page] == ["a", "b"]
    assert [item.item_id for _, item in state.list_items("movies", page[-1][0], 10)] == [
        "c",
        "d",
        "e",
    ]


def test_ids_and_texts_of_any_script_survive(state: State) -> None:
    state.put_domain(MOVIES)
    odd = StoredItem(
        'Ærø "q" \\ 😀\u2028', "Blåbærsyltetøy", metadata={"größe": [1, None, {"x": "y"}]}
    )
    state.upsert_items("movies", [odd])
    assert state.items_by_id("movies", [odd.item_id])[odd.item_id] == odd


def test_pictures_stay_with_their_items_and_changing_one_is_a_change(state: State) -> None:
    state.put_domain(MOVIES)
    first = "a" * 64
    second = "b" * 64
    state.upsert_items(
        "movies",
        [
            StoredItem("text", "film"),
            StoredItem("picture", "", image=first),
            StoredItem("both", "film", image=first),
        ],
    )
    rows = read_catalog(state, "movies")
    assert (rows.texts, rows.images) == (["film", "", "film"], ["", first, first])
    assert state.items_by_id("movies", ["both"])["both"] == StoredItem("both", "film", image=first)
    assert [item.image for _, item in state.list_items("movies", -1, 9)] == ["", first, first]
    again = [
        StoredItem("picture", "", image=first),
        StoredItem("both", "film", image=second),
        StoredItem("text", "film"),
    ]
    done = state.upsert_items("movies", again)
    assert (done.updated, done.unchanged) == (1, 2)
    assert read_catalog(state, "movies").images == ["", first, second]
    assert state.upsert_items("movies", [StoredItem("both", "film")]).updated == 1
    assert read_catalog(state, "movies").images == ["", first, ""]


def test_an_id_with_a_nul_is_an_id_like_any(state: State) -> None:
    state.put_domain(MOVIES)
    assert state.upsert_items("movies", items("a", "a\0b")).accepted == 2
    assert state.upsert_items("movies", items("a\0b", text="new")).updated == 1
    assert read_catalog(state, "movies").ids == ["a", "a\0b"]


def test_more_items_than_fit_in_one_question_are_found(state: State) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(1203)]
    state.upsert_items("movies", items(*names))
    assert set(state.items_by_id("movies", [*names, "zz"])) == set(names)
    assert state.upsert_items("movies", items(*names)).unchanged == 1203


def test_equal_items_are_unchanged_however_they_are_written(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items(
        "movies", [StoredItem("a", "film", 1, {"x": 1, "y": 2}), StoredItem("b", "film")]
    )
    same = state.upsert_items(
        "movies", [StoredItem("a", "film", 1.0, {"y": 2, "x": 1}), StoredItem("b", "film", 0, {})]
    )
    assert (same.unchanged, same.generation) == (2, 1)
    assert state.upsert_items("movies", [StoredItem("a", "film", 1.0, {})]).updated == 1
    assert state.items_by_id("movies", ["a"])["a"].metadata == {}


def test_an_item_that_is_not_available_stays_known_and_to_become_so_is_a_change(
    state: State,
) -> None:
    state.put_domain(MOVIES)
    state.upsert_items(
        "movies",
        [StoredItem("a", "film", available=False), StoredItem("b", "film", image="b" * 64)],
    )
    assert read_catalog(state, "movies").available == [False, True]
    assert state.upsert_items(
        "movies",
        [StoredItem("a", "film"), StoredItem("b", "film", image="b" * 64, available=False)],
    ) == (Upserted(0, 2, 0, 2))
    assert read_catalog(state, "movies").available == [True, False]
    assert state.items_by_id("movies", ["a", "b"]) == {
        "a": StoredItem("a", "film"),
        "b": StoredItem("b", "film", image="b" * 64, available=False),
    }
    assert [item.available for _, item in state.list_items("movies", -1, 9)] == [True, False]


def test_deleted_items_are_removed_and_ids_that_are_not_there_are_named(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcd"))
    assert state.delete_items("movies", ["b", "y,\0 ü", "d", "b", "z"]) == Deleted(
        2, ["y,\0 ü", "z"], 2
    )
    rows = read_catalog(state, "movies")
    assert (rows.ids, rows.rows, rows.generation) == (["a", "c"], [0, 2], 2)
    assert [item.item_id for _, item in state.list_items("movies", -1, 9)] == ["a", "c"]
    assert state.count_items("movies") == 2
    assert set(state.items_by_id("movies", [*"abcd"])) == {"a", "c"}
    assert state.delete_items("movies", ["b"]) == Deleted(0, ["b"], 2)
    assert state.delete_items("movies", []) == Deleted(0, [], 2)
    with pytest.raises(DomainNotFound):
        state.delete_items("books", ["a"])


def test_a_row_is_given_once_and_an_item_keeps_its_row_while_it_exists(
    state: State, reopen: Callable[[], State]
) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("a", "b"))
    state.delete_items("movies", ["b"])
    again = reopen()
    again.upsert_items("movies", [*items("b"), *items("a", text="changed")])
    again.delete_items("movies", ["b"])
    again.upsert_items("movies", items("c", "b"))
    rows = read_catalog(again, "movies")
    again.close()
    assert list(zip(rows.rows, rows.ids, strict=True)) == [(0, "a"), (3, "c"), (4, "b")]
    assert [row for row, _ in state.list_items("movies", 0, 9)] == [3, 4]


def test_pages_step_over_rows_that_are_empty(state: State) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(9000)]
    state.upsert_items("movies", items(*names))
    state.delete_items("movies", [name for name in names if int(name) not in {3, 5000, 8999}])
    first = state.list_items("movies", -1, 2)
    assert [(row, item.item_id) for row, item in first] == [(3, "3"), (5000, "5000")]
    assert [row for row, _ in state.list_items("movies", first[-1][0], 2)] == [8999]
    assert read_catalog(state, "movies").rows == [3, 5000, 8999]


def test_an_item_is_replaced_only_while_it_is_what_its_writer_saw(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", [StoredItem("a", "film", 1, {"x": 1})])
    [seen] = state.items_by_id("movies", ["a"]).values()
    after = StoredItem("a", "film", 1, {"x": 2}, available=False)
    assert state.replace_item("movies", seen, after) == Upserted(0, 1, 0, 2)
    assert state.replace_item("movies", seen, StoredItem("a", "lost")) is None
    assert state.items_by_id("movies", ["a"]) == {"a": after}
    assert state.replace_item("movies", after, after) == Upserted(0, 0, 1, 2)
    state.delete_items("movies", ["a"])
    assert state.replace_item("movies", after, seen) is None
    assert read_catalog(state, "movies").ids == []
    with pytest.raises(DomainNotFound):
        state.replace_item("books", seen, after)
