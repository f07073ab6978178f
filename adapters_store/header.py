"""The safetensors header, read and bounds-checked before anything is loaded.

Layout: 8 bytes little-endian length N, N bytes of JSON `{name: {dtype, shape, data_offsets},
"__metadata__": {…}}`, then the data without gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_store.errors import BundleError, BundleProblem, UnsupportedFormat
from adapters_store.quoting import clip, quote
from adapters_store.strict_json import is_clean, parse_object

MAX_HEADER = 1024 * 1024
"""Room for 2,048 tensors and a manifest;
an adapter of 24 layers has some hundred tensors and 20 KiB of manifest.
"""
MAX_STORED_HEADER = 16 * 1024 * 1024
"""What earlier versions accepted."""
MAX_TENSORS = 2048
MAX_DIMENSIONS = 8
MAX_NAME = 256
MAX_SHOWN = 80
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_CONVERT = (
    "swaprec accepts safetensors only, since a pickle can run code. Load it where you trust it and"
    ' save it again: safetensors.torch.save_file(tensors, "bundle.safetensors", metadata=…), or'
    " train it with `swaprec train`"
)
_MAGIC = {
    b"PK\x03\x04": "a zip archive (torch.save writes such .pt and .bin files)",
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy file",
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the header: its dtype, shape and bytes within the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path, max_header: int = MAX_HEADER) -> Header:
    """Read and check a file's header without touching its data.

    Raises:
        UnsupportedFormat: a file of another format.
        BundleError: a safetensors file that is damaged, with every problem found.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        refuse_other_formats(begin)
        length = int.from_bytes(begin, "little")
        _check_length(size, length, max_header)
        entries = _parse(file.read(length))
    metadata, problems = _take_metadata(entries)
    if len(entries) > MAX_TENSORS:
        raise BundleError(
            [
                *problems,
                BundleProblem("header", f"{len(entries)} tensors, at most {MAX_TENSORS} are read"),
            ]
        )
    tensors = {}
    for name, value in entries.items():
        entry = _read_entry(name, value, problems)
        if entry is not None:
            tensors[name] = entry
    if not problems:
        problems += _check_extent(tensors, size - 8 - length, 8 + length)
    if problems:
        raise BundleError(problems)
    return Header(tensors, metadata, 8 + length)


def _check_length(size: int, length: int, max_header: int) -> None:
    if size < 8 or not 2 <= length < 1 << 56:  # noqa: PLR2004 - the length field, and "{}"
        raise UnsupportedFormat(f"a file of {size} bytes that is not safetensors. {_CONVERT}")
    if length > max_header:
        # Text read as a length is astronomically large: then it is another format, not a long
        # header.
        if length > size:
            raise UnsupportedFormat(f"a file of {size} bytes that is not safetensors. {_CONVERT}")
        raise BundleError(
            [
                BundleProblem(
                    "header", f"the header has {length} bytes, expected at most {max_header}"
                )
            ]
        )
    if 8 + length > size:
        raise BundleError([_truncated(8 + length, size)])


def refuse_other_formats(begin: bytes) -> None:
    """Refuse a file by its first bytes.

    Raises:
        UnsupportedFormat: naming what the file is and how to convert it.
    """
    for magic, what in _MAGIC.items():
        # A safetensors header is far shorter than 2^56 bytes, so its eighth byte is 0; a pickle's
        # is not.
        if begin.startswith(magic) and not (len(magic) == 1 and begin[7:8] == b"\0"):
            raise UnsupportedFormat(f"this is {what}. {_CONVERT}")


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        shown = raw[:4].decode("utf-8", "backslashreplace")
        raise BundleError(
            [
                BundleProblem(
                    "header", f"the header begins with {quote(shown)}, expected {{ (JSON in UTF-8)"
                )
            ]
        )
    try:
        return parse_object(raw)
    except ValueError as error:
        raise BundleError(
            [BundleProblem("header", f"the header cannot be read: {error}")]
        ) from error


def _take_metadata(entries: dict[str, Any]) -> tuple[dict[str, str], list[BundleProblem]]:
    metadata = entries.pop(_METADATA, {})
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return metadata, []
    return {}, [
        BundleProblem("header", f"{_METADATA} must map names to strings, got {quote(metadata)}")
    ]


def _read_entry(name: str, value: object, problems: list[BundleProblem]) -> TensorEntry | None:
    shown = show_name(name)
    problem = _find_flaw(name, value)
    if problem is not None:
        problems.append(BundleProblem("header", f"{shown}: {problem}", shown))
        return None
    assert isinstance(value, dict)  # noqa: S101 - it has no flaw
    dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if dtype not in DTYPE_BYTES:
        expected = ", ".join(DTYPE_BYTES)
        detail = f"{shown}: dtype {quote(dtype)}, expected one of {expected}"
        problems.append(BundleProblem("dtype", detail, shown, expected, clip(dtype, MAX_SHOWN)))
        return None
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if needed != end - start:
        detail = (
            f"{shown}: shape {list(shape)} needs {needed} bytes and does not fill its {end - start}"
            " bytes"
        )
        problems.append(BundleProblem("header", clip(detail, 300), shown))
        return None
    return TensorEntry(dtype, shape, start, end)


def show_name(name: str) -> str:
    """Return a tensor's name as errors show it."""
    return name if 0 < len(name) <= MAX_SHOWN and name.isascii() else quote(name)


def _find_flaw(name: str, value: object) -> str | None:
    """Return why an entry is none, before anything is computed from it."""
    if not 0 < len(name) <= MAX_NAME or not is_clean(name):
        return f"a tensor's name has 1 to {MAX_NAME} printable characters"
    if not isinstance(value, dict) or set(value) != _FIELDS:
        return f"dtype, shape or data_offsets missing or malformed: {quote(value)}"
    dtype = value["dtype"]
    shape = value["shape"]
    offsets = value["data_offsets"]
    if not isinstance(dtype, str):
        return f"dtype {quote(dtype)} is malformed, expected a name"
    if not _are_whole(shape, MAX_DIMENSIONS) or not all(shape):
        return (
            f"shape {quote(shape)} is malformed, expected at most {MAX_DIMENSIONS} positive whole"
            " numbers"
        )
    if not _are_whole(offsets, 2) or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - begin and end
        return f"data_offsets {quote(offsets)} are malformed, expected begin and end"
    return None


def _are_whole(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(number) is int and number >= 0 for number in value)
    )


def _check_extent(
    tensors: dict[str, TensorEntry], available: int, data_start: int
) -> list[BundleProblem]:
    problems: list[BundleProblem] = []
    place = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place:
            problems.append(
                BundleProblem(
                    "header",
                    f"{name}: begins at byte {entry.start} of the data, expected {place}",
                    name,
                )
            )
        place = max(place, entry.end)
    if place > available:
        problems.append(_truncated(data_start + place, data_start + available))
    elif place < available:
        problems.append(
            BundleProblem("header", f"{available - place} bytes follow the last tensor")
        )
    return problems


def _truncated(expected: int, got: int) -> BundleProblem:
    return BundleProblem(
        "truncated",
        f"the file ends after {got} of {expected} bytes: send it again",
        None,
        expected,
        got,
    )
