from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from service.engine.slots import Slot, SlotTable
from tests.service.conftest import wait_until
from tests.tiny import SPEC, tiny_adapter, tiny_backbone, tiny_spec
from transrec.adapters import AdapterSpec, SideAdapter
from transrec.backbone import Backbone

SLOTS = 4


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture
def table(backbone: Backbone) -> SlotTable:
    return SlotTable(backbone.model.user_encoder, backbone.shape.user, SLOTS, backbone.device)


def side(backbone: Backbone, hidden: int, seed: int = 0, kind: str = "houlsby") -> SideAdapter:
    spec = AdapterSpec.parse({**SPEC.to_json(), "user": {"kind": kind, "hidden": hidden}})
    return tiny_adapter(backbone, seed, spec).user


def encode(backbone: Backbone, table: SlotTable, slot: Slot) -> np.ndarray:
    vectors = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(3))
    adapt = slot.own or table.bank.rows(torch.tensor([slot.number]))
    with torch.inference_mode():
        found: torch.Tensor = backbone.model.user_encoder(
            vectors, torch.ones(1, 6, dtype=torch.bool), adapt, last_only=True
        )
    return found.numpy()


def test_a_wide_adapter_leaves_the_table_as_it_is_and_answers_as_it_does_alone(
    backbone: Backbone, table: SlotTable
) -> None:
    narrow = table.take(side(backbone, 4))
    before = table.bank
    adapter = side(backbone, table.widest + 1)
    wide = table.take(adapter)
    assert table.bank is before
    assert (table.bank.hidden, table.in_use, wide.number) == (4, 1, 0)
    vectors = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        alone = backbone.model.user_encoder(
            vectors, torch.ones(1, 6, dtype=torch.bool), adapter, last_only=True
        )
    assert np.allclose(encode(backbone, table, wide), alone.numpy(), atol=1e-6)
    assert narrow.number == 1


def test_a_table_is_narrow_again_when_its_widest_adapter_is_removed(
    backbone: Backbone, table: SlotTable
) -> None:
    narrow = table.take(side(backbone, 4, seed=1))
    expected = encode(backbone, table, narrow)
    wide = table.take(side(backbone, table.widest, seed=2))
    assert table.bank.hidden == table.widest
    del wide
    gc.collect()
    wait_until(lambda: table.bank.hidden == 4)
    assert table.in_use == 1
    assert np.allclose(encode(backbone, table, narrow), expected, atol=1e-6)


def test_a_table_is_short_again_when_many_adapters_are_removed(
    backbone: Backbone, table: SlotTable
) -> None:
    first = table.take(side(backbone, 4, seed=1))
    expected = encode(backbone, table, first)
    many = [table.take(side(backbone, 4, seed)) for seed in range(2, 40)]
    assert table.bank.slots == 64
    many.clear()
    gc.collect()
    wait_until(lambda: table.bank.slots == SLOTS)
    assert np.allclose(encode(backbone, table, first), expected, atol=1e-6)
    again = table.take(side(backbone, 4, seed=50))
    assert (again.number, table.in_use) == (2, 2)


def test_a_removed_form_no_longer_slows_down_plain_bottlenecks(
    backbone: Backbone, table: SlotTable
) -> None:
    plain = table.take(side(backbone, 4))
    parallel = table.take(tiny_adapter(backbone, 1, tiny_spec("houlsby_parallel")).user)
    assert not table.bank.plain
    del parallel
    gc.collect()
    wait_until(lambda: table.bank.plain)
    assert plain.number == 1


def test_rows_that_are_taken_while_others_are_released_are_never_shared(
    backbone: Backbone, table: SlotTable
) -> None:
    held: dict[int, Slot] = {}
    adapters = [side(backbone, 4 + seed % 3, seed) for seed in range(8)]
    expected = [encode(backbone, table, table.take(adapter)) for adapter in adapters]
    rng = np.random.default_rng(0)
    for _ in range(150):
        which = int(rng.integers(0, 8))
        if rng.random() < 0.4:
            held.pop(which, None)
        else:
            held[which] = table.take(adapters[which])
        numbers = [slot.number for slot in held.values()]
        assert len(set(numbers)) == len(numbers)
    for which, slot in held.items():
        assert np.allclose(encode(backbone, table, slot), expected[which], atol=1e-6)
