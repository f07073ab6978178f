"""What a catalog says of its changes and removals after a generation, on each backend."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest

from service.errors import DomainNotFound
from service.state import (
    MAX_CHANGES,
    ChangedItem,
    Changes,
    Removals,
    State,
    StoredItem,
    Upserted,
)
from tests.service.catalog_rows import read_catalog
from tests.service.state.samples import MOVIES, items

pytestmark = pytest.mark.usefixtures("patient_redis")


def test_changes_name_every_id_once_with_its_final_fate(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcde"))
    since = read_catalog(state, "movies")
    state.upsert_items("movies", items("a", "b", text="once"))
    state.upsert_items(
        "movies",
        [StoredItem("b", "twice", 3.0, {"x": 1}, "f" * 64, available=False), *items("new")],
    )
    state.delete_items("movies", ["c", "d", "new"])
    state.upsert_items("movies", items("d", "new"))
    state.delete_items("movies", ["new"])
    found = state.changes("movies", since.generation, since.incarnation)
    assert found == Changes(
        6,
        [
            ChangedItem(0, "a", "once a", 1.0, "", available=True),
            ChangedItem(1, "b", "twice", 3.0, "f" * 64, available=False),
            ChangedItem(6, "d", "film d", 1.0, "", available=True),
        ],
        [(2, "c"), (5, "new")],
    )
    assert state.changes("movies", 6, since.incarnation) == Changes(6, [], [])
    with pytest.raises(DomainNotFound):
        state.changes("books", 0, since.incarnation)


def test_who_applies_changes_now_and_then_has_the_catalog(state: State) -> None:
    rng = random.Random(7)
    names = [str(number) for number in range(40)]
    state.put_domain(MOVIES)
    incarnation = state.get_domain("movies").incarnation
    generation = 0
    held = dict[str, tuple[int, str, bool]]()
    for turn in range(150):
        some = rng.sample(names, rng.randrange(1, 6))
        if rng.random() < 0.4:
            state.delete_items("movies", some)
        else:
            state.upsert_items(
                "movies",
                [StoredItem(name, str(turn), available=rng.random() < 0.5) for name in some],
            )
        if rng.random() < 0.3:
            found = state.changes("movies", generation, incarnation)
            assert found is not None
            for _, name in found.deleted:
                held.pop(name, None)
            held |= {item.item_id: (item.row, item.text, item.available) for item in found.upserted}
            generation = found.generation
            rows = read_catalog(state, "movies")
            there = zip(rows.rows, rows.texts, rows.available, strict=True)
            assert held == dict(zip(rows.ids, there, strict=True))


def test_changes_that_are_too_many_or_forgotten_or_of_another_domain_are_not_reported(
    state: State,
) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(MAX_CHANGES + 1000)]
    for start in range(0, len(names), 17_000):
        state.upsert_items("movies", items(*names[start : start + 17_000]))
    incarnation = state.get_domain("movies").incarnation
    assert state.changes("movies", 0, incarnation) is None
    found = state.changes("movies", 1, incarnation)
    assert found is not None
    assert len(found.upserted) == 34_000
    state.delete_items("movies", names[1000:])
    state.delete_items("movies", names[:10])
    assert state.changes("movies", 2, incarnation) is None
    assert state.changes("movies", 4, incarnation) == Changes(
        5, [], [(row, str(row)) for row in range(10)]
    )
    assert state.changes("movies", 6, incarnation) is None
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    for _ in range(6):
        state.upsert_items("movies", items("a", text=str(_)))
    assert state.changes("movies", 5, incarnation) is None


def test_removals_name_what_is_deleted_however_much_else_changed(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcde"))
    incarnation = state.get_domain("movies").incarnation
    state.delete_items("movies", ["a", "b"])
    state.upsert_items("movies", items("b", *map(str, range(MAX_CHANGES + 1))))
    state.delete_items("movies", ["c", "0"])
    assert state.changes("movies", 1, incarnation) is None
    assert named(state.removals("movies", 1, incarnation)) == (4, ["0", "a", "c"])
    assert named(state.removals("movies", 2, incarnation)) == (4, ["0", "c"])
    assert named(state.removals("movies", 4, incarnation)) == (4, [])
    assert state.removals("movies", 5, incarnation) is None
    assert state.removals("movies", 1, "another") is None
    state.delete_items("movies", list(map(str, range(1, MAX_CHANGES))))
    assert state.removals("movies", 2, incarnation) is None, "the oldest are forgotten"
    known = named(state.removals("movies", 4, incarnation))
    assert (known[0], len(known[1])) == (5, MAX_CHANGES - 1)
    state.delete_domain("movies")
    state.put_domain(MOVIES)
    assert state.removals("movies", 0, incarnation) is None
    assert state.removals("movies", 0, state.get_domain("movies").incarnation) == Removals(
        0, [], []
    )
    with pytest.raises(DomainNotFound):
        state.removals("books", 0, incarnation)


def test_removals_name_what_is_not_available_any_more(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcde"))
    incarnation = state.get_domain("movies").incarnation
    with_unavailable = [
        StoredItem(name, f"film {name}", 1.0, {}, available=False) for name in "abcd"
    ]
    state.upsert_items("movies", with_unavailable)
    [b] = state.items_by_id("movies", ["b"]).values()
    state.replace_item("movies", b, replace(b, available=True))
    state.delete_items("movies", ["c"])
    found = state.removals("movies", 1, incarnation)
    assert found is not None
    assert (sorted(found.unavailable), found.deleted) == (["a", "d"], ["c"])
    found = state.removals("movies", 2, incarnation)
    assert found == Removals(4, ["c"], [])


def test_what_is_stored_as_later_is_in_no_changes_but_in_the_catalog_and_marks_them_incomplete(
    state: State,
) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abc"))
    incarnation = state.get_domain("movies").incarnation
    many = [str(number) for number in range(MAX_CHANGES + 1)]
    assert state.upsert_items("movies", items(*many, "a", text="late"), "later").accepted == len(
        many
    )
    assert state.changes("movies", 1, incarnation) == Changes(2, [], [], incomplete=True)
    state.upsert_items("movies", items("new", "b", text="at once"))
    state.delete_items("movies", ["7", "c"])
    found = state.changes("movies", 1, incarnation)
    assert found is not None
    assert ([item.text for item in found.upserted], found.incomplete) == (
        ["at once b", "at once new"],
        True,
    )
    assert {item_id for _, item_id in found.deleted} == {"7", "c"}
    found = state.changes("movies", 2, incarnation)
    assert found is not None
    assert not found.incomplete
    rows = read_catalog(state, "movies")
    assert len(rows.ids) == len(many) + 2
    assert rows.texts[0] == "late a"


def test_unchanged_items_are_reported_where_all_are(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abc"), "later")
    incarnation = state.get_domain("movies").incarnation
    assert state.upsert_items("movies", items("a", "b")) == Upserted(0, 0, 2, 1)
    assert state.changes("movies", 0, incarnation) == Changes(1, [], [], incomplete=True)
    assert state.upsert_items(
        "movies", [*items("a", "d"), *items("b", text="other")], "all"
    ) == Upserted(1, 1, 1, 2)
    found = state.changes("movies", 0, incarnation)
    assert found is not None
    assert [item.item_id for item in found.upserted] == ["a", "b", "d"]
    assert found.incomplete


def named(found: Removals | None) -> tuple[int, list[str]]:
    assert found is not None
    return found.generation, sorted(found.deleted)


def test_changes_are_not_reported_where_they_are_more_than_asked_for(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items(*"abcde"))
    state.delete_items("movies", ["a"])
    incarnation = state.get_domain("movies").incarnation
    assert state.changes("movies", 0, incarnation, most=4) is None
    found = state.changes("movies", 0, incarnation, most=6)
    assert found is not None
    assert [item.item_id for item in found.upserted] == [*"bcde"]


def test_changes_are_read_whole_while_items_are_deleted(state: State) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(5000)]
    state.upsert_items("movies", items(*names))
    incarnation = state.get_domain("movies").incarnation
    ended = threading.Event()

    def write() -> None:  # both ends of the catalog go and come together
        while not ended.is_set():
            state.delete_items("movies", ["0", "4999"])
            state.upsert_items("movies", items("0", "4999"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            found = state.changes("movies", 1, incarnation)
            assert found is not None
            removed = {name for _, name in found.deleted}
            assert removed == (set() if found.generation % 2 else {"0", "4999"})
            assert {item.item_id for item in found.upserted} == (
                {"0", "4999"} - removed if found.generation > 1 else set()
            )
    finally:
        ended.set()
        writer.join()
