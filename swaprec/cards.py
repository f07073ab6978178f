"""What a version's card says of its figures:
measured on what, comparable with which, better than what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from service.wire.responses import AdapterCard
from swaprec.show import bytes_text, canary_share
from training.figures import (
    BASELINES,
    SHOWN_DIGEST,
    Figure,
    compare_with_baselines,
    describe_metrics,
    format_baseline,
    is_number,
)

COLUMNS = ("version", "adapter", "HR@10", "users", "items", "data", "uploaded")
RIGHT = (2, 3, 4)
MAX_NOTES = 20
Basis = tuple[str, int]
"""Digest of the data and number of users: figures of one basis may be compared."""


def list_rows(cards: Sequence[AdapterCard]) -> list[tuple[str, ...]]:
    """Return the rows of a list of versions; figures of different bases get different letters."""
    letters = _letters(cards)
    return [_list_row(card, letters.get(_basis(card), "")) for card in cards]


def list_notes(cards: Sequence[AdapterCard]) -> list[str]:
    """Return what a reader of the list must know:
    what the letters mean, and which figures miss a baseline.
    """
    notes = [
        f"{_name(card)} is a canary, for {canary_share(card)}"
        for card in cards
        if card.get("canary_percent")
    ]
    letters = list(_letters(cards).values())
    if letters:
        notes.append(
            f"{', '.join(letters)}: measured on different data, so not comparable; "
            "swaprec probe DOMAIN --version N measures any version on the domain's probes of today."
        )
    misses = [(card, compare_card(card)) for card in cards]
    missing = [(card, said) for card, said in misses if said]
    notes += [f"{_name(card)}: {said}" for card, said in missing[:MAX_NOTES]]
    if len(missing) > MAX_NOTES:
        notes.append(
            f"{len(missing) - MAX_NOTES} more miss a baseline: swaprec versions show DOMAIN VERSION"
        )
    return notes


def card_rows(card: AdapterCard) -> list[tuple[str, str]]:
    """Return everything that a card says, as names and values."""
    metrics = card["metrics"]
    test = _test(metrics)
    figure = Figure.read(test)
    rows = [
        ("version", _name(card) + (", live" if card.get("live") else "")),
        *([("canary", canary_share(card))] if card.get("canary_percent") else []),
        ("kind", card["kind"]),
        ("parameters", _parameters(card["parameters"])),
        ("HR@10 [95 %]", "" if figure is None else str(figure)),
        ("NDCG@10", _number(test.get("ndcg"))),
        ("measured on", describe_metrics({**metrics, "test": test}, card["data_digest"])),
    ]
    baselines = metrics.get("baselines")
    known = baselines if isinstance(baselines, Mapping) else {}
    for name in BASELINES:
        found = Figure.read(known.get(name))
        if found is not None:
            rows.append((f"  {format_baseline(name)}", str(found)))
    said = compare_card(card)
    if said:
        rows.append(("mind", said))
    return [
        *rows,
        ("backbone", card["backbone"][:12]),
        ("dtype", card["dtype"]),
        ("digest", card["digest"][:16]),
        ("size", bytes_text(card["size"])),
        ("trained", card["created_at"]),
        ("uploaded", card["uploaded_at"]),
    ]


def compare_card(card: AdapterCard) -> str:
    """Say which baselines a version's figure does not beat;
    empty where it beats all that the card knows.
    """
    return compare_with_baselines(_test(card["metrics"]), card["metrics"].get("baselines"))


def figure_lines(card: AdapterCard) -> list[str]:
    """Return a version's figure with what it was measured on,
    and which baselines it misses; empty without a figure.
    """
    test = _test(card["metrics"])
    figure = Figure.read(test)
    if figure is None:
        return []
    basis = describe_metrics({**card["metrics"], "test": test}, card["data_digest"])
    said = compare_card(card)
    return [f"HR@10 {figure}, measured on {basis or 'unknown data'}", *([said] if said else [])]


def _list_row(card: AdapterCard, letter: str) -> tuple[str, ...]:
    metrics = card["metrics"]
    test = _test(metrics)
    figure = Figure.read(test)
    return (
        _name(card) + _mark(card),
        f"{card['kind']} {_count(card['parameters'].get('total'))}".strip(),
        "" if figure is None else f"{figure.value:.4f} {letter}".strip(),
        _count(test.get("users")),
        _count(metrics.get("items")),
        card["data_digest"][:SHOWN_DIGEST],
        card["uploaded_at"][:16].replace("T", " "),
    )


def _mark(card: AdapterCard) -> str:
    if card.get("live"):
        return "*"
    return f" {card['canary_percent']}%" if card.get("canary_percent") else ""


def _letters(cards: Sequence[AdapterCard]) -> dict[Basis, str]:
    """Return a letter for each basis; none where all figures have one and the same."""
    measured = [card for card in cards if Figure.read(_test(card["metrics"])) is not None]
    bases = list(dict.fromkeys(map(_basis, measured)))
    if len(bases) < 2:  # noqa: PLR2004 - one basis needs no mark
        return {}
    return {basis: _letter(number) for number, basis in enumerate(bases)}


def _letter(number: int) -> str:
    """Return a, b, … z, aa, ab, …."""
    over, place = divmod(number, len(ascii_lowercase))
    return (_letter(over - 1) if over else "") + ascii_lowercase[place]


def _basis(card: AdapterCard) -> Basis:
    users = _test(card["metrics"]).get("users")
    # A bundle that does not name its data is comparable with itself only.
    data = card["data_digest"] or f"{card['domain']}@{card['version']}"
    return data, users if isinstance(users, int) else 0


def _test(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    test = metrics.get("test", metrics)
    return test if isinstance(test, Mapping) else {}


def _name(card: AdapterCard) -> str:
    return f"{card['domain']}@{card['version']}"


def _parameters(counts: Mapping[str, float]) -> str:
    """Write the counts whole and the share of full fine-tuning in per cent."""
    parts = [f"{name} {_count(value)}" for name, value in counts.items() if name != "share"]
    if is_number(counts.get("share")):
        parts.append(f"{counts['share']:.2%} of the backbone")
    return ", ".join(parts)


def _count(value: object) -> str:
    return f"{value:,.0f}" if is_number(value) else ""


def _number(value: object) -> str:
    return f"{value:.4f}" if is_number(value) else ""
