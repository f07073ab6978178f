"""A long JSON array, read element by element: no thread that parses it holds the interpreter for long."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from mmap import mmap

WINDOW = 256 * 1024
"""Bytes that one step looks at; others run between two steps."""

MAX_DEPTH = 200
"""Deeper values no parser here reads."""

_TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb"[\[{](?:[^\"\[\]{}]++|" + _TEXT + rb")*+[\]}]"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(_TEXT, re.DOTALL)
_OUTSIDE = re.compile(rb'[^",\[\]{}]*+')
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _TEXT + rb"|" + _FLAT + rb")*+", re.DOTALL)
"""As much of an element as opens and closes nothing but lists and objects without others in them."""


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
    """Return where the element that begins here ends: at a comma or a bracket that is not its own."""
    depth = 0
    while following := content[place : place + 1]:
        if depth:
            found = _INSIDE.match(content, place, place + WINDOW)
            assert found is not None  # noqa: S101 - it matches nothing, too
            place = found.end()
            following = content[place : place + 1]
        if following == b'"':
            place = _end_of_text(content, place)
        elif following in (b"[", b"{"):
            depth += 1
            place += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} lists and objects in each other at byte {place}")
        elif following in (b"]", b"}") and depth:
            depth -= 1
            place += 1
        elif not depth:
            found = _OUTSIDE.match(content, place, place + WINDOW)
            assert found is not None  # noqa: S101 - the same
            if found.end() == place:  # a comma, or a bracket that is not its own
                return place
            place = found.end()
    raise ValueError("the array has no end")


def _end_of_text(content: bytes | mmap, place: int) -> int:
    found = _STRING.match(content, place)
    if found is None:
        raise ValueError(f"the text at byte {place} has no end")
    return found.end()
