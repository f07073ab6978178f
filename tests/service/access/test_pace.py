"""Evaluations ask by the live path and keep nobody waiting."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from service.access.pace import Pace
from service.errors import TooManyAtOnce
from tests.service.conftest import components_of, wait_until

BODY = {"history": ["i1", "i2"], "k": 5}
PROBES = [{"history": ["i1", "i2", "i3"], "target": f"i{n % 60}"} for n in range(20_000)]


def evaluate(movies: httpx.Client, seconds: float = 60.0) -> int:
    try:
        return httpx.post(f"{movies.base_url}/domains/movies/evaluate", timeout=seconds).status_code
    except httpx.TimeoutException:
        return 0


def seconds_of(movies: httpx.Client, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.monotonic()
        assert movies.post("/recommend?domain=movies", json=BODY).status_code == 200
        times.append(time.monotonic() - began)
    return times


def test_however_many_probes_there_are_few_are_asked_at_once(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", json=PROBES)
    components = components_of(movies)
    loop_reader = components.gate_runner.loop_reader
    assert loop_reader is not None
    idle = seconds_of(movies, 20)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(evaluate, movies, 3.0) for _ in range(4)]
        wait_until(lambda: components.reader.pace._by_domain["movies"] == 4)
        loaded = seconds_of(movies, 20)
        tasks = max(len(asyncio.all_tasks(loop_reader.loop)) for _ in range(20))
        assert {one.result() for one in asked} == {0}, "they took longer than their clients waited"
    assert tasks < 100
    assert statistics.median(loaded) < 10 * statistics.median(idle) + 0.1


def test_an_evaluation_whose_client_left_ends(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", json=PROBES)
    counts = components_of(movies).reader.pace._by_domain
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(evaluate, movies, 0.5)
        wait_until(lambda: counts["movies"] == 1)
        assert asked.result() == 0, "it took longer than its client waited"
    wait_until(lambda: not counts.total(), 5.0)
    assert movies.get("/livez").status_code == 200


def test_evaluations_take_turns(movies: httpx.Client) -> None:
    movies.put("/domains/movies/probes", json=PROBES[:4000])
    long = threading.Thread(target=evaluate, args=(movies,))
    movies.put("/domains/books", json={})
    movies.post("/domains/books/items", json=[{"item_id": "i1", "title": "storm"}])
    movies.put("/domains/books/probes", json=PROBES[:16])
    long.start()
    counts = components_of(movies).reader.pace._by_domain
    wait_until(lambda: counts["movies"] == 1)
    assert movies.post("/domains/books/evaluate").json()["probes"] == 16
    assert counts["movies"] == 1, "the short one does not wait for the long one"
    long.join()


def test_more_evaluations_than_a_domain_or_the_process_may_have_are_refused(
    movies: httpx.Client,
) -> None:
    paced: Pace = components_of(movies).reader.pace
    with paced.place("a"), paced.place("a"), paced.place("a"), paced.place("a"):
        with pytest.raises(TooManyAtOnce, match="a has 4"), paced.place("a"):
            pass
        with paced.place("b"):
            pass
    with paced.place("a"):
        pass
    movies.put("/domains/movies/probes", json=PROBES[:3])
    with ExitStack() as held:
        for domain in "aaaabbbb":
            held.enter_context(paced.place(domain))
        refused = movies.post("/domains/movies/evaluate")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_at_once")
    assert refused.headers["retry-after"] == "5"
