"""Every kind keeps the promises that all of them make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from swaprec.parameters import LIKE
from tests.tiny import (
    ITEM_ONLY,
    TINY_KINDS,
    USER_ONLY,
    tiny_adapter,
    tiny_backbone,
    tiny_contents,
    tiny_spec,
    tiny_texts,
)
from transrec.adapters import (
    KINDS,
    Adapter,
    AdapterShape,
    AdapterSpec,
    SpecError,
    count_parameters,
    expected_tensors,
)
from transrec.backbone import Backbone
from transrec.backbone_config import adapter_shape
from transrec.embed import embed
from transrec.inputs import batches
from transrec.model import encode_users
from transrec.seam import Modality
from transrec.text_encoder import Tokens

BERT_BASE = adapter_shape(LIKE["bert-base"])
MINILM = adapter_shape(LIKE["minilm"])
Modalities = tuple[Modality, ...]
MODALITIES: list[Modalities] = [("text",), ("image",), ("text", "image")]
BOTH_SIDES = [kind for kind in TINY_KINDS if kind not in ITEM_ONLY]
BEGINS_AS_NONE = ["k_adapter", "lora", "bitfit", "layer_norm", "side", "whole"]


def test_every_kind_is_in_these_tests() -> None:
    assert set(KINDS) == {"none", *TINY_KINDS}


@pytest.mark.parametrize(
    ("kind", "shape", "total"),
    [
        ("pfeiffer", BERT_BASE, 1_193_888),
        ("compacter", BERT_BASE, 60_928),
        ("k_adapter", BERT_BASE, 3_573_920),
        ("layer_norm", BERT_BASE, 39_040),
        ("houlsby", BERT_BASE, 2_387_776),
        ("pfeiffer", MINILM, 301_856),
        ("compacter", MINILM, 17_152),
    ],
)
def test_parameters_are_as_many_as_the_authors_modules_have(
    kind: str, shape: AdapterShape, total: int
) -> None:
    spec = AdapterSpec.parse({"item": {"kind": kind}, "user": {"kind": kind}})
    assert count_parameters(spec, shape).total == total


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_spec_and_its_tensors_survive_their_json(kind: str, modalities: Modalities) -> None:
    backbone = tiny_backbone(modalities=modalities)
    spec = tiny_spec(kind)
    assert AdapterSpec.parse(spec.to_json()) == spec
    adapter = tiny_adapter(backbone, spec=spec)
    assert set(adapter.to_tensors()) == set(expected_tensors(spec, backbone.shape))
    again = Adapter.from_tensors(spec, backbone.shape, adapter.to_tensors())
    contents = tiny_contents(3, modalities)
    assert np.array_equal(embed(backbone, contents, adapter), embed(backbone, contents, again))


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("kind", BEGINS_AS_NONE)
def test_a_fresh_adapter_of_these_kinds_is_none(kind: str, modalities: Modalities) -> None:
    backbone = tiny_backbone(modalities=modalities)
    adapter = Adapter.create(tiny_spec(kind), backbone.shape, seed=1)
    contents = tiny_contents(9, modalities)
    vectors = embed(backbone, contents, dtype="float32")
    if kind not in USER_ONLY:
        assert np.allclose(embed(backbone, contents, adapter, dtype="float32"), vectors, atol=1e-6)
    if kind not in ITEM_ONLY:
        encoder = backbone.model.user_encoder
        plain, adapted = (
            encode_users(encoder, [np.arange(5)], vectors, side) for side in (None, adapter.user)
        )
        assert np.allclose(plain, adapted, atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_an_item_does_not_depend_on_the_pads_beside_it(kind: str, pooling: Any) -> None:
    backbone = tiny_backbone(pooling=pooling)
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).item
    encoder = backbone.model.item_encoder
    rows = backbone.tokenize(["film", "film the the 7"])
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        together = backbone.model.project(encoder(Tokens(ids, mask), side), side)
        for place, row in enumerate(rows):
            alone = backbone.model.project(encoder(Tokens(torch.tensor([row])), side), side)
            assert torch.allclose(together[place], alone[0], atol=1e-5)


@pytest.mark.parametrize("kind", BOTH_SIDES)
def test_no_earlier_position_sees_a_later_item_or_a_pad(kind: str) -> None:
    backbone = tiny_backbone()
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).user
    encoder = backbone.model.user_encoder
    vectors = torch.randn(1, 6, 16)
    mask = torch.tensor([[False, False, True, True, True, True]])
    with torch.inference_mode():
        before = encoder(vectors, mask, side)
        later = vectors.clone()
        pads = vectors.clone()
        later[0, 5] = torch.randn(16)
        pads[0, :2] = torch.randn(2, 16)
        assert torch.allclose(encoder(later, mask, side)[0, 2:5], before[0, 2:5], atol=1e-6)
        assert not torch.allclose(encoder(later, mask, side)[0, 5], before[0, 5], atol=1e-3)
        assert torch.allclose(encoder(pads, mask, side)[0, 2:], before[0, 2:], atol=1e-6)
        assert torch.allclose(
            encoder(vectors, mask, side, last_only=True), before[:, -1], atol=1e-6
        )


def test_the_authors_k_adapter_leaks_the_future() -> None:
    backbone = tiny_backbone()
    spec = tiny_spec("k_adapter", compat="adapter4rec")
    side = tiny_adapter(backbone, spec=spec).user
    encoder = backbone.model.user_encoder
    vectors = torch.randn(1, 6, 16)
    mask = torch.ones(1, 6, dtype=torch.bool)
    later = vectors.clone()
    later[0, 5] = torch.randn(16)
    with torch.inference_mode():
        assert not torch.allclose(
            encoder(later, mask, side)[0, 2], encoder(vectors, mask, side)[0, 2], atol=1e-4
        )


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_a_step_changes_the_specs_tensors_and_nothing_else_bit_for_bit(
    kind: str, modalities: Modalities
) -> None:
    backbone = tiny_backbone(modalities=modalities)
    # Of this seed no bottleneck is dead on these few items.
    adapter = tiny_adapter(backbone, seed=2, spec=tiny_spec(kind)).requires_grad_(
        requires_grad=True
    )
    frozen = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    before = adapter.to_tensors()
    _step(backbone, adapter)
    assert all(
        torch.equal(value, frozen[name]) for name, value in backbone.model.state_dict().items()
    )
    assert {
        name for name, value in adapter.to_tensors().items() if not torch.equal(value, before[name])
    } == set(before)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def _step(backbone: Backbone, adapter: Adapter) -> None:
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-2)
    inputs = backbone.inputs(tiny_contents(24, backbone.config.modalities))
    for _ in range(2):  # a zero factor lets no gradient through to its partner in the first step
        pooled = [
            backbone.model.item_encoder(inputs.load(rows, "cpu"), adapter.item)
            for rows in batches(inputs)
        ]
        items = backbone.model.project(torch.cat(pooled), adapter.item).view(4, 6, 16)
        users = backbone.model.user_encoder(items, torch.ones(4, 6, dtype=torch.bool), adapter.user)
        optimizer.zero_grad()
        (users.square().sum() + (users * torch.arange(16.0)).sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_the_form_that_serves_equals_the_form_that_trains(
    kind: str, modalities: Modalities
) -> None:
    backbone = tiny_backbone(modalities=modalities)
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    encoder = backbone.model.item_encoder
    users = backbone.model.user_encoder
    inputs = backbone.inputs(tiny_contents(9, modalities))
    vectors = torch.randn(2, 6, 16)
    mask = torch.ones(2, 6, dtype=torch.bool)
    serving = adapter.item.for_serving(encoder)
    with torch.inference_mode():
        for rows in batches(inputs):
            given = inputs.load(rows, "cpu")
            trained = backbone.model.project(encoder(given, adapter.item), adapter.item)
            assert torch.allclose(
                trained, backbone.model.project(encoder(given, serving), serving), atol=1e-5
            )
        served = users(vectors, mask, adapter.user.for_serving(users))
        assert torch.allclose(users(vectors, mask, adapter.user), served, atol=1e-5)


@pytest.mark.parametrize("kind", ["houlsby", "pfeiffer", "compacter", "lora"])
def test_layer_norms_train_where_the_spec_says_so(kind: str) -> None:
    backbone = tiny_backbone()
    with_norms = set(expected_tensors(tiny_spec(kind, train_layer_norm=True), backbone.shape))
    without = set(expected_tensors(tiny_spec(kind), backbone.shape))
    added = with_norms - without
    assert "item.norms.outside.norm.weight" in added
    assert "user.norms.1.ffn_norm.bias" in added
    assert len(added) == 2 * 2 * 5
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind, train_layer_norm=True))
    assert np.isfinite(embed(backbone, tiny_texts(3), adapter)).all()


@pytest.mark.parametrize(
    ("side", "says"),
    [
        ({"item": {"kind": "houlsby", "tokens": 3}}, "item.tokens: kind houlsby does not use it"),
        ({"user": {"kind": "prompt"}}, "user.kind: prompt makes no sense on the user side"),
        (
            {"item": {"kind": "whole"}},
            "item.kind: whole makes no sense on the item side: .* full fine-tuning",
        ),
        ({"item": {"kind": "side", "compat": "adapter4rec"}}, "item.compat: expected one of iisan"),
        ({"item": {"kind": "lora", "alpha": 0}}, "item.alpha: expected a positive number"),
        ({"item": {"kind": "adapter"}}, "expected one of houlsby, "),
    ],
)
def test_a_spec_that_makes_no_sense_says_why(side: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        AdapterSpec.parse(side)


@pytest.mark.parametrize(
    ("kind", "more"), [("compacter", {"hidden": 6}), ("k_adapter", {"heads": 3})]
)
def test_numbers_that_do_not_fit_the_encoder_are_named_for_both_sides(
    kind: str, more: dict[str, Any]
) -> None:
    spec = tiny_spec(kind)
    spec = AdapterSpec(replace(spec.item, **more), replace(spec.user, **more))
    with pytest.raises(SpecError) as caught:
        Adapter.create(spec, tiny_backbone().shape, seed=0)
    assert [problem.partition(".")[0] for problem in caught.value.problems] == ["item", "user"]


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_an_item_has_one_vector_whatever_it_is_embedded_with(
    kind: str, modalities: Modalities
) -> None:
    backbone = tiny_backbone(modalities=modalities)
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    contents = tiny_contents(13, modalities)
    together = embed(backbone, contents, adapter, dtype="float32")
    alone = np.concatenate(
        [embed(backbone, [content], adapter, dtype="float32") for content in contents]
    )
    assert np.allclose(together, alone, atol=1e-5)
    assert len(np.unique(together, axis=0)) == len(contents)
    plain = embed(backbone, contents, dtype="float32")
    assert np.abs(together - plain).max(1).min() > 1e-4, "every item is adapted, whatever it has"


def test_the_authors_prompt_overwrites_words_and_is_refused_on_images() -> None:
    with pytest.raises(
        SpecError, match=r"item\.compat: adapter4rec overwrites words, and images have none"
    ):
        Adapter.create(
            tiny_spec("prompt", compat="adapter4rec"),
            tiny_backbone(modalities=("image",)).shape,
            seed=0,
        )


def test_whole_is_as_large_as_the_user_encoder_and_comes_with_iisans_towers() -> None:
    spec = AdapterSpec.parse({"item": {"kind": "side", "compat": "iisan"}})
    assert spec.user.kind == "whole"
    assert count_parameters(spec, BERT_BASE).user == 100_864
    assert (
        AdapterSpec.parse({"item": spec.to_json()["item"], "user": {"kind": "none"}}).user.kind
        == "none"
    )
    assert AdapterSpec.parse(spec.to_json()) == spec
