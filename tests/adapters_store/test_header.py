"""A header is read as a safetensors writer wrote it;
whatever else a file holds is refused by a documented error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from adapters_store.errors import BundleError, UnsupportedFormat
from adapters_store.header import DTYPE_BYTES, Header, read_header

CLEAN = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
TENSORS = st.dictionaries(
    CLEAN.filter(lambda name: name not in ("", "__metadata__")),
    st.builds(
        np.zeros,
        st.lists(st.integers(1, 4), max_size=4).map(tuple),
        st.sampled_from([np.float64, np.float32, np.float16]),
    ),
    max_size=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = st.integers(-1, 40) | st.integers() | JSON
ENTRIES = st.dictionaries(
    st.text(max_size=5) | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*DTYPE_BYTES, "I8"]) | JSON,
            "shape": st.lists(NUMBERS, max_size=3) | JSON,
            "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | JSON,
        }
    )
    | JSON,
    max_size=3,
)
"""Headers that are nearly right, and some that are not at all."""


@contextmanager
def file_of(content: bytes) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        path = Path(name) / "b.safetensors"
        path.write_bytes(content)
        yield path


def with_header(raw: bytes, data: bytes) -> bytes:
    return len(raw).to_bytes(8, "little") + raw + data


def read_or_refuse(content: bytes) -> Header | None:
    """Read a header, None where it is refused;
    any other error fails the test, and so does a refusal without words.
    """
    refusal: BundleError | UnsupportedFormat
    with file_of(content) as path:
        try:
            return read_header(path)
        except (BundleError, UnsupportedFormat) as error:
            refusal = error
    assert str(refusal)
    assert not isinstance(refusal, BundleError) or refusal.problems
    return None


def assert_it_tiles(header: Header, size: int) -> None:
    """Check that the tensors fill the file without gaps, each as large as it says."""
    place = 0
    for entry in sorted(header.tensors.values(), key=lambda entry: (entry.start, entry.end)):
        assert entry.start == place
        assert entry.end - entry.start == math.prod(entry.shape) * DTYPE_BYTES[entry.dtype]
        place = entry.end
    assert header.data_start + place == size


@given(TENSORS, st.dictionaries(CLEAN, CLEAN, max_size=4))
def test_what_safetensors_writes_is_read_as_it_was_meant(
    tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    # Where neither tensors nor metadata are given, safetensors writes broken JSON: an empty table
    # is left out.
    content = save(tensors, metadata or None)
    with file_of(content) as path:
        header = read_header(path)
    assert header.metadata == metadata
    assert {name: entry.shape for name, entry in header.tensors.items()} == {
        name: value.shape for name, value in tensors.items()
    }
    for name, entry in header.tensors.items():
        assert entry.dtype == {8: "F64", 4: "F32", 2: "F16"}[tensors[name].itemsize]
    assert_it_tiles(header, len(content))


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x02\0\0\0\0\0\0\0{}")
@example(b"\x80" + bytes(7))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    header = read_or_refuse(content)
    if header is not None:
        assert_it_tiles(header, len(content))


@given(st.binary(max_size=120), st.binary(max_size=20))
def test_any_bytes_in_the_place_of_the_header_are_read_or_refused(raw: bytes, data: bytes) -> None:
    content = with_header(b"{" + raw, data)
    header = read_or_refuse(content)
    if header is not None:
        assert_it_tiles(header, len(content))


@given(ENTRIES, st.binary(max_size=40))
def test_any_json_in_the_place_of_the_header_is_read_or_refused(
    entries: dict[str, Any], data: bytes
) -> None:
    content = with_header(json.dumps(entries).encode(), data)
    header = read_or_refuse(content)
    if header is not None:
        assert_it_tiles(header, len(content))


@given(TENSORS.filter(bool), st.data())
def test_a_file_that_lost_its_end_is_refused(
    tensors: dict[str, np.ndarray], data: st.DataObject
) -> None:
    content = save(tensors)
    assert read_or_refuse(content[: data.draw(st.integers(0, len(content) - 1))]) is None


@given(TENSORS, st.data())
def test_one_damaged_byte_is_read_or_refused(
    tensors: dict[str, np.ndarray], data: st.DataObject
) -> None:
    content = bytearray(save(tensors, {"swaprec": "1"}))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    header = read_or_refuse(bytes(content))
    if header is not None:
        assert_it_tiles(header, len(content))
