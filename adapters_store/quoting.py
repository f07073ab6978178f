"""What a client sent, as an error message shows it: printable, and cut where it is long."""

from __future__ import annotations

import json
import reprlib

MAX_QUOTED = 64

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxstring = MAX_QUOTED
_REPR.maxlong = MAX_QUOTED
_REPR.maxother = MAX_QUOTED


def quote(value: object) -> str:
    """Return a value as JSON or, what is none,
    as Python writes it; the work is bounded however large it is.
    """
    try:
        shown = _write(value)
    except ValueError:
        # an integer of more digits than Python prints
        shown = f"a {type(value).__name__}"
    return clip("".join(one if one.isprintable() else _escape(one) for one in shown), MAX_QUOTED)


def _write(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value[: MAX_QUOTED + 1], ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float | bytes | list | tuple | dict):
        return _REPR.repr(value)
    return f"a {type(value).__name__}"


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")


def clip(text: str, most: int) -> str:
    """Return a text, cut to a number of characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(names: list[str], most: int = 5) -> str:
    """Return the first names of a list, and how many follow."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
