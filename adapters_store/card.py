"""What a list shows of a version: its card, written once when the bundle is accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from adapters_store.bundle import Manifest
from adapters_store.manifest_schema import find_flaws

DESCRIBING = (
    "kind",
    "backbone",
    "dtype",
    "data_digest",
    "parameters",
    "metrics",
    "curves",
    "created_at",
)
"""What a card takes from the manifest."""
_EMPTY: Mapping[str, Any] = {
    "digest": "",
    "size": 0,
    "kind": "unknown",
    "backbone": "",
    "dtype": "",
    "data_digest": "",
    "parameters": {},
    "metrics": {},
    "curves": {},
    "created_at": "",
    "uploaded_at": "",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What a list shows of a version;
    `damaged` names the fields that cannot be shown and are empty instead.
    """

    domain: str
    version: int
    digest: str
    size: int
    kind: str
    backbone: str
    dtype: str
    data_digest: str
    parameters: dict[str, float]
    metrics: dict[str, Any]
    curves: dict[str, list[float]]
    created_at: str
    uploaded_at: str
    damaged: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without `damaged` where nothing is."""
        value = asdict(self)
        damaged = value.pop("damaged")
        return value | ({"damaged": list(damaged)} if damaged else {})


def make_card(
    domain: str, version: int, manifest: Manifest, *, digest: str, size: int, uploaded_at: str
) -> Card:
    """Make the card of a bundle that is accepted."""
    taken = {name: getattr(manifest, name) for name in DESCRIBING}
    return Card(domain, version, digest, size, uploaded_at=uploaded_at, **taken)


@lru_cache(256)
def read_card(content: bytes, domain: str, version: int) -> Card:
    """Read a card; a field that is missing or cannot be
    shown is left empty and named, so that lists go on.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return Card(domain, version, **_EMPTY, damaged=("card",))
    known = {name: value[name] for name in _EMPTY if name in value}
    damaged = {name for name in _EMPTY if name not in value} | _find_damaged(known, domain)
    shown = {name: inner for name, inner in known.items() if name not in damaged}
    return replace(Card(domain, version, **{**_EMPTY, **shown}), damaged=tuple(sorted(damaged)))


def _find_damaged(value: Mapping[str, Any], domain: str) -> set[str]:
    described = {name: value[name] for name in DESCRIBING if name in value}
    flaws = find_flaws({"format": 1, "domain": domain, "spec": {}, **described})
    texts = {name for name in ("digest", "uploaded_at") if not isinstance(value.get(name), str)}
    sizes = {"size"} if type(value.get("size")) is not int else set()
    return (flaws.keys() & value.keys()) | (texts & value.keys()) | (sizes & value.keys())
