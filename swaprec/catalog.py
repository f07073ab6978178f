"""A data set's items as the service takes them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from training.data import Dataset
from transrec.content import BETWEEN, Content

_OWN = ("item_id", "title", "text", "category", "timestamp", "image")


def catalog_items(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield a data set's catalog: what the trainer embedded,
    metadata, and the training log's popularity.
    """
    train = dataset.split().train
    counts = np.bincount(np.concatenate(train), minlength=len(dataset.contents))
    for row, (item, content) in enumerate(
        zip(dataset.items.iter_rows(named=True), dataset.contents, strict=True)
    ):
        attributes = {
            name: value for name, value in item.items() if name not in _OWN and value is not None
        }
        # Where the trainer read no text the title must not be read either: it is metadata then.
        if not content.text:
            attributes["title"] = item["title"]
        yield {
            "item_id": item["item_id"],
            **({"title": item["title"]} if content.text else {}),
            **_embedded(content),
            "popularity": float(counts[row]),
            "attributes": attributes,
            **({"category": item["category"]} if item.get("category") else {}),
        }


def _embedded(content: Content) -> dict[str, Any]:
    attributes = content.text.split(BETWEEN)
    text: dict[str, Any] = (
        {"text": attributes if len(attributes) > 1 else content.text} if content.text else {}
    )
    if content.image is None:
        return text
    return text | {"image_b64": base64.b64encode(content.image.read()).decode()}
