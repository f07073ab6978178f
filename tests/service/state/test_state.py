"""What every backend of the state must do: one suite, run on each, Redis being a real server."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import DomainNotFound, JobNotFound, StateError
from service.state import (
    MAX_CHANGES,
    RETAINED_JOBS,
    ChangedItem,
    Changes,
    Deleted,
    DomainRecord,
    Probe,
    Removals,
    State,
    StoredItem,
    Upserted,
    redis_link,
)
from service.state.sqlite import FILE, SqliteState
from tests.service.catalog_rows import read_catalog

MOVIES = DomainRecord("movies", "f" * 64, "Films")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Redis time: some tests send it 50,000 items at once, which no request may."""
    monkeypatch.setattr(redis_link, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis_link, "CONNECT_S", 60.0)


def items(*names: str, text: str = "film") -> list[StoredItem]:
    return [
        StoredItem(name, f"{text} {name}", popularity=1.0, metadata={"title": name})
        for name in names
    ]


def test_domains_are_created_once_listed_and_deleted(state: State) -> None:
    assert state.put_domain(MOVIES)
    assert not state.put_domain(DomainRecord("movies", "f" * 64, "Other"))
    assert state.get_domain("movies").title == "Other"
    assert [record.name for record in state.domains()] == ["movies"]
    state.upsert_items("movies", items("a"))
    state.delete_domain("movies")
    assert state.domains() == []
    state.put_domain(MOVIES)
    assert state.count_items("movies") == 0


def test_what_needs_a_domain_names_those_that_exist(state: State) -> None:
    state.put_domain(MOVIES)
    calls = (
        lambda: state.get_domain("books"),
        lambda: state.delete_domain("books"),
        lambda: state.upsert_items("books", items("a")),
        lambda: state.list_items("books", -1, 10),
    )
    for call in calls:
        with pytest.raises(DomainNotFound, match="there is movies"):
            call()


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


def test_probes_are_replaced_and_go_with_their_domain(
    state: State, reopen: Callable[[], State]
) -> None:
    state.put_domain(MOVIES)
    assert state.probes("movies") == []
    state.put_probes("movies", [Probe(["a", "ü"], "c"), Probe(["c"], "a")])
    state.put_probes("movies", [Probe(["a", "ü"], "c")])
    assert reopen().probes("movies") == [Probe(["a", "ü"], "c")]
    state.delete_domain("movies")
    for ask in (lambda: state.probes("movies"), lambda: state.put_probes("movies", [])):
        with pytest.raises(DomainNotFound):
            ask()
    state.put_domain(MOVIES)
    assert state.probes("movies") == []


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


def test_jobs_are_kept_changed_and_listed_newest_first(
    state: State, reopen: Callable[[], State]
) -> None:
    first, second = (state.create_job("import", name, {"n": 1}) for name in ("movies", "books"))
    state.update_job(
        first.id, status="failed", stage="embed", done=3, total=9, error={"detail": "no"}
    )
    again = reopen()
    found = again.get_job(first.id)
    assert (found.status, found.stage, found.done, found.error) == (
        "failed",
        "embed",
        3,
        {"detail": "no"},
    )
    assert found.ended
    assert [job.id for job in again.jobs()] == [second.id, first.id]
    assert [job.id for job in again.jobs("books")] == [second.id]
    again.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: state.get_job("x"),
        lambda: state.update_job("x", status="failed"),
    )
    for call in calls:
        with pytest.raises(JobNotFound):
            call()


def test_everything_is_there_after_a_restart(state: State, reopen: Callable[[], State]) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("a", "b"))
    again = reopen()
    assert read_catalog(again, "movies") == read_catalog(state, "movies")
    again.close()


def test_threads_write_at_once_without_losing_anything(state: State) -> None:
    state.put_domain(MOVIES)

    def write(worker: int) -> None:
        for number in range(20):
            state.upsert_items("movies", items(f"{worker}-{number}"))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_catalog(state, "movies")
    assert (len(set(rows.ids)), rows.generation) == (120, 120)


def test_threads_that_ended_leave_no_open_files(state: State) -> None:
    def ask() -> None:
        state.domains()

    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(100):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 20


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


def test_a_domain_that_is_made_again_begins_anew(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("a", "b"))
    job = state.create_job("import", "movies", {})
    kept = state.create_job("import", "books", {})
    state.delete_domain("movies")
    with pytest.raises(JobNotFound):
        state.get_job(job.id)
    assert [one.id for one in state.jobs()] == [kept.id]
    state.put_domain(MOVIES)
    assert state.upsert_items("movies", items("b")).generation == 1
    assert read_catalog(state, "movies").ids == ["b"]


def test_of_more_jobs_than_are_kept_of_a_domain_the_oldest_that_ended_are_removed(
    state: State,
) -> None:
    running, *ended = (state.create_job("import", "movies", {}) for _ in range(RETAINED_JOBS + 2))
    for job in ended:
        state.update_job(job.id, status="succeeded")
    other = state.create_job("import", "books", {})
    newest = state.create_job("import", "movies", {})
    kept = [newest.id, *(job.id for job in reversed(ended[2:])), running.id]
    assert [job.id for job in state.jobs("movies", 5000)] == kept
    assert {job.id for job in state.jobs(limit=5000)} == {other.id, *kept}, (
        "another domain loses nothing"
    )
    assert state.get_job(running.id) == running
    claimed = state.claim_job("one", 60)
    assert claimed is not None
    assert claimed.id == running.id


def test_the_open_jobs_of_a_domain_are_counted(state: State) -> None:
    assert state.count_open_jobs("movies") == 0
    jobs = [
        state.create_job("import", name, {}) for name in ("movies", "books", "movies", "movies")
    ]
    state.update_job(jobs[0].id, status="failed")
    assert (state.count_open_jobs("movies"), state.count_open_jobs("books")) == (2, 1)


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


def test_a_file_that_is_no_database_keeps_the_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StateError, match="cannot be used as state"):
        SqliteState(tmp_path)


def test_state_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    SqliteState(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateError, match="schema 99"):
        SqliteState(tmp_path)


FULL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
from adapters_store.errors import OutOfSpace
from service.state import DomainRecord, StoredItem
from service.state.sqlite import SqliteState
state = SqliteState(Path(sys.argv[1]))
state.put_domain(DomainRecord("movies", "f"))
state.upsert_items("movies", [StoredItem("a", "kept")])
state.file.connection().execute("PRAGMA max_page_count = 20")
try:
    state.upsert_items("movies", [StoredItem(str(n), "x" * 1000) for n in range(1000)])
except OutOfSpace as error:
    print("OutOfSpace", list(state.items_by_id("movies", ["a", "0", "999"])), error)
"""


def test_a_full_disk_changes_nothing_and_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OutOfSpace ['a'] no room left on the disk")
