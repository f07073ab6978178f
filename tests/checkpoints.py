"""Small saved checkpoints of the real architectures, as the transformers library writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, PreTrainedModel, RobertaConfig, RobertaModel

from tests.tiny import WORDS

SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def bert_checkpoint(folder: Path) -> Path:
    """Save a random BERT of three layers."""
    torch.manual_seed(0)
    return _save(BertModel(BertConfig(**SIZES)), folder)


def roberta_checkpoint(folder: Path) -> Path:
    """Save a random RoBERTa; its tokenizer is a WordPiece one: what differs from BERT is position and padding."""
    torch.manual_seed(1)
    return _save(RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)), folder)


def _save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
