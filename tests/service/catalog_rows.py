"""A whole catalog as the state's pages tell it, for tests during which nobody writes."""

from __future__ import annotations

from dataclasses import dataclass

from service.state import State, StoredItem

PAGE = 2000


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """The items of a catalog in the order of their rows;
    `incarnation` tells apart domains of one name.
    """

    generation: int
    incarnation: str
    rows: list[int]
    items: list[StoredItem]

    @property
    def ids(self) -> list[str]:
        return [item.item_id for item in self.items]

    @property
    def texts(self) -> list[str]:
        return [item.text for item in self.items]

    @property
    def images(self) -> list[str]:
        return [item.image for item in self.items]

    @property
    def available(self) -> list[bool]:
        return [item.available for item in self.items]


def read_catalog(state: State, domain: str) -> CatalogRows:
    generation = state.generation(domain)
    found: list[tuple[int, StoredItem]] = []
    while page := state.list_items(domain, found[-1][0] if found else -1, PAGE):
        found += page
    return CatalogRows(
        generation,
        state.get_domain(domain).incarnation,
        [row for row, _ in found],
        [item for _, item in found],
    )
