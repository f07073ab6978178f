"""LMDB files of pictures, written as the authors' scripts write them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)


class LMDB_Image:  # noqa: N801 - the authors' name of it
    """What their scripts pickle, with the same attributes in the same order."""

    def __init__(self, image: NDArray[np.uint8], item: object) -> None:
        self.channels = image.shape[2]
        self.size: Any = image.shape[:2]
        self.image = image.tobytes()
        self.id = item


def pickled(
    item: object = "v1", pixels: NDArray[np.uint8] = PIXELS, protocol: int | None = None
) -> bytes:
    """One value."""
    return pickle.dumps(LMDB_Image(pixels, item), protocol)


def written(path: Path, values: Mapping[str, bytes], *, folder: bool = False) -> Path:
    """Write values by key: into a file, or into a folder if it was there before."""
    if folder:
        path.mkdir()
    with (
        lmdb.open(str(path), subdir=folder, map_size=2**24) as environment,
        environment.begin(write=True) as writing,
    ):
        for key, value in values.items():
            writing.put(key.encode("ascii"), value)
        writing.put(b"__keys__", pickle.dumps([key.encode("ascii") for key in values]))
        writing.put(b"__len__", pickle.dumps(len(values)))
    return path
