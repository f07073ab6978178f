"""Arrays in files, mapped."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from service.catalog.mapped import forget_pages, open_array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(4, 3),
        np.zeros((0, 3), np.float32),
        np.arange(5, dtype=np.int64),
    ],
)
def test_what_numpy_saved_is_mapped_and_is_still_there_when_its_pages_were_forgotten(
    array: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", array)
    mapped = open_array(tmp_path / "a.npy")
    assert (mapped.dtype, mapped.shape, mapped.flags.writeable) == (array.dtype, array.shape, False)
    forget_pages(mapped[1:])
    forget_pages(array)
    assert np.array_equal(mapped, array)


@pytest.mark.parametrize("cut", [9, 60, 150])
def test_a_file_that_is_cut_short_is_damaged(cut: int, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(100))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:cut])
    with pytest.raises(ValueError, match=r"damaged|expected|buffer|header|empty"):
        open_array(tmp_path / "a.npy")


def test_a_map_takes_no_descriptor_and_goes_with_the_last_array_over_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(100_000))

    def maps() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path / "a.npy"))

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    arrays = [open_array(tmp_path / "a.npy")[5:] for _ in range(20)]
    assert (maps(), len(list(Path("/proc/self/fd").iterdir()))) == (20, descriptors)
    (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    assert all(array[0] == 5 for array in arrays)
    (tmp_path / "b.npy").rename(tmp_path / "a.npy")
    del arrays
    gc.collect()
    assert maps() == 0
