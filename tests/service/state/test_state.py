"""Domains, their probes, restarts and threads: what every backend of the state does, Redis being a
real server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import DomainNotFound, JobNotFound
from service.state import (
    DomainRecord,
    Probe,
    State,
)
from tests.service.catalog_rows import read_catalog
from tests.service.state.samples import MOVIES, items


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
