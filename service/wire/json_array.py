"""A long JSON array, read element by element:
no thread that parses it holds the interpreter for long.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from mmap import mmap

WINDOW = 2 * 1024
"""Bytes that one step looks at, a tenth of a millisecond; others run between two steps.

The event loop gives the interpreter up every 50 us where threads want it, and gets it back when the
step of one of them has ended: with four readers and steps of some milliseconds a request waited for
0.4 s in all.
"""

MAX_DEPTH = 200
"""Deeper values no parser here reads."""

NO_END = "the array has no end"

_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb"[\[{](?:[^\"\[\]{}]++|" + _TEXT + rb")*+[\]}]"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(_TEXT, re.DOTALL)
_OUTSIDE = re.compile(rb'[^",\[\]{}]*+')
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _TEXT + rb"|" + _FLAT + rb")*+", re.DOTALL)
"""As much of an element as opens and closes nothing
but lists and objects without others in them.
"""


def spans(content: bytes | mmap) -> Iterator[tuple[int, int]]:
    """Yield where each element begins and ends; what an element is, whoever parses it finds out.

    Raises:
        ValueError: it is no array, or has no end.
    """
    place = _after_space(content, len(codecs.BOM_UTF8) if content[:3] == codecs.BOM_UTF8 else 0)
    if content[place : place + 1] != b"[":
        raise ValueError("expected a JSON array")
    place = _after_space(content, place + 1)
    if content[place : place + 1] != b"]":
        while True:
            end = _end(content, place)
            yield place, end
            if content[end : end + 1] != b",":
                break
            place = _after_space(content, end + 1)
        place = end
    if content[place : place + 1] != b"]":
        raise ValueError(f"expected , or ] at byte {place}")
    if _after_space(content, place + 1) != len(content):
        raise ValueError(f"trailing characters at byte {place + 1}")


def _after_space(content: bytes | mmap, place: int) -> int:
    found = _SPACE.match(content, place)
    assert found is not None  # noqa: S101 - it matches nothing, too
    return found.end()


def _end(content: bytes | mmap, place: int) -> int:
    """Return where the element that begins here ends:
    at a comma or a bracket that is not its own.
    """
    while following := content[place : place + 1]:
        end = _end_of_part(content, place, following)
        if end == place:
            return place
        place = end
    raise ValueError(NO_END)


def _end_of_part(content: bytes | mmap, place: int, following: bytes) -> int:
    """Return where the text, list, object or run of other bytes that begins here ends."""
    if following == b'"':
        return _end_of_text(content, place)
    if following in (b"[", b"{"):
        return _end_of_nested(content, place)
    found = _OUTSIDE.match(content, place, place + WINDOW)
    assert found is not None  # noqa: S101 - it matches nothing, too
    return found.end()


def _end_of_nested(content: bytes | mmap, place: int) -> int:
    """Return where the list or object that begins here ends."""
    depth = 1
    place += 1
    while depth:
        found = _INSIDE.match(content, place, place + WINDOW)
        assert found is not None  # noqa: S101 - it matches nothing, too
        place = found.end()
        following = content[place : place + 1]
        if not following:
            raise ValueError(NO_END)
        if following == b'"':
            place = _end_of_text(content, place)
            continue
        if following in b"[]{}":  # not where the window cut a run of other bytes
            depth += 1 if following in b"[{" else -1
            place += 1
        if depth > MAX_DEPTH:
            raise ValueError(
                f"more than {MAX_DEPTH} lists and objects in each other at byte {place}"
            )
    return place


def _end_of_text(content: bytes | mmap, place: int) -> int:
    found = _STRING.match(content, place)
    if found is None:
        raise ValueError(f"the text at byte {place} has no end")
    return found.end()
