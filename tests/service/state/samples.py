"""A domain and items for tests of the state."""

from __future__ import annotations

from service.state import DomainRecord, StoredItem

MOVIES = DomainRecord("movies", "f" * 64, "Films")


def items(*names: str, text: str = "film") -> list[StoredItem]:
    """Return an item of each name; `text` begins the items' texts."""
    return [
        StoredItem(name, f"{text} {name}", popularity=1.0, metadata={"title": name})
        for name in names
    ]
