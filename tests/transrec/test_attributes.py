"""Items whose text has several attributes,
such as title and abstract: encoded one by one, and averaged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import TINY_KINDS, tiny_adapter, tiny_backbone, tiny_contents, tiny_spec
from training.state_cache import item_states
from transrec.backbone import Backbone
from transrec.content import Content, joined
from transrec.embed import embed
from transrec.errors import ContentError
from transrec.text_encoder import Tokens

LIMITS = (5, 12)
TITLE = "film the storm in oslo"
ABSTRACT = "the news of the violin and of all that the storm had left behind"


def two(**more: Any) -> Backbone:
    """A tiny backbone that reads a title of 5 tokens and an abstract of 12."""
    one = tiny_backbone(**more)
    return Backbone(replace(one.config, max_tokens=LIMITS), one.model, one.tokenizer)


def pooled(backbone: Backbone, text: str, limit: int, side: Any) -> torch.Tensor:
    """The encoder's output for one attribute by itself."""
    alone = Backbone(replace(backbone.config, max_tokens=limit), backbone.model, backbone.tokenizer)
    found: torch.Tensor = backbone.model.item_encoder(
        Tokens(torch.tensor(alone.tokenize([text]))), side
    )
    return found


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", TINY_KINDS)
def test_an_item_is_the_average_of_its_attributes(kind: str, pooling: Any) -> None:
    backbone = two(pooling=pooling)
    adapter = tiny_adapter(backbone, spec=tiny_spec(kind))
    found = embed(backbone, [Content(joined([TITLE, ABSTRACT]))], adapter, dtype="float32")[0]
    with torch.inference_mode():
        parts = [
            pooled(backbone, text, limit, adapter.item)
            for text, limit in zip((TITLE, ABSTRACT), LIMITS, strict=True)
        ]
        expected = backbone.model.project((parts[0] + parts[1]) / 2, adapter.item)[0]
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_an_attribute_that_is_missing_does_not_count() -> None:
    backbone = two()
    texts = [
        joined([TITLE]),
        joined([TITLE, ""]),
        joined(["", ABSTRACT]),
        joined([TITLE, ABSTRACT]),
    ]
    assert texts[0] == texts[1] == TITLE
    title, _, abstract, both = embed(backbone, texts, dtype="float32")
    alone = Backbone(
        replace(backbone.config, max_tokens=LIMITS[0]), backbone.model, backbone.tokenizer
    )
    assert np.allclose(title, embed(alone, [TITLE], dtype="float32")[0], atol=1e-6)
    assert not np.allclose(abstract, title, atol=1e-3)
    assert not np.allclose(both, title, atol=1e-3)


def test_more_attributes_than_are_read_are_refused() -> None:
    with pytest.raises(ContentError, match="it has 3 attributes, the backbone reads 2"):
        two().read(Content(joined(["a", "b", "c"])))
    with pytest.raises(ContentError, match="it has 2 attributes, the backbone reads 1"):
        tiny_backbone().read(Content(joined(["a", "b"])))


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_the_trainer_sees_the_same_states(kind: str, tmp_path: Path) -> None:
    backbone = two()
    contents = [
        Content(joined([one.text, ABSTRACT[: 5 * n]])) for n, one in enumerate(tiny_contents(9))
    ]
    side = tiny_adapter(backbone, spec=tiny_spec(kind)).item
    states = item_states(backbone, contents, side, tmp_path, keep="float32", dtype="float32")
    inputs = backbone.inputs(contents)
    rows = np.array([4, 0, 8, 3])
    with torch.inference_mode():
        found = states.pooled(rows, side)
        for place, row in enumerate(rows):
            expected = backbone.model.item_encoder(inputs.load(np.array([row]), "cpu"), side)
            assert torch.allclose(found[place], expected[0], atol=1e-5)


def test_a_pair_reads_attributes_too() -> None:
    backbone = two(modalities=("text", "image"))
    contents = [
        replace(one, text=joined([one.text, ABSTRACT]) if one.text else "")
        for one in tiny_contents(7, ("text", "image"))
    ]
    together = embed(backbone, contents, dtype="float32")
    alone = np.concatenate([embed(backbone, [content], dtype="float32") for content in contents])
    assert np.allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == 7


def test_the_limits_survive_the_folder(tmp_path: Path) -> None:
    backbone = two()
    backbone.save(tmp_path / "backbone")
    again = Backbone.load(tmp_path / "backbone", "cpu")
    assert again.config.max_tokens == LIMITS
    text = joined([TITLE, ABSTRACT])
    assert np.array_equal(embed(again, [text]), embed(backbone, [text]))
