"""Attention as every encoder runs it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

GPU_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""All but cuDNN's, which plans anew for every shape of a batch:
on an H200 that took most of a training step.
"""


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attend under a mask; q, k and v are [n, heads, T, H/heads]."""
    if not q.is_cuda or q.dtype == torch.float32:  # cuDNN has no float32
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with sdpa_kernel(GPU_BACKENDS):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
