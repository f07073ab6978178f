"""Items to vectors: the one way in which trainer and server embed, so that their numbers are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from transrec.adapters import Adapter
from transrec.backbone import Backbone, resolve_dtype
from transrec.content import Content
from transrec.inputs import batches
from transrec.progress import OnProgress

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
    items = [Content(item) if isinstance(item, str) else item for item in contents]
    distinct = list(dict.fromkeys(items))
    vectors = np.empty((len(distinct), backbone.config.width), dtype=np.float32)
    done = 0
    for places, found in embed_batches(backbone, distinct, adapter, dtype=dtype):
        vectors[places] = found
        done += len(places)
        if progress is not None:
            progress(done, len(distinct))
    place = {content: number for number, content in enumerate(distinct)}
    return vectors[np.fromiter((place[content] for content in items), np.int64, len(items))]


def embed_batches(
    backbone: Backbone, distinct: Sequence[Content], adapter: Adapter | None = None, *, dtype: str = "auto"
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Embed distinct contents batch by batch; yields places [b] and vectors float32 [b, d].

    Batches hold items of one length, so that no pad is computed. On the CPU each batch runs on one thread and the
    batches run side by side: bfloat16 kernels round differently with the number of threads, and a vector must not
    depend on the machine that the trainer or the server happens to have. Pictures are decoded there, too.
    """
    encoder = backbone.item_encoder(resolve_dtype(dtype, backbone.device))
    item_side = None if adapter is None else adapter.item.for_serving(encoder)
    # What runs after the encoder runs in float32, as the projection does.
    outside = None if adapter is None else adapter.item.like(backbone.model.item_encoder)
    inputs = backbone.inputs(distinct)

    def encode(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        with torch.inference_mode():
            pooled = encoder(inputs.load(places, backbone.device), item_side)
            return places, backbone.model.project(pooled.float(), outside).cpu().numpy()

    workers = torch.get_num_threads() if backbone.device.type == "cpu" else 1
    if workers == 1:
        yield from map(encode, batches(inputs))
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(encode, batches(inputs))
