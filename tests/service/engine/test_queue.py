from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.catalog.bases import Base
from service.catalog.ids import Ids
from service.catalog.live_items import LiveItems
from service.engine.engine import Found, History
from service.engine.queue import MAX_BATCH, QueryQueue
from service.engine.slots import Slot
from service.errors import QueueFull
from transrec.arrays import Floats

NONE = Slot(0)


@pytest.fixture
def items() -> LiveItems:
    """Item n is the unit vector n, so that a user with that vector gets item n first."""
    count = 2 * MAX_BATCH
    base = Base(
        Path(),
        1,
        Ids.of([f"i{n}" for n in range(count)]),
        np.zeros(count),
        np.arange(count, dtype=np.int32),
        count,
    )
    return LiveItems.of(base, np.eye(count, dtype=np.float32))


def last_items(batch: Sequence[History]) -> Floats:
    """An encoder whose user vector is that of the last item."""
    return np.concatenate([history.items.vectors(history.rows[-1:]) for history in batch])


def ask(queue: QueryQueue, items: LiveItems, asked: Sequence[int]) -> list[Found | BaseException]:
    async def gather() -> list[Found | BaseException]:
        queries = (queue.query(History([row], NONE, items), 1) for row in asked)
        return await asyncio.gather(*queries, return_exceptions=True)

    return asyncio.run(gather())


def best(found: Found | BaseException) -> int:
    assert isinstance(found, tuple), found
    return int(found[1][0])


def test_queries_that_arrive_together_run_as_one_batch(items: LiveItems) -> None:
    sizes: list[tuple[int, int]] = []
    queue = QueryQueue(
        last_items, 10, observe=lambda rows, adapters: sizes.append((rows, adapters))
    )
    assert [best(found) for found in ask(queue, items, [3, 1, 2])] == [3, 1, 2]
    assert sizes == [(3, 1)]


def test_more_than_a_batch_runs_in_several_in_the_order_of_arrival(items: LiveItems) -> None:
    sizes: list[int] = []
    queue = QueryQueue(last_items, 1000, observe=lambda rows, _adapters: sizes.append(rows))
    asked = [row % len(items) for row in range(2 * MAX_BATCH + 1)]
    assert [best(found) for found in ask(queue, items, asked)] == asked
    assert sizes == [MAX_BATCH, MAX_BATCH, 1]


def test_a_full_queue_is_refused_and_those_before_are_answered(items: LiveItems) -> None:
    found = ask(QueryQueue(last_items, 3), items, range(5))
    assert [best(one) for one in found[:3]] == [0, 1, 2]
    assert [type(one) for one in found[3:]] == [QueueFull, QueueFull]


def test_a_client_that_left_is_not_encoded(items: LiveItems) -> None:
    sizes: list[int] = []
    queue = QueryQueue(last_items, 10, observe=lambda rows, _adapters: sizes.append(rows))

    async def gather() -> Found:
        left = asyncio.ensure_future(queue.query(History([1], NONE, items), 1))
        stays = asyncio.ensure_future(queue.query(History([2], NONE, items), 1))
        await asyncio.sleep(0)
        left.cancel()
        return await stays

    assert best(asyncio.run(gather())) == 2
    assert sizes == [1]


def test_an_encoder_that_fails_fails_every_query_of_its_batch_and_no_later_one(
    items: LiveItems,
) -> None:
    failures = [RuntimeError("out of memory")]

    def encode(batch: Sequence[History]) -> Floats:
        if failures:
            raise failures.pop()
        return last_items(batch)

    queue = QueryQueue(encode, 10)
    assert [str(found) for found in ask(queue, items, [1, 2])] == ["out of memory"] * 2
    assert best(ask(queue, items, [1])[0]) == 1
