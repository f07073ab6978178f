"""Paths as they were sent: decoded once,
exactly, so that none of them names another thing than its bytes do.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor

from adapters_store.names import CONTROL
from adapters_store.quoting import quote
from service.errors import InvalidRequest, MalformedPath

QUERY_PATHS = frozenset(("/recommend", "/compare", "/similar", "/embed"))
"""POST routes that only read: a key with the scope
`recommend` may call them, and they queue for admission.
"""

_ESCAPED = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_ITEM = re.compile(rb"(/domains/[^/]*/items/)(.*)", re.DOTALL)


class _Anything(Convertor[str]):
    """The rest of a path, with newlines:
    the built-in convertor stops before one and would name another item.
    """

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("path", _Anything())


def exact_path(scope: Any) -> str:
    """Return the decoded path of a request.

    An item's id may hold any character, as the check of ids decides; no other part has slashes or
    control characters.

    Raises:
        MalformedPath: it is no UTF-8, or has a % that begins no escape; InvalidRequest: a part that
            names nothing.
    """
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw and b"\x7f" not in raw:
        path: str = scope["path"]
        return path
    root: str = scope.get("root_path", "")
    inner = raw.removeprefix(root.encode())
    item = _ITEM.fullmatch(inner)
    names, item_id = (item[1], item[2]) if item else (inner, b"")
    decoded = "/".join(_name(part) for part in names.split(b"/")) + _decoded(item_id)
    return root + decoded if len(inner) < len(raw) else decoded


def local_path(scope: Any) -> str:
    """Return the path without the prefix under which a proxy serves the API."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _name(part: bytes) -> str:
    name = _decoded(part)
    if "/" in name or CONTROL.search(name):
        msg = (
            f"{quote(name)} is no name: no part of a path has slashes or control characters, except"
            " for an item's id"
        )
        raise InvalidRequest(msg, [{"loc": ["path"], "msg": msg}])
    return name


def _decoded(part: bytes) -> str:
    if not _ESCAPED.fullmatch(part):
        raise MalformedPath("a % in the path begins no escape such as %20: send %25 for a % itself")
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as error:
        given = quote(part.decode("ascii", "backslashreplace"))  # as it was sent, percent-encoded
        raise MalformedPath(
            f"the path is not UTF-8: {error.reason} at byte {error.start} of {given}"
        ) from error
