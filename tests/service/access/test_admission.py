"""Recommendations queue by domain and not for long; who floods hurts itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from service.access.admission import Admission
from service.errors import QueueFull
from service.settings import Settings
from tests.service.conftest import ITEMS, running
from transrec.backbone import Backbone


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await work()

    asyncio.run(all_of_it())


def fill(admission: Admission, domain: str, count: int) -> list[asyncio.Future[None]]:
    """Begin requests; returns those that queue."""
    begun = [admission.begin(domain) for _ in range(count)]
    return [one for one in begun if one is not None]


def test_places_are_given_to_the_domains_in_turns() -> None:
    async def work() -> None:
        admission = Admission(max_queue=100, max_wait_s=1.0, at_once=4)
        assert [len(fill(admission, name, count)) for name, count in (("a", 3), ("b", 1))] == [0, 0]
        began: list[str] = []

        def noting(name: str) -> Callable[[object], None]:
            return lambda _: began.append(name)

        for name, count in (("a", 3), ("b", 2), ("c", 1)):
            for turn in fill(admission, name, count):
                turn.add_done_callback(noting(name))
        for name in "aaabcab":
            admission.end(name)
            await asyncio.sleep(0)
        assert began == ["a", "b", "c", "a", "b", "a"]

    run(work)


def test_a_flood_leaves_places_for_the_other_domains() -> None:
    async def work() -> None:
        admission = Admission(max_queue=100, max_wait_s=1.0, at_once=4)
        assert len(fill(admission, "flood", 20)) == 17
        assert admission.begin("quiet") is None

    run(work)


def test_a_flood_does_not_take_the_whole_queue() -> None:
    async def work() -> None:
        admission = Admission(max_queue=24, max_wait_s=1.0, at_once=4)
        with pytest.raises(QueueFull):
            fill(admission, "flood", 100)
        assert len(fill(admission, "quiet", 3)) == 2
        assert admission.waiting == 15 + 2

    run(work)


def test_who_would_queue_longer_than_is_allowed_is_refused_at_once() -> None:
    async def work() -> None:
        clock = Clock()
        admission = Admission(max_queue=10_000, max_wait_s=0.5, at_once=4, clock=clock)
        fill(admission, "a", 10)
        for _ in range(100):  # a hundred a second
            clock.now += 0.01
            admission.end("a")
            fill(admission, "a", 1)
        with pytest.raises(QueueFull):
            fill(admission, "a", 200)
        assert 45 <= admission.waiting <= 55, "half a second of a hundred a second"

    run(work)


def test_when_nothing_ends_the_queue_is_closed_as_soon_as_its_first_waits_too_long() -> None:
    async def work() -> None:
        clock = Clock()
        admission = Admission(max_queue=10_000, max_wait_s=0.5, at_once=4, clock=clock)
        fill(admission, "a", 10)
        clock.now = 0.51
        with pytest.raises(QueueFull):
            admission.begin("a")
        assert len(fill(admission, "b", 2)) == 1, "another domain has a queue of its own"

    run(work)


def test_what_waited_far_too_long_is_refused_and_the_next_begins() -> None:
    async def work() -> None:
        clock = Clock()
        admission = Admission(max_queue=100, max_wait_s=0.5, at_once=1, clock=clock)
        assert admission.begin("a") is None
        stale = admission.begin("a")
        clock.now = 0.4
        fresh = admission.begin("a")
        clock.now = 1.2
        admission.end("a")
        assert stale is not None
        assert isinstance(stale.exception(), QueueFull)
        assert fresh is not None
        assert fresh.done()
        assert fresh.exception() is None

    run(work)


def test_a_client_that_leaves_the_queue_takes_no_place() -> None:
    async def work() -> None:
        admission = Admission(max_queue=100, max_wait_s=1.0, at_once=1)
        assert admission.begin("a") is None
        left, stays = fill(admission, "a", 2)
        left.cancel()
        admission.end("a")
        assert stays.done()
        assert (admission.running, admission.waiting) == (1, 0)

    run(work)


BODY = {"history": ["i1", "i2"], "k": 5}


def test_clients_that_send_their_bodies_slowly_hold_no_place(movies: httpx.Client) -> None:
    where = movies.base_url
    head = b"POST /recommend?domain=movies HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    slow = [socket.create_connection((where.host, where.port or 0)) for _ in range(200)]
    try:
        for one in slow:
            one.sendall(head)
        assert movies.post("/recommend?domain=movies", json=BODY).status_code == 200
    finally:
        for one in slow:
            one.close()


def test_a_body_in_many_parts_is_answered_as_one_in_one_part(movies: httpx.Client) -> None:
    parts = (b'{"history": [', b'"i1", "i2"', b'], "k": 5}')
    asked = movies.post("/recommend?domain=movies", content=iter(parts)).json()
    assert asked["items"] == movies.post("/recommend?domain=movies", json=BODY).json()["items"]


def test_a_flood_is_refused_with_a_problem_and_the_probes_answer(
    settings: Settings, backbone: Backbone
) -> None:
    assert backbone.fingerprint
    with running(settings.model_copy(update={"max_queue": 2})) as client:
        client.put("/domains/movies", json={})
        client.post("/domains/movies/items", json=ITEMS)
        answers: list[httpx.Response] = []

        def flood() -> None:
            with httpx.Client(base_url=client.base_url) as mine:
                answers.extend(mine.post("/recommend?domain=movies", json=BODY) for _ in range(20))

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        alive = [client.get(path).status_code for path in ("/livez", "/readyz")]
        for thread in threads:
            thread.join()
        assert alive == [200, 200]
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        problem: dict[str, Any] = refused.json()
        assert (problem["code"], refused.headers["retry-after"]) == ("queue_full", "1")
        assert problem["request_id"] == refused.headers["x-request-id"]
        assert client.post("/recommend?domain=movies", json=BODY).status_code == 200
