"""Values of rows as JSON has them, whatever a file or a data frame holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

TEXTS = ("title", "text", "category", "timestamp")
"""Fields of an item that hold text: a number in them is its text."""
MAX_DEPTH = 180
MAX_QUOTED = 60


class CellError(ValueError):
    """A value that JSON has no form for: names the column, what was given and what was expected."""


def json_row(row: object) -> dict[str, Any]:
    """Return a row of items as plain JSON.

    NaN and NaT are null. Dates and times are ISO text, durations seconds, decimals numbers, bytes
    the text that they are in UTF-8. An id is text; of a number without a fraction it is the whole
    number. `available` as 1 or 0 is true or false.

    Raises:
        CellError: it is no mapping, or a value in it cannot be sent.
    """
    if not isinstance(row, Mapping):
        raise CellError(
            f"expected a mapping such as {{'item_id': …, 'title': …}}, got {quoted(row)}"
        )
    return {_name(name): _field(str(name), value) for name, value in row.items()}


def id_text(value: object) -> object:
    """Return an id as text; what can be none is returned as it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def quoted(value: object) -> str:
    """Show a value and its type, of a long one the beginning."""
    shown = repr(value)
    return f"{shown[:MAX_QUOTED]}{'…' if len(shown) > MAX_QUOTED else ''} ({type(value).__name__})"


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise CellError(f"the name of a column is {quoted(name)}: expected text")
    return name


def _field(name: str, value: object) -> Any:
    try:
        plain = _plain(value, 0)
    except CellError as error:
        raise CellError(f"{name}: {error}") from error
    if name == "item_id":
        return _id(plain)
    if name == "available":
        return _flag(plain)
    if name not in TEXTS:
        return plain
    if isinstance(plain, list):
        return [id_text(one) for one in plain]
    return id_text(plain)


def _id(value: Any) -> Any:
    found = id_text(value)
    if not isinstance(found, str):
        raise CellError(f"item_id: expected text or a whole number, got {quoted(value)}")
    return found


def _flag(value: Any) -> Any:
    """Read 1 and 0 as a column of numbers holds them;
    the service names a row with anything else.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return bool(value) if is_number and value in {0, 1} else value


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, depth)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float | Decimal):
        return _number(value)
    return _compound(value, depth) if _is_compound(value) else _other(value, depth)


def _is_compound(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple | set | frozenset)


def _compound(value: Any, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise CellError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_name(name): _plain(one, depth + 1) for name, one in value.items()}
    found: Iterable[Any] = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
    return [_plain(one, depth + 1) for one in found]


def _other(value: Any, depth: int) -> Any:
    if type(value).__name__ in ("NaTType", "NAType"):  # what pandas has for null
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _number(value.total_seconds())
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    if isinstance(value, UUID):
        return str(value)
    unboxed = _unboxed(value)
    if unboxed is not value and depth < MAX_DEPTH:
        return _plain(unboxed, depth + 1)
    raise CellError(
        f"{quoted(value)} has no form in JSON: expected text, a number, true, false, a list or null"
    )


def _unboxed(value: Any) -> Any:
    """Return what numpy or a data frame holds as Python has it,
    times to the microsecond; else what was given.
    """
    if hasattr(value, "to_list"):  # a series, as data frames have for a list in a cell
        return value.to_list()
    if not (hasattr(value, "dtype") and hasattr(value, "tolist")):
        return value
    unit = {"M": "datetime64[us]", "m": "timedelta64[us]"}.get(value.dtype.kind)
    return value.tolist() if unit is None else value.astype(unit).tolist()


def _number(value: float | Decimal) -> float | int | None:
    # A signalling NaN cannot be compared.
    if value.is_nan() if isinstance(value, Decimal) else math.isnan(value):
        return None
    if not math.isfinite(value):
        raise CellError(f"{value} is infinite: expected a number, or null")
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return float(value)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise CellError(
            f"{quoted(value)} is no Unicode text: half of a surrogate pair at {error.start}"
        ) from error
    return str(value)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        found = value[error.start]
        raise CellError(
            f"these bytes are no UTF-8 text: 0x{found:02x} at byte {error.start}"
        ) from error
