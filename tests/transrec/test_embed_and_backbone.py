from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_adapter, tiny_backbone, tiny_texts
from transrec.backbone import Backbone
from transrec.devices import resolve_dtype
from transrec.embed import embed
from transrec.errors import BackboneError
from transrec.inputs import TextInputs, batches
from transrec.text_encoder import Tokens


def test_a_saved_backbone_loads_with_its_fingerprint_and_gives_the_same_vectors(
    tmp_path: Path,
) -> None:
    made = tiny_backbone(tmp_path / "one")
    again = Backbone.load(tmp_path / "one", device="cpu")
    assert len(again.fingerprint) == 64
    assert again.fingerprint == made.fingerprint
    texts = tiny_texts(9)
    assert np.array_equal(embed(made, texts, dtype="float32"), embed(again, texts, dtype="float32"))
    assert not any(parameter.requires_grad for parameter in again.model.parameters())


def test_the_fingerprint_depends_on_every_weight(tmp_path: Path) -> None:
    one = tiny_backbone(tmp_path / "one")
    other = tiny_backbone()
    with torch.no_grad():
        other.model.user_encoder.position.weight[0, 0] += 1e-3
    other.save(tmp_path / "two")
    assert one.fingerprint != other.fingerprint
    assert tiny_backbone(tmp_path / "three").fingerprint == one.fingerprint


def test_saving_over_another_backbone_is_refused_and_leaves_no_rest(tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "one")
    with pytest.raises(FileExistsError, match="move it away"):
        tiny_backbone(tmp_path / "one", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_folder_that_is_no_backbone_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(BackboneError, match=r"model\.safetensors, tokenizer\.json missing"):
        Backbone.load(tmp_path)


def test_a_damaged_backbone_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "one")
    weights = tmp_path / "one" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(BackboneError, match="one"):
        Backbone.load(tmp_path / "one")


def test_a_backbone_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    tiny_backbone(tmp_path / "one")
    config = tmp_path / "one" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "format": 9}), "utf-8")
    with pytest.raises(BackboneError, match="reads format 1"):
        Backbone.load(tmp_path / "one")


def test_vectors_are_those_of_one_item_at_a_time() -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone)
    texts = tiny_texts(23)
    together = embed(backbone, texts, adapter, dtype="float32")
    for text, vector in zip(texts, together, strict=True):
        tokens = Tokens(torch.tensor(backbone.tokenize([text])))
        with torch.inference_mode():
            alone = backbone.model.project(backbone.model.item_encoder(tokens, adapter.item))
        assert np.allclose(vector, alone[0].numpy(), atol=1e-5)
    assert together.dtype == np.float32


def test_equal_texts_have_bitwise_equal_vectors() -> None:
    texts = tiny_texts(50)
    vectors = embed(tiny_backbone(), texts + texts[::-1], dtype="bfloat16")
    assert np.array_equal(vectors[:50], vectors[50:][::-1])


def test_bfloat16_is_close_to_float32() -> None:
    backbone = tiny_backbone()
    adapter = tiny_adapter(backbone, scale=0.1)
    texts = tiny_texts(20)
    exact, fast = (
        embed(backbone, texts, adapter, dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.99
    assert not np.array_equal(exact, fast)


def test_progress_counts_distinct_items_to_the_end() -> None:
    reported: list[tuple[int, int]] = []
    embed(
        tiny_backbone(),
        [*tiny_texts(10), "film 1"],
        progress=lambda done, total: reported.append((done, total)),
    )
    assert reported[-1] == (10, 10) or reported[-1] == (11, 11)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_nothing_embeds_to_nothing() -> None:
    assert embed(tiny_backbone(), []).shape == (0, 16)


def test_batches_hold_one_length_and_every_row_once() -> None:
    tokens = [[1] * (3 + n % 4) for n in range(40)]
    seen = []
    inputs = TextInputs(tokens)
    for places in batches(inputs, budget=30):
        ids = inputs.load(places, "cpu").ids
        assert ids.numel() <= 30
        assert {len(tokens[place]) for place in places} == {ids.shape[1]}
        seen += places.tolist()
    assert sorted(seen) == list(range(40))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        resolve_dtype("float16", "cpu")


def test_a_backbone_that_was_loaded_embeds_one_item_as_the_one_that_was_saved(
    tmp_path: Path,
) -> None:
    saved = tiny_backbone(tmp_path / "tiny")
    loaded = Backbone.load(tmp_path / "tiny", "cpu")
    assert {value.data_ptr() % 64 for value in loaded.model.state_dict().values()} == {0}
    file = (tmp_path / "tiny" / "model.safetensors").read_bytes()
    assert (8 + int.from_bytes(file[:8], "little")) % 64 == 0, (
        "mapped weights of round sizes need no copy"
    )
    for text in ("film", "storm over the night"):
        assert np.array_equal(
            embed(saved, [text], dtype="float32"), embed(loaded, [text], dtype="float32")
        )
