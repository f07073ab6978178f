"""Modules without weights: names and sizes are known, nothing is drawn and nothing allocated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DRAWS = (Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_)


class _Undrawn(TorchFunctionMode):
    """Leaves weights as they are: on the meta device
    torch draws them in Python, slower than real ones.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def undrawn() -> Iterator[None]:
    """Build modules on the meta device:
    `load_state_dict(…, assign=True)` gives them their weights.
    """
    with torch.device("meta"), _Undrawn():
        yield
