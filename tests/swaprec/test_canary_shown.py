"""A running canary is seen by whoever lists or shows."""

from __future__ import annotations

from typing import Any, cast

from service.wire.responses import AdapterCard
from swaprec.cards import card_rows, list_notes, list_rows
from swaprec.cli.catalog import _answering
from swaprec.show import canary

DOMAIN = {
    "live_version": 1,
    "canary_version": 2,
    "canary_percent": 10,
    "canary_since": "2026-01-02T03:04:05.678Z",
}


def card(version: int, **roles: object) -> AdapterCard:
    about: dict[str, Any] = dict.fromkeys(
        ("kind", "backbone", "dtype", "data_digest", "digest"), ""
    )
    about |= {
        "domain": "walk",
        "version": version,
        "size": 1,
        "parameters": {},
        "metrics": {},
        "curves": {},
    }
    return cast("AdapterCard", about | {"created_at": "", "uploaded_at": ""} | roles)


def test_domains_show_the_share_of_a_canary_and_since_when() -> None:
    assert _answering(DOMAIN) == "1, canary 2 (10 %)"
    assert canary(DOMAIN) == "2, for 10 % of the users, since 2026-01-02 03:04:05"
    assert _answering(DOMAIN | {"canary_percent": 0, "canary_version": None}) == "1"


def test_versions_show_which_is_a_canary() -> None:
    cards = [card(1, live=True, canary_percent=0), card(2, live=False, **DOMAIN)]
    assert [row[0] for row in list_rows(cards)] == ["walk@1*", "walk@2 10%"]
    assert "walk@2 is a canary, for 10 % of the users, since 2026-01-02 03:04:05" in list_notes(
        cards
    )
    assert ("canary", "10 % of the users, since 2026-01-02 03:04:05") in card_rows(cards[1])
    assert "canary" not in dict(card_rows(cards[0]))
