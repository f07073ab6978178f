"""What every backend of the state must do: one suite, run on each, Redis being a real server."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from service.errors import DomainNotFound, JobNotFound, StateError
from service.state import DomainRecord, Item, Probe, State
from service.state.redis import RedisState
from service.state.sqlite import FILE, SqliteState
from tests.service.redis_server import RedisServer

MOVIES = DomainRecord("movies", "f" * 64, "Films")


@pytest.fixture(params=["sqlite", "redis"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], State]:
    """Open the same state again, as a restart does."""
    if request.param == "sqlite":
        return lambda: SqliteState(tmp_path)
    server: RedisServer = request.getfixturevalue("empty_redis")
    return lambda: RedisState(server.url, tmp_path)


@pytest.fixture
def state(reopen: Callable[[], State]) -> Iterator[State]:
    opened = reopen()
    yield opened
    opened.close()


def items(*names: str, text: str = "film") -> list[Item]:
    return [Item(name, f"{text} {name}", popularity=1.0, metadata={"title": name}) for name in names]


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
        lambda: state.catalog("books"),
        lambda: state.next_index_generation("books"),
        lambda: state.list_items("books", -1, 10),
    )
    for call in calls:
        with pytest.raises(DomainNotFound, match="there is movies"):
            call()


def test_rows_keep_their_places_and_new_ones_come_last(state: State) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("b", "a"))
    state.upsert_items("movies", items("c", "b", text="changed"))
    rows = state.catalog("movies")
    assert rows.ids == ["b", "a", "c"]
    assert rows.texts == ["changed b", "film a", "changed c"]


def test_an_upsert_counts_new_changed_and_unchanged_and_the_last_of_equal_ids_wins(state: State) -> None:
    state.put_domain(MOVIES)
    first = state.upsert_items("movies", [*items("a", "b"), *items("a", text="later")])
    assert (first.accepted, first.updated, first.unchanged, first.generation) == (2, 0, 0, 1)
    same = state.upsert_items("movies", items("b"))
    assert (same.unchanged, same.generation) == (1, 1)
    assert state.upsert_items("movies", items("b", text="new")).generation == 2
    assert state.items_by_id("movies", ["a", "zz"])["a"].text == "later a"


def test_probes_are_replaced_and_go_with_their_domain(state: State, reopen: Callable[[], State]) -> None:
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
    assert [item.item_id for _, item in state.list_items("movies", page[-1][0], 10)] == ["c", "d", "e"]


def test_ids_and_texts_of_any_script_survive(state: State) -> None:
    state.put_domain(MOVIES)
    odd = Item('Ærø "q" \\ 😀\u2028', "Blåbærsyltetøy", metadata={"größe": [1, None, {"x": "y"}]})
    state.upsert_items("movies", [odd])
    assert state.items_by_id("movies", [odd.item_id])[odd.item_id] == odd


def test_pictures_stay_with_their_items_and_changing_one_is_a_change(state: State) -> None:
    state.put_domain(MOVIES)
    first, second = "a" * 64, "b" * 64
    state.upsert_items(
        "movies", [Item("text", "film"), Item("picture", "", image=first), Item("both", "film", image=first)]
    )
    rows = state.catalog("movies")
    assert (rows.texts, rows.images) == (["film", "", "film"], ["", first, first])
    assert state.items_by_id("movies", ["both"])["both"] == Item("both", "film", image=first)
    assert [item.image for _, item in state.list_items("movies", -1, 9)] == ["", first, first]
    again = [Item("picture", "", image=first), Item("both", "film", image=second), Item("text", "film")]
    done = state.upsert_items("movies", again)
    assert (done.updated, done.unchanged) == (1, 2)
    assert state.catalog("movies").images == ["", first, second]
    assert state.upsert_items("movies", [Item("both", "film")]).updated == 1
    assert state.catalog("movies").images == ["", first, ""]


def test_an_id_with_a_nul_is_an_id_like_any(state: State) -> None:
    state.put_domain(MOVIES)
    assert state.upsert_items("movies", items("a", "a\0b")).accepted == 2
    assert state.upsert_items("movies", items("a\0b", text="new")).updated == 1
    assert state.catalog("movies").ids == ["a", "a\0b"]


def test_more_items_than_fit_in_one_question_are_found(state: State) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(1203)]
    state.upsert_items("movies", items(*names))
    assert set(state.items_by_id("movies", [*names, "zz"])) == set(names)
    assert state.upsert_items("movies", items(*names)).unchanged == 1203


def test_generations_only_count_up(state: State, reopen: Callable[[], State]) -> None:
    state.put_domain(MOVIES)
    assert [state.next_index_generation("movies") for _ in range(3)] == [1, 2, 3]
    again = reopen()
    assert again.next_index_generation("movies") == 4
    again.close()


def test_jobs_are_kept_changed_and_listed_newest_first(state: State, reopen: Callable[[], State]) -> None:
    first, second = (state.create_job("import", name, {"n": 1}) for name in ("movies", "books"))
    state.update_job(first.id, status="failed", stage="embed", done=3, total=9, error={"detail": "no"})
    again = reopen()
    found = again.get_job(first.id)
    assert (found.status, found.stage, found.done, found.error) == ("failed", "embed", 3, {"detail": "no"})
    assert found.ended
    assert [job.id for job in again.jobs()] == [second.id, first.id]
    assert [job.id for job in again.jobs("books")] == [second.id]
    again.close()
    for call in (lambda: state.get_job("x"), lambda: state.update_job("x", status="failed")):
        with pytest.raises(JobNotFound):
            call()


def test_everything_is_there_after_a_restart(state: State, reopen: Callable[[], State]) -> None:
    state.put_domain(MOVIES)
    state.upsert_items("movies", items("a", "b"))
    again = reopen()
    assert again.catalog("movies") == state.catalog("movies")
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
    rows = state.catalog("movies")
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
    state.upsert_items("movies", [Item("a", "film", 1, {"x": 1, "y": 2}), Item("b", "film")])
    same = state.upsert_items("movies", [Item("a", "film", 1.0, {"y": 2, "x": 1}), Item("b", "film", 0, {})])
    assert (same.unchanged, same.generation) == (2, 1)
    assert state.upsert_items("movies", [Item("a", "film", 1.0, {})]).updated == 1
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
    assert state.catalog("movies").ids == ["b"]
    assert state.next_index_generation("movies") == 1


def test_of_more_than_a_thousand_jobs_the_oldest_that_ended_are_forgotten(state: State) -> None:
    running, ended = (state.create_job("import", "movies", {}) for _ in range(2))
    state.update_job(ended.id, status="succeeded")
    made = [state.create_job("import", "books", {"n": n}) for n in range(1000)]
    assert {job.id for job in state.jobs(limit=5000)} == {running.id, *(job.id for job in made)}
    assert state.get_job(running.id) == running
    assert state.jobs("movies") == [running]


def test_a_catalog_is_read_as_it_was_at_one_moment(state: State) -> None:
    state.put_domain(MOVIES)
    names = [str(number) for number in range(5000)]
    state.upsert_items("movies", items(*names, text="0"))
    ended = threading.Event()

    def write() -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            state.upsert_items("movies", [*items("0", "2500", "4999", text=str(turn)), *items(f"new {turn}")])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            rows = state.catalog("movies")
            first = rows.texts[0].split()[0]
            assert [rows.texts[row].split()[0] for row in (2500, 4999)] == [first, first]
            assert (len(rows.ids) - 5000, rows.generation - 1) == (int(first), int(first))
    finally:
        ended.set()
        writer.join()


def test_a_catalog_is_never_mixed_from_two_domains_of_one_name(state: State) -> None:
    ended, names = threading.Event(), [str(number) for number in range(2500)]
    state.put_domain(MOVIES)

    def renew() -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            state.upsert_items("movies", items(*names[: 2500 - turn % 7], text=str(turn)))
            state.delete_domain("movies")
            state.put_domain(MOVIES)

    writer = threading.Thread(target=renew)
    writer.start()
    try:
        for _ in range(100):
            with suppress(DomainNotFound):
                rows = state.catalog("movies")
                assert len({text.split()[0] for text in rows.texts}) == bool(rows.ids)
                assert len(rows.ids) in {0, *range(2494, 2501)}
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
from pathlib import Path
from service.errors import OutOfSpace
from service.state import DomainRecord, Item
from service.state.sqlite import SqliteState
state = SqliteState(Path(sys.argv[1]))
state.put_domain(DomainRecord("movies", "f"))
state.upsert_items("movies", [Item("a", "kept")])
state._file.connection().execute("PRAGMA max_page_count = 20")
try:
    state.upsert_items("movies", [Item(str(n), "x" * 1000) for n in range(1000)])
except OutOfSpace as error:
    print("OutOfSpace", state.catalog("movies").ids, error)
"""


def test_a_full_disk_changes_nothing_and_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OutOfSpace ['a'] no room left on the disk")


def test_a_file_of_the_first_schema_is_brought_to_this_one_with_all_it_holds(tmp_path: Path) -> None:
    opened = SqliteState(tmp_path)
    opened.put_domain(MOVIES)
    opened.upsert_items("movies", items("a", "b"))
    opened.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as old:  # as the first release wrote it
        old.execute("DROP TABLE probes")
        old.execute("ALTER TABLE items DROP COLUMN image")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    for _ in range(2):
        upgraded = SqliteState(tmp_path)
        assert upgraded.items_by_id("movies", ["a", "b"]) == {item.item_id: item for item in items("a", "b")}
        upgraded.upsert_items("movies", [Item("c", "", image="c" * 64)])
        assert upgraded.catalog("movies").images == ["", "", "c" * 64]
        upgraded.close()
