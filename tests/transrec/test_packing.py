from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import TINY_KINDS, tiny_adapter, tiny_backbone, tiny_spec, tiny_texts
from transrec.content import Content
from transrec.embed import embed, embed_packed
from transrec.gpu import GPU_FAST, is_fast
from transrec.inputs import TextInputs, any_batches
from transrec.packing import TILE, Rows
from transrec.text_encoder import Tokens

ALONE = {"prompt", "prefix", "k_adapter"}
"""Kinds that add tokens or keys, or attend by themselves."""
PACKING = sorted(TINY_KINDS.keys() - ALONE - {"whole"})
MIXED = ["film", "film the the 7", "the storm " * 9, "oslo 12 news", *tiny_texts(40)]


@pytest.mark.parametrize("longest", [1, 7, 30, 64, 65, 200])
def test_texts_stand_whole_in_a_row_and_none_over_another(longest: int) -> None:
    lengths = np.random.default_rng(longest).integers(1, longest + 1, 300)
    rows = Rows.fit(lengths)
    owners, positions, places = rows.tokens()
    assert len(np.unique(places)) == len(places) == lengths.sum()
    assert places.max() < rows.count * rows.width
    assert rows.width % TILE == 0
    assert (places // rows.width == (rows.starts // rows.width)[owners]).all()
    assert (places - rows.starts[owners] == positions).all()


def test_rows_of_titles_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).normal(15, 4, 1000).round().astype(np.int64).clip(4, 30)
    rows = Rows.fit(lengths)
    assert lengths.sum() / (rows.count * rows.width) > 0.95


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["none", *PACKING])
def test_packed_texts_are_encoded_as_each_alone(kind: str, pooling: Any) -> None:
    backbone = tiny_backbone(pooling=pooling)
    side = None if kind == "none" else tiny_adapter(backbone, spec=tiny_spec(kind)).item
    encoder = backbone.model.item_encoder
    inputs = TextInputs(backbone.tokenize(MIXED))
    with torch.inference_mode():
        together = encoder(inputs.packed(np.arange(len(MIXED)), "cpu"), side)
        for place, row in enumerate(inputs.ids):
            alone = encoder(Tokens(torch.tensor([list(row)])), side)
            assert torch.allclose(together[place], alone[0], atol=1e-5)


def test_every_other_kind_says_that_it_does_not_pack() -> None:
    backbone = tiny_backbone()
    for kind in TINY_KINDS.keys() - {"whole"}:
        assert tiny_adapter(backbone, spec=tiny_spec(kind)).item.packs == (kind in PACKING)


def test_gradients_of_packed_texts_are_those_of_padded_ones() -> None:
    backbone = tiny_backbone()
    inputs = TextInputs(backbone.tokenize(MIXED))
    places = np.arange(len(MIXED))
    found = []
    for batch in (inputs.packed(places, "cpu"), inputs.padded(places, "cpu")):
        side = tiny_adapter(backbone).item.requires_grad_(requires_grad=True)
        weights = torch.linspace(-1, 1, 16)
        (backbone.model.item_encoder(batch, side) * weights).sum().backward()
        found.append([value.grad for value in side.parameters() if value.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_embedding_packed_gives_the_vectors_of_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transrec.embed.PACKED_TEXTS", 8)
    monkeypatch.setattr("transrec.embed.PACKED_TOKENS", 60)
    backbone = tiny_backbone()
    distinct = [Content(text) for text in dict.fromkeys(MIXED)]

    def run(batch: Tokens) -> Tensor:
        with torch.inference_mode():
            return backbone.model.project(backbone.model.item_encoder(batch))

    vectors = np.full((len(distinct), backbone.config.width), np.nan, np.float32)
    for places, found in embed_packed(backbone, distinct, run):
        vectors[places] = found
    assert np.allclose(vectors, embed(backbone, distinct, dtype="float32"), atol=1e-5)


def test_batches_of_any_length_hold_every_item_once_in_order() -> None:
    inputs = TextInputs([[1] * (3 + n % 4) for n in range(40)])
    seen = list(any_batches(inputs, 30))
    assert np.concatenate(seen).tolist() == list(range(40))
    assert max(int(inputs.tokens[places].sum()) for places in seen) <= 36
    assert list(any_batches(TextInputs([]), 30)) == []


def test_the_switch_is_for_gpus_and_off_unless_it_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPU_FAST, raising=False)
    assert not is_fast(torch.device("cuda"))
    for value, wanted in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(GPU_FAST, value)
        assert is_fast(torch.device("cuda:0")) is wanted
        assert not is_fast(torch.device("cpu"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cpu_the_switch_changes_no_vector(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone)
    found = []
    for value in ("0", "1"):
        monkeypatch.setenv(GPU_FAST, value)
        found.append(embed(backbone, MIXED, adapter, dtype=dtype))
    assert np.array_equal(found[0], found[1])
