"""Tiny real models for tests: 2 layers, width 16, a real WordPiece tokenizer, no downloads."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapters_store.bundle import Manifest, write_bundle
from transrec.adapters import Adapter, AdapterSpec
from transrec.backbone import Backbone
from transrec.backbone_config import BackboneConfig, build
from transrec.content import Content, Picture
from transrec.image_encoder import ImageShape
from transrec.images import Preprocessing
from transrec.item_encoder import Pooling
from transrec.seam import Modality
from transrec.text_encoder import Architecture, TextShape
from transrec.user_encoder import UserShape

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (
    *SPECIALS,
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    "the",
    "film",
    "news",
    "storm",
    "violin",
    "oslo",
)

SPEC = AdapterSpec.parse(
    {"item": {"kind": "houlsby", "hidden": 8}, "user": {"kind": "houlsby", "hidden": 4}}
)

TINY_KINDS: dict[str, dict[str, Any]] = {
    "houlsby": {"hidden": 8},
    "houlsby_parallel": {"hidden": 8},
    "pfeiffer": {"hidden": 8},
    "compacter": {"hidden": 8},
    "k_adapter": {"hidden": 8, "heads": 2},
    "lora": {"hidden": 4},
    "prompt": {"tokens": 3},
    "prefix": {"tokens": 3},
    "bitfit": {},
    "layer_norm": {},
    "side": {"hidden": 8},
    "whole": {},
}
"""Every kind that trains, in a size that fits the tiny models."""

ITEM_ONLY = ("prompt", "side")
USER_ONLY = ("whole",)


class UserSizes(TypedDict, total=False):
    """Sizes of a user encoder that a test chooses."""

    width: int
    history: int
    heads: int
    blocks: int
    dropout: float


class TinyConfig(UserSizes, total=False):
    """What a test chooses of a tiny backbone."""

    architecture: Architecture
    pooling: Pooling
    modalities: Sequence[Modality]


def tiny_spec(kind: str, **more: Any) -> AdapterSpec:
    """A kind on both sides, beside houlsby where it is one for one side only."""
    side = {"kind": kind, **TINY_KINDS[kind], **more}
    item = {"kind": "houlsby", "hidden": 8} if kind in USER_ONLY else side
    return AdapterSpec.parse(
        {"item": item, "user": {"kind": "houlsby", "hidden": 4} if kind in ITEM_ONLY else side}
    )


def tiny_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer over letters and a few words."""
    tokenizer = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token=SPECIALS[1])
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    return tokenizer


def tiny_config(
    architecture: Architecture = "bert",
    pooling: Pooling = "cls",
    modalities: Sequence[Modality] = ("text",),
    **user: Unpack[UserSizes],
) -> BackboneConfig:
    text = TextShape(
        architecture=architecture,
        layers=2,
        hidden=16,
        heads=2,
        intermediate=32,
        vocabulary=len(WORDS),
        positions=40,
        token_types=2,
        norm_eps=1e-12,
        pad_id=0,
    )
    sizes: UserSizes = {"width": 16, "history": 6, **user}
    image = ImageShape(
        2,
        24,
        2,
        32,
        patch=8,
        first=1,
        norm_eps=1e-6,
        preprocessing=Preprocessing(size=16, resize=16),
    )
    return BackboneConfig(
        text if "text" in modalities else None,
        UserShape(**sizes),
        pooling,
        max_tokens=12,
        image=image if "image" in modalities else None,
        image_pooling=pooling,
    )


def tiny_backbone(
    folder: Path | None = None, seed: int = 0, **config: Unpack[TinyConfig]
) -> Backbone:
    """A random TransRec; saved to `folder`, and so with a fingerprint, when one is given."""
    made = tiny_config(**config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Backbone(made, build(made), tiny_tokenizer() if made.text else None)
    if folder is not None:
        backbone.save(folder)
    return backbone


def tiny_adapter(
    backbone: Backbone, seed: int = 0, spec: AdapterSpec = SPEC, scale: float = 0.3
) -> Adapter:
    """A frozen adapter with weights large enough to change the answers."""
    adapter = Adapter.create(spec, backbone.shape, seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(t.shape, generator=generator) * scale
        for name, t in adapter.to_tensors().items()
    }
    return Adapter.from_tensors(spec, backbone.shape, tensors)


def tiny_texts(count: int) -> list[str]:
    """Distinct item texts of different lengths."""
    return [f"film {'the ' * (n % 4)}{n}" for n in range(count)]


def tiny_picture(number: int, size: tuple[int, int] = (20, 16)) -> bytes:
    """A PNG of noise, another one for each number."""
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def tiny_contents(count: int, modalities: Sequence[Modality] = ("text",)) -> list[Content]:
    """Distinct contents; of a pair every third item has no text, and every sixth no picture."""
    pair = len(modalities) > 1
    contents = []
    for number, text in enumerate(tiny_texts(count)):
        reads_text = "text" in modalities and not (pair and number % 3 == 1)
        reads_image = "image" in modalities and not (pair and number % 6 == 2)
        image = Picture.of(tiny_picture(number)) if reads_image else None
        contents.append(Content(text if reads_text else "", image))
    return contents


def tiny_bundle(
    path: Path, backbone: Backbone, domain: str, adapter: Adapter, **manifest: Any
) -> Path:
    """Write an adapter as a bundle of a domain."""
    facts = {
        "kind": adapter.spec.kind,
        "spec": adapter.spec.to_json(),
        "dtype": "float32",
        **manifest,
    }
    tensors = {name: tensor.numpy() for name, tensor in adapter.to_tensors().items()}
    write_bundle(path, Manifest(domain=domain, backbone=backbone.fingerprint, **facts), tensors)
    return path
