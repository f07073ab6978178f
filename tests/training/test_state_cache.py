"""States of items that are computed once: they are those that the encoder gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import tiny_adapter, tiny_backbone, tiny_contents, tiny_spec, tiny_texts
from training.state_cache import item_states
from training.states import PrefixStates
from transrec.adapters import AdapterSpec
from transrec.text_encoder import Tokens


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "item",
    [
        {"kind": "none"},
        {"kind": "houlsby", "layers": [0]},
        {"kind": "houlsby", "layers": [1]},
        {"kind": "houlsby", "layers": [1], "train_layer_norm": True},
        {"kind": "lora", "layers": [1]},
        {"kind": "prefix", "layers": [0]},
        {"kind": "bitfit", "layers": [1]},
        {"kind": "layer_norm", "layers": [1]},
        {"kind": "side"},
    ],
    ids=str,
)
def test_cached_states_give_what_the_encoder_gives(
    tmp_path: Path, pooling: Any, item: dict[str, Any]
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    texts = tiny_texts(30)
    side = tiny_adapter(backbone, spec=AdapterSpec.parse({"item": item})).item
    states = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    rows = np.array([7, 3, 29, 0, 12])
    with torch.inference_mode():
        found = states.pooled(rows, side)
        for place, row in enumerate(rows):
            tokens = Tokens(torch.tensor(backbone.tokenize([texts[row]])))
            assert torch.allclose(
                found[place], backbone.model.item_encoder(tokens, side)[0], atol=1e-5
            )
    assert len(list(tmp_path.iterdir())) == 1
    again = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    assert torch.equal(again.pooled(rows, side), states.pooled(rows, side))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("item", [{"kind": "houlsby"}, {"kind": "lora", "layers": [1]}], ids=str)
def test_cached_states_packed_for_a_gpu_give_the_same(
    tmp_path: Path, pooling: Any, item: dict[str, Any]
) -> None:
    backbone = tiny_backbone(pooling=pooling)
    side = tiny_adapter(backbone, spec=AdapterSpec.parse({"item": item})).item
    states = item_states(
        backbone, tiny_contents(30), side, tmp_path, keep="float32", dtype="float32"
    )
    assert isinstance(states, PrefixStates)
    rows = np.array([7, 3, 29, 0, 12])
    with torch.inference_mode():
        prefix = states.packed(rows, states.starts[rows + 1] - states.starts[rows])
        packed = states.encoder.suffix(prefix, states.reach.layer, side)
        assert torch.allclose(packed, states.pooled(rows, side), atol=1e-5)


@pytest.mark.parametrize("kind", ["prompt", "k_adapter", "bitfit"])
def test_where_nothing_can_be_cached_nothing_is(tmp_path: Path, kind: str) -> None:
    backbone = tiny_backbone(pooling="cls")
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).item
    states = item_states(backbone, tiny_contents(5), side, tmp_path)
    tokens = Tokens(torch.tensor(backbone.tokenize([tiny_texts(5)[3]])))
    with torch.inference_mode():
        found = states.pooled(np.array([3]), side)
        assert torch.allclose(found, backbone.model.item_encoder(tokens, side), atol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_another_encoder_or_content_has_its_own_cache(tmp_path: Path) -> None:
    item_states(tiny_backbone(seed=0), tiny_contents(5), None, tmp_path)
    item_states(tiny_backbone(seed=1), tiny_contents(5), None, tmp_path)
    item_states(tiny_backbone(seed=0), tiny_contents(6), None, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
