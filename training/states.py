"""What is known of each item before its first trained weight, computed once and cached on disk.

Whatever lies below the reach of an adapter never changes during a run. Where it reaches no state that is the pooled
output, or what a `side` tower reads; below a houlsby adapter it is the input of the first adapted block and the output
of that block's attention (the adapter sits after it); below a lora adapter, which changes the attention, the input
alone. A run then pays for the layers above only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transrec.adapters import EVERYTHING, Adapt, Reach, SideAdapter
from transrec.backbone import Backbone, resolve_dtype
from transrec.embed import length_batches
from transrec.text_encoder import FrozenPrefix, Tokens

BUCKET_TOKENS = 4
"""Token lengths are rounded up to this in training batches: few groups, few pads."""

Progress = Callable[[int, int], None]


class ItemStates(Protocol):
    """Where training begins: rows of the catalog -> pooled encoder output, through whatever trains."""

    def pooled(self, rows: NDArray[np.int64], adapt: Adapt | None) -> Tensor:
        """Return [m, H], or [m, S, H] for a tower, for distinct `rows [m]`, differentiable in the adapter."""
        ...


@dataclass(frozen=True, slots=True)
class PooledStates:
    """The frozen encoder's pooled output [n, H], or the states [n, S, H] that a tower reads."""

    table: Tensor

    def pooled(self, rows: NDArray[np.int64], _adapt: Adapt | None) -> Tensor:
        """Look up."""
        return self.table[torch.from_numpy(rows)]


@dataclass(frozen=True, slots=True)
class PrefixStates:
    """Token states below an adapter's reach: `table [Σ T, 2, H]`, item i at `starts[i] : starts[i + 1]`.

    Where the attention of the first adapted block is adapted too, the table is `[Σ T, 1, H]`.
    """

    backbone: Backbone
    reach: Reach
    table: Tensor
    starts: NDArray[np.int64]

    def pooled(self, rows: NDArray[np.int64], adapt: Adapt | None) -> Tensor:
        """Run the layers from the first adapted one on, in buckets of similar length."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        encoder = self.backbone.model.item_encoder
        parts, places = [], []
        for chosen, width in length_buckets(lengths):
            prefix = self._gather(rows[chosen], lengths[chosen], width)
            parts.append(encoder.suffix(prefix, self.reach.layer, adapt))
            places.append(chosen)
        return _in_order(parts, places)

    def _gather(self, rows: NDArray[np.int64], lengths: NDArray[np.int64], width: int) -> FrozenPrefix:
        offsets = np.arange(width)
        real = offsets < lengths[:, None]
        index = self.starts[rows][:, None] + np.minimum(offsets, lengths[:, None] - 1)
        device = self.backbone.device
        states = self.table[torch.from_numpy(index)].to(device).float()  # [m, T, 2 or 1, H]
        mask = None if real.all() else torch.from_numpy(real).to(device)
        return FrozenPrefix(states[:, :, 0], states[:, :, 1] if self.reach.attention else None, mask)


@dataclass(frozen=True, slots=True)
class TokenStates:
    """Nothing is frozen: tokens run through the whole encoder."""

    backbone: Backbone
    tokens: list[list[int]]

    def pooled(self, rows: NDArray[np.int64], adapt: Adapt | None) -> Tensor:
        """Encode distinct items, in batches of one length."""
        parts, places = [], []
        for chosen, ids in length_batches([self.tokens[row] for row in rows]):
            parts.append(self.backbone.model.item_encoder(Tokens(ids.to(self.backbone.device)), adapt))
            places.append(chosen)
        return _in_order(parts, places)


def frozen_states(
    backbone: Backbone,
    texts: Sequence[str],
    adapter: SideAdapter | None,
    cache: Path,
    *,
    keep: str = "float16",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> ItemStates:
    """Compute, or find in the cache, what lies below the reach of an item-side adapter (None: nothing is adapted).

    Args:
        backbone: frozen.
        texts: of the catalog.
        adapter: the item side.
        cache: folder for the memory-mapped file, keyed by encoder, layer and content.
        keep: `float16` halves the file; `float32` is exact.
        dtype: in which the frozen layers run.
        progress: told (items done, items in all).
    """
    tokens = backbone.tokenize(texts)
    reach = adapter.reach() if adapter is not None else None
    if reach == EVERYTHING:
        return TokenStates(backbone, tokens)
    reads = adapter if adapter is not None and adapter.reads else None
    lengths = _lengths(backbone, tokens, reach)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    kind = resolve_dtype(dtype, backbone.device)
    key = _key(backbone, tokens, f"{reach} {sorted(reads.reads) if reads else ()} {keep} {kind}")
    path = cache / f"{key}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        shape = (int(starts[-1]), _states_an_item(reach, reads), backbone.config.text.hidden)
        table = np.lib.format.open_memmap(beside, mode="w+", dtype=keep, shape=shape)
        for rows, states in _frozen(backbone, tokens, reach, reads, kind, progress):
            for row, state in zip(rows, states, strict=True):
                table[starts[row] : starts[row + 1]] = state
        table.flush()
        beside.rename(path)
    stored = torch.from_numpy(np.load(path, mmap_mode="c"))
    if reach is not None:
        return PrefixStates(backbone, reach, stored, starts)
    pooled = stored.float().to(backbone.device)
    return PooledStates(pooled if reads else pooled[:, 0])


def _lengths(backbone: Backbone, tokens: list[list[int]], reach: Reach | None) -> NDArray[np.int64]:
    """How many token states of each item are kept: one where only the pooled position matters."""
    top = backbone.config.text.layers - 1
    one = reach is None or (backbone.config.pooling == "cls" and reach == Reach(top))
    return np.ones(len(tokens), np.int64) if one else np.array([len(row) for row in tokens], np.int64)


def _states_an_item(reach: Reach | None, reads: SideAdapter | None) -> int:
    if reach is not None:
        return 2 if reach.attention else 1
    return len(reads.reads) + 1 if reads else 1


@torch.inference_mode()
def _frozen(
    backbone: Backbone,
    tokens: list[list[int]],
    reach: Reach | None,
    reads: SideAdapter | None,
    kind: str,
    progress: Progress | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rows [b] and their states [b, T, S, H]; T is 1 where no state is reached."""
    encoder = backbone.item_encoder(resolve_dtype(kind, backbone.device))
    done = 0
    for rows, ids in length_batches(tokens):
        batch = Tokens(ids.to(backbone.device))
        if reach is None:
            pooled = encoder(batch, reads)
            states = pooled[:, None] if reads else pooled[:, None, None]
        else:
            prefix = encoder.prefix(batch, reach.layer, attention=reach.attention)
            states = torch.stack([prefix.x] if prefix.h is None else [prefix.x, prefix.h], 2)
        yield rows, states.float().cpu().numpy()
        done += len(rows)
        if progress is not None:
            progress(done, len(tokens))


def length_buckets(lengths: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield places of similar length and the width that holds them."""
    rounded = np.where(lengths == 1, 1, -(-lengths // BUCKET_TOKENS) * BUCKET_TOKENS)
    for width in np.unique(rounded):
        chosen = np.flatnonzero(rounded == width)
        yield chosen, int(lengths[chosen].max())


def _in_order(parts: list[Tensor], places: list[NDArray[np.int64]]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(np.concatenate(places), kind="stable")
    return torch.cat(parts).index_select(0, torch.from_numpy(back).to(parts[0].device))


def _key(backbone: Backbone, tokens: list[list[int]], rest: str) -> str:
    total = hashlib.sha256(f"{backbone.config.pooling} {rest}".encode())
    for name, value in backbone.model.item_encoder.state_dict().items():
        total.update(name.encode())
        total.update(value.cpu().numpy().tobytes())
    for row in tokens:
        total.update(np.array([len(row), *row], np.int32).tobytes())
    return total.hexdigest()[:32]
