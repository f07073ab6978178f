"""A BERT checkpoint with random weights of real size, and titles that its tokenizer reads."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from benchmarks.gpu.setup import Setup
from benchmarks.gpu.sizes import MAX_TOKENS, EncoderSize
from transrec.adapters import Adapter, AdapterSpec, expected_tensors
from transrec.backbone import Backbone

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES_SHARE = 0.2
"""Share of the vocabulary that continues a word, and of words that have two pieces."""
HOULSBY = AdapterSpec.parse({"item": {"kind": "houlsby"}, "user": {"kind": "houlsby"}})
WEIGHT_SPREAD = 0.02
WORDS_MEAN = 10.8
WORDS_SPREAD = 3.4
WORDS_MIN = 3
WORDS_MAX = 24
"""Words of a title; those of MIND's news have 10.8 on average."""


def checkpoint(setup: Setup, name: str) -> Path:
    """Return the folder of an encoder's checkpoint, written when it is first asked for."""
    folder = setup.folder / "checkpoints" / name
    done = folder / "done"
    if not done.exists():
        _write(folder, setup.sizes.encoders[name], setup.sizes.vocabulary)
        done.touch()
    return folder


def load(setup: Setup, name: str, device: str | None = None) -> Backbone:
    """Read an encoder's checkpoint into a backbone, as `swaprec train` does."""
    return Backbone.from_encoder(
        str(checkpoint(setup, name)), max_tokens=MAX_TOKENS, device=device or setup.device
    )


def draw_adapter(backbone: Backbone, spec: AdapterSpec, seed: int) -> Adapter:
    """Draw an adapter whose weights change what they adapt, on the backbone's device."""
    generator = torch.Generator().manual_seed(seed)
    sizes = expected_tensors(spec, backbone.shape)
    drawn = {
        name: WEIGHT_SPREAD * torch.randn(size, generator=generator) for name, size in sizes.items()
    }
    return Adapter.from_tensors(spec, backbone.shape, drawn).to(backbone.device)


def draw_titles(count: int, vocabulary: int, seed: int) -> list[str]:
    """Draw titles of mixed lengths; words follow Zipf's law."""
    rng = np.random.default_rng(seed)
    words, pieces = _words(vocabulary)
    odds = 1.0 / np.arange(10, len(words) + 10)
    lengths = rng.normal(WORDS_MEAN, WORDS_SPREAD, count).round().astype(np.int64)
    lengths = lengths.clip(WORDS_MIN, WORDS_MAX)
    drawn = rng.choice(len(words), int(lengths.sum()), p=odds / odds.sum())
    ends = rng.integers(0, len(pieces), len(drawn))
    split = rng.random(len(drawn)) < PIECES_SHARE
    text = [
        words[word] + (pieces[end] if two else "")
        for word, end, two in zip(drawn.tolist(), ends.tolist(), split.tolist(), strict=True)
    ]
    stops = np.cumsum(lengths).tolist()
    starts = [0, *stops[:-1]]
    return [" ".join(text[start:stop]) for start, stop in zip(starts, stops, strict=True)]


def _write(folder: Path, size: EncoderSize, vocabulary: int) -> None:
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    named = {f"{name.strip('[]').lower()}_token": name for name in SPECIALS}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(vocabulary), **named)
    tokenizer.save_pretrained(folder)


def _tokenizer(vocabulary: int) -> Tokenizer:
    words, pieces = _words(vocabulary)
    entries = [*SPECIALS, *words, *(f"##{piece}" for piece in pieces)]
    numbers = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))  # noqa: S106 - of text
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIALS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _words(vocabulary: int) -> tuple[list[str], list[str]]:
    """Return whole words of five letters, and endings of three."""
    count = vocabulary - len(SPECIALS)
    endings = min(int(PIECES_SHARE * count), 26**3)
    return list(_codes(count - endings, 5)), list(_codes(endings, 3))


def _codes(count: int, letters: int) -> Iterator[str]:
    every = itertools.product(string.ascii_lowercase, repeat=letters)
    return itertools.islice(map("".join, every), count)
