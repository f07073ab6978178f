"""Files of one JSON object a line, compressed or not, and the numbers in them."""

from __future__ import annotations

import ast
import gzip
import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.importers.tables import DataError
from training.rejections import Rejections

MAX_LITERAL = 1 << 20
"""Characters of a Python dict that are parsed: a description has a few thousand."""

MAX_TIME = 1 << 62


def json_lines(
    path: Path, rejected: Rejections, *, literals: bool = False, name: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; what is none is rejected.

    Args:
        path: the file, compressed where its name ends with `.gz`.
        rejected: lines that are no objects are counted here.
        literals: a line may be a Python dict instead, as the first editions of Amazon's data are.
        name: what the file is called in counts; its own name without it.

    Raises:
        DataError: a damaged archive.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, 1):
                value = _object(
                    line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, literals=literals
                )
                if isinstance(value, dict):
                    yield value
                else:
                    _reject(rejected, name or path.name, value, f"{path.name}, line {number}", line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or cut off: {error}; fetch it again") from error


def _reject(rejected: Rejections, name: str, why: str, place: str, line: bytes) -> None:
    """Count a line that is no object, unless it is blank."""
    if line.strip():
        shown = line[:200].decode("utf-8", "replace").strip()
        rejected.add(f"{name}: {why}", 1, f"{place}: {shown}")


def whole_number(value: object) -> int | None:
    """Return a time that JSON gives as a number,
    or as its digits in quotes; None for anything else.
    """
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Not of NaN; a number that no float holds can be compared.
    return int(value) if abs(value) < MAX_TIME else None


def text_of(value: object) -> str | None:
    """Return a text or a number as one line of text that can be stored; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    # JSON can hold halves of surrogate pairs, which no encoding has.
    return " ".join(str(value).split()).encode("utf-8", "replace").decode()


def _number(text: str) -> float | int | None:
    text = text.strip()
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20:  # noqa: PLR2004 - digits of an int64
        return int(text)
    try:
        return float(text)
    except ValueError:
        return None


def _object(line: bytes, *, literals: bool) -> dict[str, Any] | str:
    """Return the object of a line, or what is wrong with it."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _literal(text) if literals else None
    return value if isinstance(value, dict) else "no JSON object"


def _literal(text: str) -> object:
    """Return what a Python literal stands for; names, calls and operators are none."""
    if not text.lstrip().startswith("{") or len(text) > MAX_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of stray backslashes in titles
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
