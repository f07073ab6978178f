"""A delta answers as a dictionary of the changed items would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.catalog.delta import Delta
from service.catalog.ids import Ids
from service.state import ChangedItem, Changes

WIDTH = 3
BASE = ("a", "b", "c", "d")
NAMES = (*BASE, "e", "f", "g")
Fate = tuple[float, bool] | None
"""What became of an item: its popularity and whether
it is available, or None where it was deleted.
"""
Model = dict[str, tuple[list[float], float, bool]]
FATES = st.dictionaries(
    st.sampled_from(NAMES),
    st.none() | st.tuples(st.floats(0, 9), st.booleans()),
)
"""One batch of changes: every id once."""


@dataclass(frozen=True)
class ChangeBatch:
    """Changes and the vectors of their upserts."""

    changes: Changes
    vectors: np.ndarray

    @classmethod
    def of(cls, generation: int, fates: dict[str, Fate]) -> ChangeBatch:
        upserted = [
            ChangedItem(100 * generation + place, name, f"{name}{generation}", fate[0], "", fate[1])
            for place, (name, fate) in enumerate(fates.items())
            if fate is not None
        ]
        deleted = [
            (place, name) for place, (name, fate) in enumerate(fates.items()) if fate is None
        ]
        vectors = np.array([vector_of(item) for item in upserted], np.float32).reshape(-1, WIDTH)
        return cls(Changes(generation, upserted, deleted), vectors)


def vector_of(item: ChangedItem) -> list[float]:
    return [float(item.row), item.popularity, 1.0]


def content_of(delta: Delta) -> Model:
    """The delta's items, by what its arrays say at their places."""
    vectors = delta.vectors.tolist()
    popularity = delta.popularity.tolist()
    available = delta.available.tolist()
    return {
        name: (vectors[place], popularity[place], available[place])
        for name, place in delta.places.items()
    }


def as_kept(item: ChangedItem) -> tuple[list[float], float, bool]:
    return np.array(vector_of(item), np.float32).tolist(), item.popularity, item.available


@given(st.lists(FATES, max_size=6))
def test_after_any_changes_it_holds_what_a_dictionary_holds(history: list[dict[str, Fate]]) -> None:
    base = Ids.of(BASE)
    delta = Delta.empty(WIDTH)
    model: Model = {}
    touched: set[str] = set()
    for generation, fates in enumerate(history, 1):
        batch = ChangeBatch.of(generation, fates)
        delta = delta.with_changes(base, batch.changes, batch.vectors)
        touched |= fates.keys()
        for name in fates:
            model.pop(name, None)
        model |= {item.item_id: as_kept(item) for item in batch.changes.upserted}
        assert content_of(delta) == model
        assert [delta.places[name] for name in delta.ids] == list(range(len(model)))
        assert delta.dead.tolist() == [row for row, name in enumerate(BASE) if name in touched]
        assert len(delta) == len(model) + len(delta.dead)


@given(FATES, FATES)
def test_the_same_changes_again_change_nothing_and_the_former_delta_stays(
    first: dict[str, Fate], second: dict[str, Fate]
) -> None:
    base = Ids.of(BASE)
    before = ChangeBatch.of(1, first)
    after = ChangeBatch.of(2, second)
    old = Delta.empty(WIDTH).with_changes(base, before.changes, before.vectors)
    content = content_of(old)
    dead = old.dead.tolist()
    new = old.with_changes(base, after.changes, after.vectors)
    again = new.with_changes(base, after.changes, after.vectors)
    assert content_of(again) == content_of(new)
    assert again.dead.tolist() == new.dead.tolist()
    assert (content_of(old), old.dead.tolist()) == (content, dead)
