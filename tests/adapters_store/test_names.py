from __future__ import annotations

import pytest

from adapters_store.errors import InvalidId
from adapters_store.names import MAX_ID_BYTES, check_id
from adapters_store.quoting import quote

CONTROLS = [
    "\n",
    "\r",
    "\t",
    "\0",
    "\x1f",
    "\x7f",
    "\x85",
    "\x9f",
    "\u2028",
    "\u2029",
    "\ud800",
    "\udfff",
]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("place", ["{}i3", "i{}3", "i3{}"])
def test_an_id_with_a_control_character_is_refused_wherever_it_stands(
    place: str, control: str
) -> None:
    with pytest.raises(InvalidId, match=f"U\\+{ord(control):04X}"):
        check_id(place.format(control))


@pytest.mark.parametrize(
    "value", ["i3", " ", "a/b", "..", "%0A", "é" * 128, "日本", "👩‍🎬", "x" * MAX_ID_BYTES]
)
def test_every_other_text_up_to_256_bytes_is_an_id(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", ["", "x" * 257, "é" * 129, "👩" * 65])
def test_the_limits_are_bytes(value: str) -> None:
    with pytest.raises(InvalidId, match="256"):
        check_id(value)


@pytest.mark.parametrize(
    ("value", "says"),
    [(1, 'send "1"'), (True, "no text"), (1.5, "no text"), (None, "no text"), ([], "no text")],
)
def test_what_is_no_text_is_refused_with_what_to_send(value: object, says: str) -> None:
    with pytest.raises(InvalidId, match=says):
        check_id(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, list(range(10_000)), 10**5000, object(), "\n\0\ud800"],
    ids=lambda value: type(value).__name__,
)
def test_a_quoted_value_is_short_and_printable(value: object) -> None:
    shown = quote(value)
    assert len(shown) <= 66
    assert shown.isprintable()
