"""Ids as they may come from outside:
the one check of item ids, user ids and other names that are free text.
"""

from __future__ import annotations

import re

from adapters_store.errors import InvalidId
from adapters_store.quoting import quote

MAX_ID_BYTES = 256

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
"""What no id holds: controls (Unicode Cc),
half surrogates (Cs), and the line and paragraph separators.
"""


def check_id(value: object, what: str = "an id") -> str:
    """Return the id if it is one: text of 1 to 256 bytes in UTF-8 without control characters.

    Raises:
        InvalidId: saying what was given, what was expected, and what to send.
    """
    if not isinstance(value, str):
        raise InvalidId(_not_text(value, what))
    if not value:
        raise InvalidId(f"{what} is empty: expected 1 to {MAX_ID_BYTES} bytes")
    if found := CONTROL.search(value):
        code = f"U+{ord(found[0]):04X}"
        raise InvalidId(
            f"{quote(value)} has the character {code} at {found.start()}: {what} has no control"
            " characters"
        )
    size = len(value.encode())
    if size > MAX_ID_BYTES:
        raise InvalidId(f"{quote(value)} has {size} bytes: {what} has at most {MAX_ID_BYTES}")
    return value


def _not_text(value: object, what: str) -> str:
    shown = quote(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f'{shown} is a number: {what} is text, send "{shown}"'
    return f"{shown} is no text: {what} is text"
