"""Where and in what dtype a network computes, if `auto` leaves the choice."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Dtype = Literal["float32", "bfloat16"]
TORCH_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> str:
    """`auto` is CUDA where torch finds one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(dtype: str, device: torch.device | str) -> Dtype:
    """`auto` is bfloat16 on CUDA and on CPUs with AMX, else float32.

    Raises:
        ValueError: another name.
    """
    if dtype in get_args(Dtype):
        return dtype  # type: ignore[return-value]
    if dtype != "auto":
        raise ValueError(f"dtype {dtype!r}: expected auto, float32 or bfloat16")
    fast = torch.device(device).type == "cuda" or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - the one name torch has for it
    return "bfloat16" if fast else "float32"
