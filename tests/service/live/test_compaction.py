"""A build that fails is not tried for ever:
what was refused waits for a change, the rest ever longer.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from service.app import Tuning
from service.http.components import Components
from service.state import JobRecord
from tests.service.conftest import ITEMS, components_of, wait_for_job, wait_until

REFUSED = {"status": 422, "detail": "100 different items have only 1 different vectors"}
BROKEN = {"status": 500, "detail": "something went wrong here"}


class AheadClock:
    """The time, and some seconds more."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> AheadClock:
    return AheadClock()


@pytest.fixture
def tuning(clock: AheadClock) -> Tuning:
    return Tuning(clock=clock)


@pytest.fixture
def components(movies: httpx.Client) -> Components:
    return components_of(movies)


def ask(components: Components) -> JobRecord | None:
    """Ask for a build as a reconciliation does; no process claims it."""
    job = components.reconciler.backlog.request_compaction("movies")
    assert job is None or isinstance(job, JobRecord)
    return job


def fail(components: Components, error: dict[str, Any]) -> JobRecord:
    """Record a build of the catalog as it is now that failed."""
    live = components.store.live("movies")
    detail = {
        "generation": components.state.generation("movies"),
        "version": "none" if live is None else live,
    }
    job = components.state.create_job("fold", "movies", detail, {})
    return components.state.update_job(job.id, status="failed", error=error)


def test_what_was_refused_is_built_again_once_the_catalog_is_another_and_not_before(
    components: Components, movies: httpx.Client, clock: AheadClock
) -> None:
    fail(components, REFUSED)
    clock.ahead_s = 30 * 24 * 3600
    assert ask(components) is None
    movies.patch("/domains/movies/items/i1", json={"title": "Another film"})
    job = ask(components)
    assert job is not None
    assert job.detail == {"generation": components.state.generation("movies"), "version": "none"}
    assert wait_for_job(movies, {"id": job.id})["status"] == "succeeded"


def test_what_failed_otherwise_is_built_again_after_twice_as_long_each_time(
    components: Components, clock: AheadClock
) -> None:
    for failures, seconds in ((1, 60), (2, 120), (3, 240)):
        fail(components, BROKEN)
        clock.ahead_s = seconds - 10
        assert ask(components) is None, failures
    clock.ahead_s = 250
    job = ask(components)
    assert job is not None
    wait_until(lambda: components.state.get_job(job.id).ended)
    clock.ahead_s = 0
    components.writer.delete("movies", [ITEMS[0]["item_id"]])
    assert ask(components) is not None, "what failed before a success does not count"


def test_a_change_is_built_a_minute_after_a_failure_however_often_it_failed(
    components: Components, movies: httpx.Client, clock: AheadClock
) -> None:
    for _ in range(6):
        fail(components, BROKEN)
    movies.delete("/domains/movies/items/i1")
    assert ask(components) is None
    clock.ahead_s = 70
    assert ask(components) is not None


def test_a_domain_that_waits_for_a_build_that_was_refused_says_why(
    components: Components, movies: httpx.Client
) -> None:
    fail(components, REFUSED)
    answer = httpx.Response(200)

    def is_broken() -> bool:
        nonlocal answer
        # What is heard of earlier writes may bring it back once more.
        components.live.remove("movies")
        ask(components)
        answer = movies.post("/recommend?domain=movies", json={"history": ["i1"]})
        return answer.status_code == 503

    wait_until(is_broken)
    assert answer.json()["code"] == "domain_broken"
    assert "only 1 different vectors" in answer.json()["detail"]


def test_a_catalog_whose_texts_all_look_the_same_is_refused_with_the_reason_and_once(
    client: httpx.Client, clock: AheadClock
) -> None:
    client.put("/domains/thai", json={})
    rows = [
        {"item_id": f"th{n}", "title": f"เรื่อง {chr(0x0E01 + n % 40)}{'ก' * (n // 40)}"}
        for n in range(100)
    ]
    assert (
        client.post("/domains/thai/items", json=rows).json()["warnings"][0]["code"]
        == "unknown_tokens"
    )
    reconciler = components_of(client).reconciler
    job: Any = reconciler.backlog.request_compaction("thai")
    ended = wait_for_job(client, {"id": job.id})
    assert (ended["status"], ended["error"]["status"]) == ("failed", 422)
    assert "different vectors" in ended["error"]["detail"]
    clock.ahead_s = 24 * 3600
    assert reconciler.backlog.request_compaction("thai") is None
