"""Items to vectors: the one way in which trainer and server embed, so that their numbers are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from transrec.adapters import Adapter
from transrec.backbone import Backbone, resolve_dtype
from transrec.text_encoder import Tokens

BATCH_TOKENS = 4096

Progress = Callable[[int, int], None]
"""Told (items done, items in all) after each batch."""

Vectors = NDArray[np.float32]


def embed(
    backbone: Backbone,
    texts: Sequence[str],
    adapter: Adapter | None = None,
    *,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Vectors:
    """Embed item texts to float32 [n, d].

    A text that occurs twice is encoded once: equal contents have bitwise equal vectors.

    Raises:
        ValueError: a dtype other than auto, float32, bfloat16.
    """
    distinct = list(dict.fromkeys(texts))
    vectors = np.empty((len(distinct), backbone.config.width), dtype=np.float32)
    done = 0
    for places, found in embed_batches(backbone, distinct, adapter, dtype=dtype):
        vectors[places] = found
        done += len(places)
        if progress is not None:
            progress(done, len(distinct))
    return vectors[_places_of(texts, distinct)]


def embed_batches(
    backbone: Backbone, distinct: Sequence[str], adapter: Adapter | None = None, *, dtype: str = "auto"
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Embed distinct texts batch by batch; yields places [b] and vectors float32 [b, d].

    Batches hold texts of one token length, so that no pad is computed. On the CPU each batch runs on one thread and
    the batches run side by side: bfloat16 kernels round differently with the number of threads, and a vector must not
    depend on the machine that the trainer or the server happens to have.
    """
    encoder = backbone.item_encoder(resolve_dtype(dtype, backbone.device))
    item_side = None if adapter is None else adapter.item.for_serving(encoder)
    # What runs after the encoder runs in float32, as the projection does.
    outside = None if adapter is None else adapter.item.like(backbone.model.item_encoder)

    def encode(batch: tuple[NDArray[np.int64], torch.Tensor]) -> tuple[NDArray[np.int64], Vectors]:
        places, ids = batch
        with torch.inference_mode():
            pooled = encoder(Tokens(ids.to(backbone.device)), item_side)
            return places, backbone.model.project(pooled.float(), outside).cpu().numpy()

    batches = length_batches(backbone.tokenize(distinct))
    workers = torch.get_num_threads() if backbone.device.type == "cpu" else 1
    if workers == 1:
        yield from map(encode, batches)
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(encode, batches)


def length_batches(
    tokens: Sequence[Sequence[int]], budget: int = BATCH_TOKENS
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Group token lists of exactly one length into batches of at most `budget` tokens.

    Yields:
        places: int64 [b], positions in `tokens`; ids: int64 [b, T], never padded.
    """
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        size = max(1, budget // int(length))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            yield chunk, torch.tensor([tokens[place] for place in chunk], dtype=torch.int64)


def _places_of(texts: Sequence[str], distinct: Sequence[str]) -> NDArray[np.int64]:
    place = {text: number for number, text in enumerate(distinct)}
    return np.fromiter((place[text] for text in texts), dtype=np.int64, count=len(texts))
