"""JSON from strangers: bounded in depth and digits,
without NaN, duplicate keys, control characters or surrogates.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from adapters_store.quoting import quote

MAX_DEPTH = 16
MAX_DIGITS = 19
MAX_COMMAS = 65_536
"""Before the work of parsing: there are at most as many values as commas, up to the depth."""
MAX_NUMBER_CHARS = 64
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters except tab and newlines,
and halves of surrogate pairs, which UTF-8 cannot write.
"""


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: it is not one, or holds what is refused here; the message says what.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        if decoded.count(",") > MAX_COMMAS:
            raise ValueError(f"it has more than {MAX_COMMAS} commas")
        value = _DECODER.decode(decoded)
        check_value(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - of the text, not of an argument
    return value


def is_clean(text: str) -> bool:
    """Whether a text has neither control characters nor surrogates."""
    return _NO_TEXT.search(text) is None


def _parse_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"the number {quote(text)} has more than {MAX_DIGITS} digits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_CHARS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {quote(text)} is too long or not finite")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON: numbers must be finite")


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(
            f"the key {quote(_first_repeated(key for key, _ in pairs))} is there twice"
        )
    return made


def _first_repeated(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError("no key is repeated")


def check_value(value: object, depth: int = 1) -> None:
    """Check a value that was parsed: its depth, its numbers, and that its texts can be shown.

    Raises:
        ValueError: naming the first thing that is refused here.
    """
    if isinstance(value, str):
        if not is_clean(value):
            raise ValueError(
                f"the text {quote(value)} has a control character or half a surrogate pair"
            )
        return
    if not isinstance(value, (dict, list)):
        _check_number(value)
        return
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key in value:
            check_value(key, depth)
    for inner in value.values() if isinstance(value, dict) else value:
        check_value(inner, depth + 1)


def _check_number(value: object) -> None:
    if isinstance(value, int) and not -(10**MAX_DIGITS) < value < 10**MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the number {value} is not finite")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_make_object,
    parse_int=_parse_int,
    parse_float=_parse_float,
    parse_constant=_refuse_constant,
)
