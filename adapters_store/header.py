"""The safetensors header, read and bounds-checked before anything is loaded.

Layout: 8 bytes little-endian length N, N bytes of JSON `{name: {dtype, shape, data_offsets}, "__metadata__": {…}}`,
then the data without gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_store.errors import BundleError, Problem, UnsupportedFormat

MAX_HEADER = 16 * 1024 * 1024
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_CONVERT = (
    "swaprec accepts safetensors only, since a pickle can run code. Load it where you trust it and save it again: "
    'safetensors.torch.save_file(tensors, "bundle.safetensors", metadata=…), or train it with `swaprec train`'
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


def read_header(path: Path) -> Header:
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
        if size < 8 or not 2 <= length <= MAX_HEADER:  # noqa: PLR2004 - the length field, and "{}"
            raise UnsupportedFormat(f"a file of {size} bytes that is not safetensors. {_CONVERT}")
        if 8 + length > size:
            raise BundleError([_truncated(8 + length, size)])
        raw = file.read(length)
    entries = _parse(raw)
    metadata = entries.pop("__metadata__", {})
    problems: list[Problem] = []
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        problems.append(Problem("header", "__metadata__ must map names to strings"))
        metadata = {}
    tensors = {name: entry for name, value in entries.items() if (entry := _entry(name, value, problems)) is not None}
    problems += _check_extent(tensors, size - 8 - length, 8 + length) if not problems else []
    if problems:
        raise BundleError(problems)
    return Header(tensors, metadata, 8 + length)


def refuse_other_formats(begin: bytes) -> None:
    """Refuse a file by its first bytes.

    Raises:
        UnsupportedFormat: naming what the file is and how to convert it.
    """
    for magic, what in _MAGIC.items():
        # A safetensors header is far shorter than 2^56 bytes, so its eighth byte is 0; a pickle's is not.
        if begin.startswith(magic) and not (len(magic) == 1 and begin[7:8] == b"\0"):
            raise UnsupportedFormat(f"this is {what}. {_CONVERT}")


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError([Problem("header", f"the header is not JSON: {error}")]) from error
    if not isinstance(value, dict):
        raise BundleError([Problem("header", "the header is not a JSON object")])
    return value


def _entry(name: str, value: object, problems: list[Problem]) -> TensorEntry | None:
    try:
        dtype, shape, (start, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]  # type: ignore[index]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        problems.append(Problem("header", f"{name}: dtype, shape or data_offsets missing or malformed", name))
        return None
    if dtype not in DTYPE_BYTES:
        expected = ", ".join(DTYPE_BYTES)
        problems.append(Problem("dtype", f"{name}: dtype {dtype!r}, expected one of {expected}", name, expected, dtype))
        return None
    if math.prod(shape) * DTYPE_BYTES[dtype] != end - start:
        problems.append(Problem("header", f"{name}: shape {list(shape)} does not fill its {end - start} bytes", name))
        return None
    return TensorEntry(dtype, shape, start, end)


def _check_extent(tensors: dict[str, TensorEntry], available: int, data_start: int) -> list[Problem]:
    problems, place = [], 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place:
            problems.append(
                Problem("header", f"{name}: begins at byte {entry.start} of the data, expected {place}", name)
            )
        place = max(place, entry.end)
    if place > available:
        problems.append(_truncated(data_start + place, data_start + available))
    elif place < available:
        problems.append(Problem("header", f"{available - place} bytes follow the last tensor"))
    return problems


def _truncated(expected: int, got: int) -> Problem:
    return Problem("truncated", f"the file ends after {got} of {expected} bytes: send it again", None, expected, got)
