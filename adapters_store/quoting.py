"""What a client sent, as an error message shows it: ASCII, and cut where it is long."""

from __future__ import annotations

import reprlib

MAX_QUOTED = 80

_REPR = reprlib.Repr()
_REPR.maxlevel = 2
_REPR.maxstring = MAX_QUOTED
_REPR.maxlong = MAX_QUOTED
_REPR.maxother = MAX_QUOTED


def quote(value: object) -> str:
    """Return a value as Python writes it, in ASCII; the work is bounded however large the value is."""
    shown = _REPR.repr(value).encode("ascii", "backslashreplace").decode("ascii")
    return clip(shown, MAX_QUOTED)


def clip(text: str, most: int) -> str:
    """Return a text, cut to a number of characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(names: list[str], most: int = 5) -> str:
    """Return the first names of a list, and how many follow."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
