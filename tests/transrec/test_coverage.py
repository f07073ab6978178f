"""What a tokenizer does not know of some texts, for each of the models that tokenizers have."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny import tiny_backbone, tiny_tokenizer
from transrec.content import joined
from transrec.coverage import unknown_id, unknown_share

THAI = "ภาพยนตร์ เรื่อง ก"


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["the film", "storm over oslo 7"], 0.0),
        ([THAI, THAI], 1.0),
        (["storm ก", "news"], 1 / 3),
        (["ก" * 100_000], 1.0),
        ([joined(["storm", "ก"])], 0.5),
        ([""], 0.0),
        ([], 0.0),
    ],
    ids=["known", "unknown", "some", "long", "attributes", "empty", "none"],
)
def test_the_share_counts_tokens_of_texts_and_no_special_ones(
    texts: list[str], share: float
) -> None:
    assert tiny_backbone().unknown_share(texts) == pytest.approx(share)


def test_a_backbone_that_reads_no_texts_lacks_none() -> None:
    assert tiny_backbone(modalities=("image",)).unknown_share([THAI]) == 0.0


def test_the_unknown_token_of_every_kind_of_tokenizer_is_found() -> None:
    assert unknown_id(tiny_tokenizer()) == 1
    unigram = Tokenizer(models.Unigram([("a", 0.0), ("<unk>", 0.0)], 1, byte_fallback=False))
    assert (unknown_id(unigram), unknown_share(unigram, 1, ["a"])) == (1, 0.0)
    words = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))  # noqa: S106 - a token of a vocabulary
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    assert unknown_share(words, unknown_id(words), ["a b", "a a"]) == 0.25
    of_bytes = Tokenizer(models.BPE({"a": 0}, []))
    assert unknown_share(of_bytes, unknown_id(of_bytes), [THAI]) == 0.0


def test_the_padding_of_a_checkpoints_tokenizer_is_no_known_token() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_padding(length=128)
    unknown = unknown_id(tokenizer)
    assert unknown_share(tokenizer, unknown, ["เรื่อง"]) == 1.0
    assert unknown_share(tokenizer, unknown, ["film"]) == 0.0
