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
    r"(?:.*\.)?(?:encoder\.)?layers?\.(\d{1,4})\.attention\.(?:self\.|attention\.)?(\w+)\.lora_([AB])(?:\.default)?\.weight"
)
_OURS = {"query": "query", "value": "value", "q_proj": "query", "v_proj": "value"}
"""The linears of BERT, RoBERTa and ViT, as the transformers library has named them over time."""

_KEPT_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the pretrained weights as they are; whatever else there is may not."""

# Settings that change the update beyond `scale · B A`, with the values that leave it alone.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}

# Settings that say nothing about the update, or that the tensors' names and shapes say, too.
_SILENT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_NAMED = 10
_MAX_SHOWN = 80
_MAX_RANK = 65_536


class PeftError(ValueError):
    """A checkpoint that is no LoRA of query and value;
    `problems` lists everything that stands against it.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def from_peft(config: object, tensors: Mapping[str, Tensor]) -> tuple[SideSpec, dict[str, Tensor]]:
    """Return the spec of an item side and its tensors, named `item.0.query.a`.

    Where only one of query and value was trained the other's update is zero, which is exact.

    Args:
        config: the content of `adapter_config.json`.
        tensors: the content of `adapter_model.safetensors`.

    Raises:
        PeftError: with every problem.
    """
    problems = _problems(config)
    named, strange = _named(tensors)
    problems += strange
    rank = _rank(config)
    for names in named.values():
        problems += _misshapen(names[0], tensors[names[0]], rank)
    problems += _twice(named)
    problems += _halves(named)
    if not named and not problems:
        problems.append("it holds no tensors")
    if problems or not isinstance(config, Mapping):
        raise PeftError(_bounded(problems))
    return _side(config, {key: tensors[names[0]].float() for key, names in named.items()})


_Key = tuple[int, str, str]
"""Layer, query or value, and which half of the update."""


def _named(tensors: Mapping[str, Tensor]) -> tuple[dict[_Key, list[str]], list[str]]:
    """Return the names of tensors by what they are,
    and the problems of those that are something else.
    """
    named: dict[_Key, list[str]] = {}
    strange: dict[str, None] = {}
    for name in tensors:
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in _OURS:
            strange[re.sub(r"\.\d+\.", ".*.", name)] = None
        else:
            named.setdefault((int(match[1]), _OURS[match[2]], match[3].lower()), []).append(name)
    expected = f"expected LoRA weights of {' and '.join(UPDATED)} of a BERT, RoBERTa or ViT only"
    return named, [f"{name[:_MAX_SHOWN]}: {expected}" for name in strange]


def _twice(named: Mapping[_Key, list[str]]) -> list[str]:
    """Name tensors that would be one: two towers of a model, or two adapters."""
    return [
        f"{' and '.join(names)} are the same layer of two towers or adapters: import a checkpoint"
        " of one"
        for names in named.values()
        if len(names) > 1
    ]


def _halves(named: Mapping[_Key, list[str]]) -> list[str]:
    return [
        f"layer {layer}, {name}: one of lora_A and lora_B is missing"
        for layer, name in sorted({(layer, name) for layer, name, _ in named})
        if (layer, name, "a") not in named or (layer, name, "b") not in named
    ]


def _misshapen(name: str, tensor: Tensor, rank: int | None) -> list[str]:
    """Return the problems of a half: A is [r, width], B [width, r], of finite floats."""
    problems = []
    if tensor.dtype not in _FLOATS:
        problems.append(
            f"{name}: {str(tensor.dtype).removeprefix('torch.')}, expected floats of 16, 32 or 64"
            " bits"
        )
    elif not bool(torch.isfinite(tensor).all()):
        problems.append(f"{name}: holds values that are not finite")
    place = 0 if ".lora_A." in name else 1
    shape = list(tensor.shape)
    if len(shape) != 2 or 0 in shape or (rank is not None and shape[place] != rank):  # noqa: PLR2004 - a matrix
        form = f"[{rank or 'r'}, width]" if place == 0 else f"[width, {rank or 'r'}]"
        problems.append(f"{name}: shape {shape}, expected {form}")
    return problems


def _problems(config: object) -> list[str]:
    """Return the problems of a config."""
    if not isinstance(config, Mapping):
        return [f"adapter_config.json: expected an object of settings, got {_shown(config)}"]
    if config.get("peft_type") != "LORA":
        return [f"peft_type {_shown(config.get('peft_type'))}: expected LORA"]
    problems = [
        f"{key} {_shown(config[key])}: expected {plain[0]!r}"
        for key, plain in _PLAIN.items()
        if key in config and not _is_one_of(config[key], plain)
    ]
    problems += _initialised(config.get("init_lora_weights", True))
    problems += [
        f"{key} {_shown(value)}: it changes the output"
        for key, value in config.items()
        if _is_more(key, value)
    ]
    if _rank(config) is None:
        problems.append(f"r {_given(config, 'r')}: expected a whole number from 1 to {_MAX_RANK}")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < _MAX_RANK:
        problems.append(
            f"lora_alpha {_given(config, 'lora_alpha')}: expected a positive number under"
            f" {_MAX_RANK}"
        )
    if not _is_one_of(config.get("use_rslora"), (True, False, None)):
        problems.append(f"use_rslora {_shown(config['use_rslora'])}: expected true or false")
    return problems


def _initialised(how: object) -> list[str]:
    if _is_one_of(how.lower() if isinstance(how, str) else how, _KEPT_BASE):
        return []
    changed = (
        f"init_lora_weights {_shown(how)}: PiSSA, OLoRA, CorDA, LoftQ and their like change the"
        " pretrained weights, so that this update does not fit them; convert it to plain LoRA"
        " where it was trained, with save_pretrained(folder,"
        " path_initial_model_for_weight_conversion=…) of peft (not for LoftQ: train that anew)"
    )
    return [changed]


def _is_more(key: object, value: object) -> bool:
    """Return whether a setting that is not listed here is in use;
    of later releases of peft, for example.
    """
    return (
        key not in _PLAIN
        and key not in _SILENT
        and value not in (None, False, 0, "", "none", [], {})
    )


def _is_one_of(value: object, allowed: tuple[Any, ...]) -> bool:
    """Compare with the types: 0 is not False, and 1 is not True."""
    return any(type(value) is type(one) and value == one for one in allowed)


def _rank(config: object) -> int | None:
    rank = config.get("r") if isinstance(config, Mapping) else None
    return rank if type(rank) is int and 0 < rank <= _MAX_RANK else None


def _given(config: Mapping[str, Any], key: str) -> str:
    return _shown(config[key]) if key in config else "is missing"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _bounded(problems: list[str]) -> list[str]:
    more = len(problems) - MAX_NAMED
    return problems if more <= 0 else [*problems[:MAX_NAMED], f"and {more} problems more"]


def _side(
    config: Mapping[str, Any], found: Mapping[_Key, Tensor]
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
