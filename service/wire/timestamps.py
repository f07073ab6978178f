"""Times of a history's entries: ISO 8601 or seconds since 1970, as seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from adapters_store.quoting import quote

EXPECTED = 'expected ISO 8601, such as "1997-09-24T00:00:00Z", or seconds since 1970 as a number'
LATEST_S = 253_402_300_799.0
"""The end of the year 9999."""


def parse_timestamp(value: object) -> float | None:
    """Return seconds since 1970; a time without an offset is UTC, none is none.

    Raises:
        ValueError: it is no time, or none that a calendar has.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{quote(value)} is no time: {EXPECTED}")  # noqa: TRY004 - pydantic reports a ValueError
    # So is NaN, and a whole number that no float holds can be compared.
    if not abs(value) <= LATEST_S:
        hint = (
            "; these look like milliseconds: divide them by 1000" if abs(value) > LATEST_S else ""
        )
        raise ValueError(f"{quote(value)} is no time: {EXPECTED}{hint}")
    return float(value)


def _from_text(text: str) -> float:
    if text.replace(".", "", 1).isdecimal():
        raise ValueError(
            f"{quote(text)} is no time: {EXPECTED}; send seconds as a number, without quotation"
            " marks"
        )
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{quote(text)} is no time: {EXPECTED}") from None
    # Not datetime.timestamp of the time as it is: one without an offset would be in this machine's
    # zone.
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
