"""Items to vectors: the one way in which trainer and server embed,
so that their numbers are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transrec.adapters import Adapter, unchanged
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.devices import resolve_dtype
from transrec.gpu import is_fast
from transrec.inputs import TextInputs, any_batches, batches
from transrec.progress import OnProgress
from transrec.text_encoder import Tokens

PACKED_TOKENS = 40_960
"""Tokens of a packed batch, at most: an H200 reaches its best at 16,384."""
PACKED_TEXTS = 2048
"""Texts that are tokenized at a time; titles of these make one batch."""
BATCHES_AHEAD = 4
"""So many batches are tokenized ahead,
and so many may run before the first one's vectors are waited for.
"""


Vectors = NDArray[np.float32]


def embed(
    backbone: Backbone,
    contents: Sequence[str | Content],
    adapter: Adapter | None = None,
    *,
    dtype: str = "auto",
    progress: OnProgress | None = None,
) -> Vectors:
    """Embed items, given as texts or contents, to float32 [n, d].

    A content that occurs twice is encoded once: equal contents have bitwise equal vectors.

    Raises:
        ValueError: a dtype other than auto, float32, bfloat16.
        ImageError: a picture is damaged.
    """
    number: dict[Content, int] = {}
    items = (Content(item) if isinstance(item, str) else item for item in contents)
    places = np.fromiter(
        (number.setdefault(item, len(number)) for item in items), np.int64, len(contents)
    )
    vectors = np.empty((len(number), backbone.config.width), dtype=np.float32)
    done = 0
    for some, found in embed_batches(backbone, list(number), adapter, dtype=dtype):
        vectors[some] = found
        done += len(some)
        if progress is not None:
            progress(done, len(number))
    return vectors[places]


def embed_batches(
    backbone: Backbone,
    distinct: Sequence[Content],
    adapter: Adapter | None = None,
    *,
    dtype: str = "auto",
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Embed distinct contents batch by batch; yields places [b] and vectors float32 [b, d].

    Batches hold items of one length, so that no pad is computed. On the CPU each batch runs on one
    thread and the batches run side by side: bfloat16 kernels round differently with the number of
    threads, and a vector must not depend on the machine that the trainer or the server happens to
    have. Pictures are decoded there, too.

    With `SWAPREC_GPU_FAST=1` a GPU gets texts packed, see `transrec.packing`, and is kept busy: the
    next texts are tokenized, and the last vectors fetched, while it computes.
    """
    encoder = backbone.item_encoder(resolve_dtype(dtype, backbone.device))
    item_side = None if adapter is None else adapter.item.for_serving(encoder)
    # What runs after the encoder runs in float32, as the projection does.
    outside = None if adapter is None else adapter.item.like(backbone.model.item_encoder)

    def run(batch: Any) -> Tensor:
        with torch.inference_mode():
            return backbone.model.project(encoder(batch, item_side).float(), outside)

    if is_fast(backbone.device) and backbone.reads_one_text and (item_side or unchanged).packs:
        yield from embed_packed(backbone, distinct, run)
        return
    inputs = backbone.inputs(distinct)

    def encode(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        return places, run(inputs.load(places, backbone.device)).cpu().numpy()

    workers = torch.get_num_threads() if backbone.device.type == "cpu" else 1
    if workers == 1:
        yield from map(encode, batches(inputs))
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(encode, batches(inputs))


def embed_packed(
    backbone: Backbone, distinct: Sequence[Content], run: Callable[[Tokens], Tensor]
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Embed texts in packed batches by `run`; yields places [b] and vectors float32 [b, d].

    The device never waits for this process: texts are tokenized ahead in a thread, and the vectors
    of a batch are copied while the next ones are computed.
    """
    running: deque[tuple[NDArray[np.int64], Fetched]] = deque()
    with ThreadPoolExecutor(1) as tokenizer:
        tokenized = _ahead(
            tokenizer, lambda start: _tokenize(backbone, distinct, start), len(distinct)
        )
        for start, inputs in tokenized:
            for places in any_batches(inputs, PACKED_TOKENS):
                running.append(
                    (start + places, Fetched(run(inputs.packed(places, backbone.device))))
                )
                if len(running) > BATCHES_AHEAD:
                    yield _fetch(running)
    while running:
        yield _fetch(running)


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[int], TextInputs], count: int
) -> Iterator[tuple[int, TextInputs]]:
    """Yield the texts from each start on; those behind are read meanwhile."""
    starts = range(0, count, PACKED_TEXTS)
    reading = deque(pool.submit(read, start) for start in starts[:BATCHES_AHEAD])
    for number, start in enumerate(starts):
        inputs = reading.popleft().result()
        if number + BATCHES_AHEAD < len(starts):
            reading.append(pool.submit(read, starts[number + BATCHES_AHEAD]))
        yield start, inputs


def _tokenize(backbone: Backbone, distinct: Sequence[Content], start: int) -> TextInputs:
    return TextInputs(
        backbone.tokenize([content.text for content in distinct[start : start + PACKED_TEXTS]])
    )


def _fetch(running: deque[tuple[NDArray[np.int64], Fetched]]) -> tuple[NDArray[np.int64], Vectors]:
    places, fetched = running.popleft()
    return places, fetched.numpy()


class Fetched:
    """A tensor on its way to the CPU's memory."""

    def __init__(self, tensor: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._host = tensor
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def numpy(self) -> Vectors:
        """Wait for it, and return it."""
        if self._copied is not None:
            self._copied.synchronize()
        # A copy, since pinned memory is dear.
        return self._host.numpy().copy()
