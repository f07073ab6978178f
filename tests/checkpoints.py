"""Small saved checkpoints of the real architectures, as the transformers library writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

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
    """Save a random RoBERTa; its tokenizer is a WordPiece one:
    what differs from BERT is position and padding.
    """
    torch.manual_seed(1)
    return _save(RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)), folder)


def _save(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


VIT: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
PROCESSOR = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.25],
    "image_processor_type": "ViTImageProcessor",
}


def vit_checkpoint(folder: Path, **more: Any) -> Path:
    """Save a random ViT of three layers with its preprocessing."""
    return _save_vit(ViTModel(ViTConfig(**{**VIT, **more}), add_pooling_layer=False), folder)


def mae_checkpoint(folder: Path) -> Path:
    """Save a random ViTMAE; its config masks three
    quarters of the patches, as the published one does.
    """
    return _save_vit(ViTMAEModel(ViTMAEConfig(**VIT, mask_ratio=0.75)), folder)


def _save_vit(model: PreTrainedModel, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    # Positions and norms too: as drawn they would hide mistakes.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.2 * torch.randn(
                parameter.shape, generator=generator
            )
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), "utf-8")
    return folder


def timm_checkpoint(folder: Path, name: str = "vit_tiny_patch16_224", **more: Any) -> Path:
    """Save a random Vision Transformer of timm."""
    arguments = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 3,
        "num_heads": 4,
        **more,
    }
    model = timm.create_model(name, num_classes=0, **arguments)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=generator)
    save_for_hf(
        model, str(folder), safe_serialization=True, model_args={"num_classes": 0, **arguments}
    )
    return folder
