from __future__ import annotations

import json

import pytest

from adapters_store.bundle import Manifest
from adapters_store.card import make_card, read_card

MANIFEST = Manifest(
    "movies", "houlsby", {}, "f" * 64, "float32", parameters={"total": 3}, metrics={"hr": 0.5}
)
CARD = make_card(
    "movies", 2, MANIFEST, digest="d" * 64, size=9, uploaded_at="2026-01-01T00:00:00.000Z"
)


def test_a_card_survives_the_file_and_names_no_damage() -> None:
    assert read_card(json.dumps(CARD.to_json()).encode(), "movies", 2) == CARD
    assert "damaged" not in CARD.to_json()


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("metrics", {"hr": float("nan")}),
        ("metrics", {"a": "y" * 15_000_000}),
        ("kind", "\ud800"),
        ("curves", {"a": "x"}),
        ("parameters", {"total": "many"}),
        ("size", "large"),
        ("uploaded_at", None),
    ],
    ids=range(7),
)
def test_a_field_that_cannot_be_shown_is_empty_and_named_and_the_others_stay(
    field: str, bad: object
) -> None:
    read = read_card(json.dumps(CARD.to_json() | {field: bad}).encode(), "movies", 2)
    assert read.damaged == (field,)
    shown = read.to_json()
    json.dumps(shown, allow_nan=False).encode()
    others = {name: value for name, value in shown.items() if name not in (field, "damaged")}
    assert others == {name: value for name, value in CARD.to_json().items() if name != field}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_card_that_is_none_still_names_its_version(content: bytes) -> None:
    read = read_card(content, "movies", 2)
    assert (read.domain, read.version, read.damaged) == ("movies", 2, ("card",))
