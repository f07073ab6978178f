"""Histories as rows: truncate to the newest, pad on the left. One place for trainer and server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pad_left(
    rows: Sequence[NDArray[np.int64] | Sequence[int]], length: int, fill: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lay histories of any length, oldest first, into a left-padded table.

    The newest `length` entries are kept, the newest always in the last column.

    Returns:
        values: int64 [B, length], `fill` where there is no item.
        mask: bool [B, length], True at real items.
    """
    values = np.full((len(rows), length), fill, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.bool_)
    for table_row, mask_row, row in zip(values, mask, rows, strict=True):
        kept = min(len(row), length)
        if kept:
            table_row[-kept:] = row[-kept:]
            mask_row[-kept:] = True
    return values, mask
