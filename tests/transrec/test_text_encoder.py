from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel, RobertaModel

from tests.checkpoints import bert_checkpoint, roberta_checkpoint
from tests.tiny import WORDS, tiny_adapter, tiny_backbone, tiny_texts
from transrec.adapters import AdapterSpec, stack
from transrec.backbone import Backbone
from transrec.errors import BackboneError
from transrec.text_encoder import Tokens


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_checkpoint(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return roberta_checkpoint(tmp_path_factory.mktemp("roberta"))


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_without_an_adapter_the_output_equals_the_librarys(
    architecture: str, pooling: Any, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(architecture)
    model: Any = BertModel if architecture == "bert" else RobertaModel
    library = model.from_pretrained(folder).eval()
    ours = Backbone.from_encoder(str(folder), pooling=pooling).model.item_encoder
    ids = torch.randint(5, len(WORDS), (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, 2:] = 0
    ids = torch.where(mask.bool(), ids, library.config.pad_token_id)
    with torch.inference_mode():
        states = library(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1)
        expected = states[:, 0] if pooling == "cls" else (states * weights).sum(1) / weights.sum(1)
        assert torch.allclose(ours(Tokens(ids, mask.bool())), expected, atol=1e-5)


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    with pytest.raises(BackboneError, match="'gpt2': expected one of bert, roberta"):
        Backbone.from_encoder(str(tmp_path))


def test_a_checkpoint_that_is_not_there_is_an_error_that_says_what_was_expected(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        BackboneError, match="folder of a BERT or RoBERTa checkpoint, or its hub name"
    ):
        Backbone.from_encoder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("layers", ["all", 1, [0]])
def test_from_a_cached_prefix_the_output_is_the_same(pooling: Any, layers: Any) -> None:
    backbone = tiny_backbone(pooling=pooling)
    side = tiny_adapter(
        backbone,
        spec=AdapterSpec.parse({"item": {"kind": "houlsby", "hidden": 8, "layers": layers}}),
    ).item
    first = side.spec.chosen(2)[0]
    encoder = backbone.model.text_encoder
    assert encoder is not None
    tokens = Tokens(torch.randint(5, len(WORDS), (3, 7)))
    with torch.inference_mode():
        assert torch.allclose(
            encoder.suffix(encoder.prefix(tokens, first), first, side),
            encoder(tokens, side),
            atol=1e-6,
        )
        assert not torch.allclose(encoder(tokens, side), encoder(tokens), atol=1e-3)


def test_padding_changes_no_output() -> None:
    backbone = tiny_backbone()
    side = tiny_adapter(backbone).item
    encoder = backbone.model.item_encoder
    ids = torch.randint(5, len(WORDS), (2, 5))
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.int64)], 1)
    with torch.inference_mode():
        assert torch.allclose(
            encoder(Tokens(padded, padded != 0), side), encoder(Tokens(ids), side), atol=1e-6
        )


def test_items_of_different_domains_in_one_forward_equal_one_by_one() -> None:
    backbone = tiny_backbone()
    sides: list[Any] = [None, tiny_adapter(backbone, 1).item, tiny_adapter(backbone, 2).item]
    bank = stack(sides, backbone.shape.items[0])
    index = torch.tensor([2, 0, 1, 1])
    ids = torch.randint(5, len(WORDS), (4, 6))
    encoder = backbone.model.item_encoder
    with torch.inference_mode():
        together = encoder(Tokens(ids), bank.rows(index))
        order, blocks = bank.blocks(index.tolist())
        assert torch.allclose(encoder(Tokens(ids[order]), blocks), together[order], atol=1e-5)
        for row, slot in enumerate(index.tolist()):
            assert torch.allclose(
                together[row], encoder(Tokens(ids[row : row + 1]), sides[slot])[0], atol=1e-5
            )


def test_texts_are_cut_to_the_token_limit_with_their_specials() -> None:
    backbone = tiny_backbone()
    rows = backbone.tokenize([*tiny_texts(3), "film " * 50])
    assert len(rows[-1]) == 12
    assert all(row[0] == WORDS.index("[CLS]") and row[-1] == WORDS.index("[SEP]") for row in rows)


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_at_random(
    bert: Path, tmp_path: Path
) -> None:
    state = load_file(bert / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BackboneError, match=r"lacks weights: encoder\.layer\.1\.output\.dense\.weight"
    ):
        Backbone.from_encoder(str(tmp_path))
