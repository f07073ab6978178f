"""A canonical folder's items as the service takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from training.data import Dataset

_OWN = ("item_id", "title", "text", "category", "timestamp", "image")


def catalog_items(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield a data set's catalog: the text the trainer embedded, metadata, and the training log's popularity."""
    train = dataset.split().train
    counts = np.bincount(np.concatenate(train), minlength=len(dataset.texts))
    for row, (item, text) in enumerate(zip(dataset.items.iter_rows(named=True), dataset.texts, strict=True)):
        attributes = {name: value for name, value in item.items() if name not in _OWN and value is not None}
        yield {
            "item_id": item["item_id"],
            "title": item["title"],
            "text": text,
            "popularity": float(counts[row]),
            "attributes": attributes,
            **({"category": item["category"]} if item.get("category") else {}),
        }
