from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.catalog.bases import Base
from service.catalog.ids import Ids
from service.catalog.live_items import LiveItems
from service.engine.engine import Engine, History
from service.engine.queue import MAX_BATCH
from service.engine.slots import Slot
from service.engine.torch_engine import TorchEngine
from tests.tiny import SPEC, TINY_KINDS, tiny_adapter, tiny_backbone, tiny_spec
from transrec.adapters import AdapterSpec
from transrec.backbone import Backbone
from transrec.model import encode_users


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture
def index() -> LiveItems:
    vectors = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    base = Base(
        Path(),
        1,
        Ids.of([f"i{n}" for n in range(50)]),
        np.zeros(50),
        np.arange(50, dtype=np.int32),
        50,
    )
    return LiveItems.of(base, vectors)


def answer(
    engine: Engine, index: LiveItems, asked: list[tuple[list[int], Slot]], k: int = 5
) -> list[list[int]]:
    async def ask() -> list[list[int]]:
        found = await asyncio.gather(
            *(engine.query(History(rows, slot, index), k) for rows, slot in asked)
        )
        return [rows.tolist() for _, rows in found]

    return asyncio.run(ask())


def expected(
    backbone: Backbone, index: LiveItems, rows: list[int], seed: int | None, k: int = 5
) -> list[int]:
    side = None if seed is None else tiny_adapter(backbone, seed).user
    user = encode_users(backbone.model.user_encoder, [np.array(rows)], index.matrix, side)
    found: list[int] = index.search(user, k)[1][0].tolist()
    return found


def test_domains_in_one_batch_answer_as_they_do_alone(backbone: Backbone, index: LiveItems) -> None:
    seen: list[tuple[int, int]] = []
    engine = TorchEngine(
        backbone,
        slots=8,
        max_queue=100,
        observe=lambda rows, adapters: seen.append((rows, adapters)),
    )
    slots: dict[int | None, Slot] = {
        seed: engine.take_slot(tiny_adapter(backbone, seed).user) for seed in (1, 2, 3)
    }
    slots[None] = engine.take_slot(None)
    rng = np.random.default_rng(1)
    asked = [
        (rng.integers(0, 50, rng.integers(1, 12)).tolist(), seed) for seed in (1, 2, None, 3, 1, 2)
    ]
    found = answer(engine, index, [(rows, slots[seed]) for rows, seed in asked])
    assert seen == [(6, 4)]
    assert found == [expected(backbone, index, rows, seed) for rows, seed in asked]


def test_kinds_that_are_no_bottlenecks_share_the_batch_as_groups_of_their_own(
    backbone: Backbone, index: LiveItems
) -> None:
    seen: list[tuple[int, int]] = []
    engine = TorchEngine(
        backbone,
        slots=8,
        max_queue=100,
        observe=lambda rows, adapters: seen.append((rows, adapters)),
    )
    sides = [tiny_adapter(backbone, spec=tiny_spec(kind)).user for kind in TINY_KINDS]
    slots = [engine.take_slot(side) for side in sides] + [engine.take_slot(None)]
    asked = [([place, 7, 3 * place][: 1 + place % 3], slot) for place, slot in enumerate(slots)] * 2
    found = answer(engine, index, asked)
    assert seen == [(2 * (len(TINY_KINDS) + 1), len(TINY_KINDS) + 1)]
    for (rows, _), side, ids in zip(asked, [*sides, None] * 2, found, strict=True):
        user = encode_users(backbone.model.user_encoder, [np.array(rows)], index.matrix, side)
        assert ids == index.search(user, 5)[1][0].tolist()
    assert engine.slots_in_use == 6, (
        "houlsby, its parallel form, pfeiffer, compacter, and houlsby beside prompt and side"
    )


def test_a_row_in_use_is_never_overwritten(backbone: Backbone, index: LiveItems) -> None:
    engine = TorchEngine(backbone, slots=3, max_queue=10)
    held = engine.take_slot(tiny_adapter(backbone, 1).user)
    for seed in range(2, 102):
        slot = engine.take_slot(tiny_adapter(backbone, seed).user)
        assert answer(engine, index, [([4, 5], slot)]) == [expected(backbone, index, [4, 5], seed)]
        del slot  # the last reference: the row is free again
    assert answer(engine, index, [([4, 5], held)]) == [expected(backbone, index, [4, 5], 1)]
    assert engine.slots_in_use == 1


def test_the_table_grows_in_slots_and_in_hidden_size_without_changing_an_answer(
    backbone: Backbone, index: LiveItems
) -> None:
    engine = TorchEngine(backbone, slots=2, max_queue=10)
    wide = AdapterSpec.parse({**SPEC.to_json(), "user": {"kind": "houlsby", "hidden": 11}})
    slots = [engine.take_slot(tiny_adapter(backbone, seed).user) for seed in range(1, 10)]
    last = engine.take_slot(tiny_adapter(backbone, 10, wide).user)
    for seed, slot in enumerate(slots, 1):
        assert answer(engine, index, [([7], slot)]) == [expected(backbone, index, [7], seed)]
    user = encode_users(
        backbone.model.user_encoder,
        [np.array([7])],
        index.matrix,
        tiny_adapter(backbone, 10, wide).user,
    )
    assert answer(engine, index, [([7], last)]) == [index.search(user, 5)[1][0].tolist()]


def test_more_than_a_batch_is_answered_in_several(backbone: Backbone, index: LiveItems) -> None:
    engine = TorchEngine(backbone, slots=2, max_queue=1000)
    none = engine.take_slot(None)
    asked = [([row % 50], none) for row in range(3 * MAX_BATCH + 1)]
    assert answer(engine, index, asked) == [
        expected(backbone, index, rows, None) for rows, _ in asked
    ]


def test_an_adapter_that_overflows_spoils_no_answer_but_its_own(
    backbone: Backbone, index: LiveItems
) -> None:
    engine = TorchEngine(backbone, slots=4, max_queue=10)
    good, wild = (
        engine.take_slot(tiny_adapter(backbone, 1, scale=scale).user) for scale in (0.3, 1e30)
    )

    async def ask() -> list[object]:
        asked = (engine.query(History([1, 2], slot, index), 5) for slot in (good, wild, good))
        answers: list[object] = await asyncio.gather(*asked, return_exceptions=True)
        return answers

    first, spoiled, last = asyncio.run(ask())
    assert isinstance(spoiled, FloatingPointError)
    for found in (first, last):
        assert isinstance(found, tuple)
        assert found[1].tolist() == expected(backbone, index, [1, 2], 1)
