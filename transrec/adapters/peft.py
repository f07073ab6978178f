"""LoRA checkpoints of the peft library as the item side of an adapter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from transrec.adapters.spec import SideSpec
from transrec.adapters.weights import UPDATED

_NAME = re.compile(
    r"(?:.*\.)?(?:encoder\.)?layers?\.(\d+)\.attention\.(?:self\.|attention\.)?(\w+)\.lora_([AB])(?:\.default)?\.weight"
)
_OURS = {"query": "query", "value": "value", "q_proj": "query", "v_proj": "value"}
"""The linears of BERT, RoBERTa and ViT, as the transformers library has named them over time."""

# What changes the update beyond `scale · B A`, with the value that leaves it alone.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}


class PeftError(ValueError):
    """A checkpoint that is no LoRA of query and value; `problems` lists everything that stands against it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def from_peft(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[SideSpec, dict[str, Tensor]]:
    """Return the spec of an item side and its tensors, named `item.0.query.a`.

    Where only one of query and value was trained the other's update is zero, which is exact.

    Args:
        config: the content of `adapter_config.json`.
        tensors: the content of `adapter_model.safetensors`.

    Raises:
        PeftError: with every problem.
    """
    problems = _problems(config)
    found: dict[tuple[int, str, str], Tensor] = {}
    strange: dict[str, None] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in _OURS:
            strange[re.sub(r"\.\d+\.", ".*.", name)] = None
        else:
            found[int(match[1]), _OURS[match[2]], match[3].lower()] = tensor.float()
    expected = f"expected LoRA weights of {' and '.join(UPDATED)} of a BERT, RoBERTa or ViT only"
    problems += [f"{name}: {expected}" for name in strange]
    halves = {(layer, name) for layer, name, _ in found}
    problems += [
        f"layer {layer}, {name}: one of lora_A and lora_B is missing"
        for layer, name in sorted(halves)
        if (layer, name, "a") not in found or (layer, name, "b") not in found
    ]
    if not found and not problems:
        problems.append("it holds no tensors")
    if problems:
        raise PeftError(problems)
    return _side(config, found)


def _problems(config: Mapping[str, Any]) -> list[str]:
    if config.get("peft_type") != "LORA":
        return [f"peft_type {config.get('peft_type')!r}: expected LORA"]
    return [
        f"{key} {config[key]!r}: expected {plain[0]!r}"
        for key, plain in _PLAIN.items()
        if key in config and config[key] not in plain
    ]


def _side(
    config: Mapping[str, Any], found: Mapping[tuple[int, str, str], Tensor]
) -> tuple[SideSpec, dict[str, Tensor]]:
    layers = tuple(sorted({layer for layer, _, _ in found}))
    some = next(tensor for (_, _, half), tensor in found.items() if half == "a")
    rank, width = some.shape
    alpha = float(config["lora_alpha"])
    if config.get("use_rslora"):  # its scale is alpha / √r
        alpha *= math.sqrt(rank)
    empty = {"a": torch.zeros(rank, width), "b": torch.zeros(width, rank)}
    tensors = {
        f"item.{layer}.{name}.{half}": found.get((layer, name, half), empty[half])
        for layer in layers
        for name in UPDATED
        for half in ("a", "b")
    }
    return SideSpec("lora", hidden=rank, alpha=alpha, layers=layers), tensors
