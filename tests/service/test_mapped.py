"""Arrays in files, mapped."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from service.mapped import allow_many, forget_pages, most_maps, open_array


@pytest.mark.parametrize(
    "array", [np.arange(12, dtype=np.float32).reshape(4, 3), np.zeros((0, 3), np.float32), np.arange(5, dtype=np.int64)]
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


def test_a_process_may_map_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        assert most_maps() == 128
        allow_many()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
