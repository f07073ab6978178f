from __future__ import annotations

import pytest
import torch

from swaprec.parameters import LIKE
from tests.tiny import tiny_adapter, tiny_backbone, tiny_spec
from transrec.adapters import (
    Adapter,
    AdapterShape,
    AdapterSpec,
    Bottleneck,
    SideSpec,
    SpecError,
    count_parameters,
    expected_tensors,
    stack,
    unchanged,
)
from transrec.backbone_config import adapter_shape
from transrec.text_encoder import Tokens

BERT_BASE = adapter_shape(LIKE["bert-base"])
MINILM = adapter_shape(LIKE["minilm"])


def houlsby(item: int = 64, user: int = 16, **side: object) -> AdapterSpec:
    return AdapterSpec.parse(
        {
            "item": {"kind": "houlsby", "hidden": item, **side},
            "user": {"kind": "houlsby", "hidden": user},
        }
    )


@pytest.mark.parametrize(
    ("shape", "item", "total"),
    [
        (BERT_BASE, 64, 2_387_776),
        (BERT_BASE, 8, 322_048),
        (BERT_BASE, 16, 617_152),
        (BERT_BASE, 128, 4_748_608),
        (BERT_BASE, 192, 7_109_440),
        (MINILM, 64, 603_712),
    ],
)
def test_houlsby_has_as_many_parameters_as_the_authors_modules(
    shape: AdapterShape, item: int, total: int
) -> None:
    count = count_parameters(houlsby(item), shape)
    assert (count.total, count.user) == (total, 8_512)


def test_none_trains_nothing() -> None:
    assert count_parameters(AdapterSpec.none(), BERT_BASE).total == 0


def test_the_top_layer_alone_on_minilm_with_the_user_side_is_107712() -> None:
    assert count_parameters(houlsby(layers=1), MINILM).total == 107_712


def test_a_spec_survives_its_json() -> None:
    spec = houlsby(layers=[1, 0], positions="ffn")
    assert AdapterSpec.parse(spec.to_json()) == spec


def test_every_problem_of_a_spec_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        AdapterSpec.parse(
            {
                "item": {"kind": "lore", "hiden": 4, "hidden": 0},
                "usr": {},
                "user": {"layers": "top"},
            }
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert all(word in text for word in ("usr", "hiden", "'lore'", "item.hidden", "'top'"))


def test_a_layer_beyond_the_encoder_is_refused() -> None:
    with pytest.raises(SpecError, match=r"layers \[7\]"):
        SideSpec("houlsby", layers=(0, 7)).chosen(6)


def test_the_last_k_layers_are_the_upper_ones() -> None:
    assert SideSpec("houlsby", layers=2).chosen(6) == (4, 5)


def test_an_adapter_survives_its_tensors() -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone, seed=3)
    again = Adapter.from_tensors(adapter.spec, backbone.shape, adapter.to_tensors())
    assert all(
        torch.equal(value, again.to_tensors()[name]) for name, value in adapter.to_tensors().items()
    )
    assert set(adapter.to_tensors()) == set(expected_tensors(adapter.spec, backbone.shape))


def test_tensors_that_do_not_fit_are_all_named() -> None:
    backbone = tiny_backbone()
    tensors = tiny_adapter(backbone).to_tensors()
    tensors["item.0.ffn.up.bias"] = torch.zeros(3)
    tensors["stranger"] = tensors.pop("user.1.ffn.down.bias")
    with pytest.raises(SpecError) as caught:
        Adapter.from_tensors(tiny_adapter(backbone).spec, backbone.shape, tensors)
    assert len(caught.value.problems) == 3


def test_a_fresh_adapter_depends_on_its_seed_alone() -> None:
    torch.rand(7)
    one = Adapter.create(houlsby(), MINILM, seed=5).to_tensors()
    two = Adapter.create(houlsby(), MINILM, seed=5).to_tensors()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_bottleneck_is_the_formula() -> None:
    module = Bottleneck(6, 3)
    h = torch.randn(2, 5, 6)
    down = module.down
    up = module.up
    written_out = torch.stack(
        [
            v + up.weight @ torch.clamp(down.weight @ v + down.bias, min=0) + up.bias
            for v in h.reshape(-1, 6)
        ]
    ).reshape(h.shape)
    assert torch.allclose(module(h), written_out, atol=1e-6)


def test_rows_of_different_adapters_in_one_forward_equal_one_by_one() -> None:
    backbone = tiny_backbone()
    wide = AdapterSpec.parse({"user": {"kind": "houlsby", "hidden": 7, "positions": "ffn"}})
    top = AdapterSpec.parse({"user": {"kind": "houlsby", "hidden": 3, "layers": 1}})
    sides = [
        None,
        tiny_adapter(backbone, 1).user,
        tiny_adapter(backbone, 2, wide).user,
        tiny_adapter(backbone, 3, top).user,
    ]
    bank = stack(sides, backbone.shape.user)
    index = torch.tensor([3, 0, 1, 2, 1])
    vectors = torch.randn(5, 6, 16)
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[:, :2] = False
    encoder = backbone.model.user_encoder
    for last_only in (False, True):
        together = encoder(vectors, mask, bank.rows(index), last_only=last_only)
        for row, slot in enumerate(index.tolist()):
            alone = encoder(
                vectors[row : row + 1], mask[row : row + 1], sides[slot], last_only=last_only
            )
            assert torch.allclose(together[row], alone[0], atol=1e-5)
            assert slot == 0 or not torch.allclose(
                alone,
                encoder(
                    vectors[row : row + 1], mask[row : row + 1], unchanged, last_only=last_only
                ),
                atol=1e-3,
            )


@pytest.mark.parametrize("index", [[5, 0, 2, 2, 5, 5, 0], [1, 2, 3], [4], [3, 1, 3, 1]], ids=str)
def test_rows_in_the_order_of_their_adapters_equal_rows_one_by_one(index: list[int]) -> None:
    backbone = tiny_backbone()
    kinds = ["houlsby", "pfeiffer", "compacter", "houlsby_parallel", "houlsby"]
    sides = [
        None,
        *(tiny_adapter(backbone, seed, tiny_spec(kind)).item for seed, kind in enumerate(kinds)),
    ]
    bank = stack(sides, backbone.shape.items[0])  # type: ignore[arg-type]
    encoder = backbone.model.item_encoder
    ids = torch.randint(5, 40, (len(index), 6))
    order, adapt = bank.blocks(index)
    assert sorted(order) == list(range(len(index)))
    with torch.inference_mode():
        together = encoder(Tokens(ids[order]), adapt)
        for found, row in zip(together, order, strict=True):
            assert torch.allclose(
                found, encoder(Tokens(ids[row : row + 1]), sides[index[row]])[0], atol=1e-5
            )


def test_a_slot_written_over_with_nothing_is_none_again() -> None:
    backbone = tiny_backbone()
    bank = stack([tiny_adapter(backbone).user], backbone.shape.user)
    bank.write(0, None)
    h = torch.randn(1, 4, 16)
    assert torch.equal(bank.rows(torch.tensor([0])).after(1, "ffn", h, h), h)


def test_a_table_that_grew_answers_as_before() -> None:
    backbone = tiny_backbone()
    bank = stack([None, tiny_adapter(backbone).user], backbone.shape.user)
    h = torch.randn(1, 4, 16)
    index = torch.tensor([1])
    assert torch.equal(
        bank.resized(8, 4).rows(index).after(0, "ffn", h, h), bank.rows(index).after(0, "ffn", h, h)
    )
    wider = bank.resized(2, 9).rows(index).after(0, "ffn", h, h)
    assert torch.allclose(wider, bank.rows(index).after(0, "ffn", h, h), atol=1e-6)


def test_an_adapter_too_wide_for_the_table_is_refused() -> None:
    backbone = tiny_backbone()
    bank = stack([None], backbone.shape.user)
    with pytest.raises(ValueError, match="hidden size 4 does not fit a table of 1"):
        bank.write(0, tiny_adapter(backbone).user)
