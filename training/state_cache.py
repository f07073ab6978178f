"""What is known of each item before its first trained weight, computed once and cached on disk.

Pictures of an encoder that trains are cached as pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters_store.files import atomic_file
from training.states import InputStates, ItemStates, PairStates, PooledStates, PrefixStates
from transrec.adapters import EVERYTHING, Paired, Reach, SideAdapter
from transrec.arrays import Integers
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import resolve_dtype
from transrec.gpu import is_fast
from transrec.inputs import BATCH_TOKENS, AttributeInputs, ImageInputs, Inputs, PairInputs, batches
from transrec.item_encoder import ItemEncoder
from transrec.pair_encoder import PairEncoder
from transrec.progress import OnProgress

TABLE_SHARE = 0.5
"""So much of a GPU's free memory a table of token states may take."""
GPU_BATCH_TOKENS = 16_384
"""Tokens of a batch where a GPU computes states: half as many do not fill an H200."""


class KeptPixels:
    """Pictures decoded once, uint8 `[n, 3, S, S]` in a memory-mapped file."""

    def __init__(
        self,
        inputs: ImageInputs,
        has: NDArray[np.bool_],
        cache: Path,
        on_progress: OnProgress | None,
    ) -> None:
        self.groups = inputs.groups
        self.tokens = inputs.tokens
        path = cache / f"{_digest(inputs.fingerprint())}.npy"
        if not path.is_file():
            size = inputs.shape.preprocessing.size
            rows = np.flatnonzero(has)
            with _new_table(path, (len(has), 3, size, size), "uint8") as table:
                for done, row in enumerate(rows, 1):
                    table[row] = inputs.pixels(int(row))
                    if on_progress is not None and (done % 100 == 0 or done == len(rows)):
                        on_progress(done, len(rows))
        self._table = np.load(path, mmap_mode="r")

    def load(self, places: Integers, device: torch.device | str) -> Tensor:
        """Return pixels, uint8 [b, 3, S, S]."""
        return torch.from_numpy(self._table[places]).to(device)


def item_states(
    backbone: Backbone,
    contents: Sequence[Content],
    adapter: SideAdapter | Paired | None,
    cache: Path,
    *,
    trains_encoder: bool = False,
    keep: str = "float16",
    dtype: str = "auto",
    progress: OnProgress | None = None,
) -> ItemStates:
    """Compute, or find in the cache, what lies below the reach of an item-side adapter (None:
    nothing is adapted).

    Args:
        backbone: frozen.
        contents: of the catalog.
        adapter: the item side.
        cache: folder for memory-mapped files, keyed by encoder, layer and content.
        trains_encoder: nothing of it is frozen.
        keep: `float16` halves the file; `float32` is exact.
        dtype: in which the frozen layers run.
        progress: called with (items done, items in all).
    """
    kind = resolve_dtype(dtype, backbone.device)
    fast = backbone.item_encoder(kind)
    exact = backbone.model.item_encoder
    inputs = backbone.inputs(contents)
    kept = Kept(cache, keep, kind, trains_encoder, progress)
    if isinstance(inputs, PairInputs):
        assert isinstance(exact, PairEncoder)  # noqa: S101 - its inputs are pairs
        assert isinstance(fast, PairEncoder)  # noqa: S101 - a copy of it
        text, image = (adapter.text, adapter.image) if isinstance(adapter, Paired) else (None, None)
        sides = (
            kept.states(exact.text, fast.text, inputs.text, inputs.has_text, text),
            kept.states(exact.image, fast.image, inputs.image, inputs.has_image, image),
        )
        return PairStates(exact, inputs, sides)
    assert not isinstance(exact, PairEncoder)  # noqa: S101 - its inputs are no pairs
    assert not isinstance(fast, PairEncoder)  # noqa: S101 - a copy of it
    assert not isinstance(adapter, Paired)  # noqa: S101 - it fits the backbone
    return kept.states(exact, fast, inputs, np.ones(len(contents), np.bool_), adapter)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where and how states are kept."""

    cache: Path
    keep: str
    dtype: str
    trains_encoder: bool
    on_progress: OnProgress | None

    def states(
        self,
        encoder: ItemEncoder,
        fast: ItemEncoder,
        inputs: Inputs,
        has: NDArray[np.bool_],
        adapter: SideAdapter | None,
    ) -> ItemStates:
        """Return the states of one encoder, of the items that it reads."""
        reach = adapter.reach() if adapter is not None else None
        # No prefix is one text's alone.
        several = isinstance(inputs, AttributeInputs) and reach is not None
        if self.trains_encoder or several or reach == EVERYTHING:
            if isinstance(inputs, ImageInputs):
                return InputStates(encoder, KeptPixels(inputs, has, self.cache, self.on_progress))
            return InputStates(encoder, inputs)
        frozen = Frozen(
            encoder,
            fast,
            inputs,
            has,
            reach,
            adapter if adapter is not None and adapter.reads else None,
        )
        return frozen.states(self.cache, self.keep, self.dtype, self.on_progress)


@dataclass(frozen=True, slots=True)
class Frozen:
    """What of one encoder is frozen, for which items: below `reach`, or the states that `reads`
    leaves.

    `encoder` trains on; `fast` is the same in the dtype in which the frozen layers run.
    """

    encoder: ItemEncoder
    fast: ItemEncoder
    inputs: Inputs
    has: NDArray[np.bool_]
    reach: Reach | None
    reads: SideAdapter | None

    def states(
        self, cache: Path, keep: str, kind: str, on_progress: OnProgress | None
    ) -> ItemStates:
        """Find the states in the cache, or compute them."""
        lengths = self._lengths()
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        path = cache / f"{self._key(keep, kind)}.npy"
        if not path.is_file():
            shape = (int(starts[-1]), self._states_an_item(), self.encoder.width)
            with _new_table(path, shape, keep) as table:
                for rows, states in self._compute(on_progress):
                    for row, state in zip(rows, states, strict=True):
                        table[starts[row] : starts[row + 1]] = state
        stored: Tensor = torch.from_numpy(np.load(path, mmap_mode="c"))
        if self.reach is not None:
            device = self.encoder.norm.weight.device
            stored = stored.to(device) if _fits(stored, device) else stored
            return PrefixStates(self.encoder, self.reach, stored, starts)
        # On a CPU the file itself is the table: memory holds what batches ask for.
        stored = stored.to(self.encoder.norm.weight.device)
        return PooledStates(stored if self.reads else stored[:, 0], starts)

    def _lengths(self) -> Integers:
        """How many token states of each item are kept:
        one where only the pooled position matters.
        """
        top = len(self.encoder.blocks) - 1
        one = self.reach is None or (self.encoder.reads_one and self.reach == Reach(top))
        return np.where(self.has, 1 if one else self.inputs.tokens, 0)

    def _states_an_item(self) -> int:
        if self.reach is not None:
            return 2 if self.reach.attention else 1
        return self.reads.leaves if self.reads else 1

    @torch.inference_mode()
    def _compute(
        self, on_progress: OnProgress | None
    ) -> Iterator[tuple[Integers, NDArray[np.float32]]]:
        """Yield rows [b] and their states [b, T, S, H]; T is 1 where no state is reached."""
        wanted = np.flatnonzero(self.has)
        done = 0
        device = self.encoder.norm.weight.device
        for rows in batches(
            self.inputs, wanted, GPU_BATCH_TOKENS if is_fast(device) else BATCH_TOKENS
        ):
            batch = self.inputs.load(rows, device)
            if self.reach is None:
                pooled = self.fast(batch, self.reads)
                states = pooled[:, None] if self.reads else pooled[:, None, None]
            else:
                prefix = self.fast.prefix(batch, self.reach.layer, attention=self.reach.attention)
                states = torch.stack([prefix.x] if prefix.h is None else [prefix.x, prefix.h], 2)
            yield rows, states.float().cpu().numpy()
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(wanted))

    def _key(self, keep: str, kind: str) -> str:
        reads = sorted(self.reads.reads) if self.reads else ()
        total = hashlib.sha256(
            f"{self.encoder.reads_one} {self.reach} {reads} {keep} {kind}".encode()
        )
        for name, value in self.encoder.state_dict().items():
            total.update(name.encode())
            total.update(value.cpu().numpy().tobytes())
        total.update(self.has.tobytes())
        return _digest(total.digest() + self.inputs.fingerprint())


@contextmanager
def _new_table(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[NDArray[Any]]:
    """Make a memory-mapped file that is there only once it is whole."""
    with atomic_file(path, sync=False) as part:
        table = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        yield table
        table.flush()


def _fits(table: Tensor, device: torch.device) -> bool:
    """Whether a GPU holds a table beside what training needs;
    elsewhere tables stay mapped files.
    """
    if not is_fast(device):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return table.nbytes <= TABLE_SHARE * free


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:32]
