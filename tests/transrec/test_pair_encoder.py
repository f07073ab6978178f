"""Items with a text, a picture, or both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_adapter, tiny_backbone, tiny_contents, tiny_picture, tiny_spec
from transrec.adapters import Adapter, PairedTowers, count_parameters
from transrec.backbone import Backbone
from transrec.content import Content, Picture
from transrec.embed import embed
from transrec.errors import ContentError
from transrec.seam import Modality

BOTH: tuple[Modality, Modality] = ("text", "image")
TEXT = "film storm"
IMAGE = Picture.of(tiny_picture(1))


@pytest.fixture(scope="module")
def pair() -> Backbone:
    return tiny_backbone(modalities=BOTH)


def test_what_is_missing_adds_nothing(pair: Backbone) -> None:
    projection = pair.model.projection
    text = pair.model.text_encoder
    image = pair.model.image_encoder
    assert text is not None
    assert image is not None
    contents = [Content(TEXT), Content(image=IMAGE), Content(TEXT, IMAGE)]
    found = embed(pair, contents, dtype="float32")
    with torch.inference_mode():
        h_text = text(pair.inputs([Content(TEXT)]).load(np.array([0]), "cpu").text)
        h_image = image(pair.inputs([Content(image=IMAGE)]).load(np.array([0]), "cpu").image)
        of_text = h_text @ projection.weight[:, : text.width].T
        of_image = h_image @ projection.weight[:, text.width :].T
        expected = [of_text, of_image, of_text + of_image]
        for vector, change in zip(found, expected, strict=True):
            assert np.allclose(
                vector, torch.nn.functional.gelu(change + projection.bias)[0].numpy(), atol=1e-5
            )


def test_a_tower_of_what_is_missing_adds_nothing(pair: Backbone) -> None:
    adapter = tiny_adapter(pair, spec=tiny_spec("side"))
    towers = adapter.item
    assert isinstance(towers, PairedTowers)
    change = dict(zip("tib", _changes(pair, adapter), strict=True))
    width = 16
    weight = towers.out.weight
    bias = towers.out.bias
    with torch.no_grad():
        # Without these towers nothing changes for such an item.
        for name, blocks in (
            ("t", (1, 2)),
            ("i", (0, 2)),
        ):
            kept = weight.clone()
            for block in blocks:
                weight[:, block * width : (block + 1) * width] = 0
            again = dict(zip("tib", _changes(pair, adapter), strict=True))
            assert np.allclose(again[name], change[name], atol=1e-6)
            assert not np.allclose(again["b"], change["b"], atol=1e-3)
            weight.copy_(kept)
    assert bias.shape == (width,)


def _changes(pair: Backbone, adapter: Adapter) -> list[np.ndarray]:
    contents = [Content(TEXT), Content(image=IMAGE), Content(TEXT, IMAGE)]
    adapted, plain = (embed(pair, contents, one, dtype="float32") for one in (adapter, None))
    return list(adapted - plain)


def test_a_pair_trains_as_much_as_its_two_encoders(pair: Backbone) -> None:
    shapes = [tiny_backbone(modalities=(modality,)).shape for modality in BOTH]
    for kind in ("houlsby", "pfeiffer", "lora", "bitfit", "layer_norm", "prefix", "k_adapter"):
        spec = tiny_spec(kind)
        assert count_parameters(spec, pair.shape).item == sum(
            count_parameters(spec, one).item for one in shapes
        )
    spec = tiny_spec("compacter")  # one rule for all
    both = sum(count_parameters(spec, one).item for one in shapes)
    assert count_parameters(spec, pair.shape).item == both - 4**3


def test_an_item_without_anything_that_is_read_says_what_is(pair: Backbone) -> None:
    with pytest.raises(ContentError, match="it has no text and no image"):
        pair.read(Content())
    with pytest.raises(ContentError, match="it has no image"):
        tiny_backbone(modalities=("image",)).read(Content("text"))
    assert pair.read(Content(TEXT, IMAGE)) == Content(TEXT, IMAGE)
    assert tiny_backbone().read(Content(TEXT, IMAGE)) == Content(TEXT)


def test_a_pair_survives_its_folder(tmp_path: Path) -> None:
    pair = tiny_backbone(tmp_path / "pair", modalities=BOTH)
    again = Backbone.load(tmp_path / "pair", "cpu")
    contents = tiny_contents(9, BOTH)
    assert np.array_equal(embed(pair, contents), embed(again, contents))
