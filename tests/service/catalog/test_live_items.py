"""A base and a delta answer as a dictionary of items would."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from service.catalog.bases import Bases, Catalog
from service.catalog.compaction_policy import COMPACTION_POLICY
from service.catalog.ids import Ids
from service.catalog.live_items import LiveItems
from service.catalog.verify import find_living_rows
from service.state import ChangedItem, Changes, DomainRecord

WIDTH = 4
RECORD = DomainRecord("movies", "f", incarnation="b1")


@dataclass(frozen=True)
class KnownRows:
    """An item as the plain model has it."""

    vector: np.ndarray
    popularity: float
    available: bool


def vector_of(rng: random.Random) -> np.ndarray:
    return np.array([rng.gauss(0, 1) for _ in range(WIDTH)], np.float32)


def catalog_of(model: dict[str, KnownRows], generation: int) -> Catalog:
    """Return what a base keeps of the model's items."""
    popularity = np.array([known.popularity for known in model.values()], np.float64)
    available = np.array([known.available for known in model.values()], np.bool_)
    return Catalog(generation, np.arange(len(model)), list(model), popularity, available)


def built(
    bases: Bases, model: dict[str, KnownRows], generation: int, incarnation: str = "b1"
) -> LiveItems:
    """Write a base of the model's items, and open it."""
    ids = list(model)
    with bases.writing(
        replace(RECORD, incarnation=incarnation), catalog_of(model, generation), generation, WIDTH
    ) as base:
        vectors = np.array([model[name].vector for name in ids], np.float32).reshape(-1, WIDTH)
        base.vectors("d" * 64, "float32")[base.places] = vectors
    found = bases.newest(RECORD, "d" * 64, "float32", None)
    assert found is not None
    return LiveItems.of(*found)


@pytest.fixture
def bases(tmp_path: Path) -> Bases:
    return Bases(tmp_path / "bases")


def changed(
    rng: random.Random, model: dict[str, KnownRows], generation: int
) -> tuple[Changes, np.ndarray]:
    """Change the model at random; return the same as changes and vectors."""
    upserted: dict[str, ChangedItem] = {}
    deleted: set[str] = set()
    for _ in range(rng.randint(1, 6)):
        name = f"i{rng.randrange(60)}"
        if rng.random() < 0.35:
            if model.pop(name, None) is not None:
                deleted.add(name)
            upserted.pop(name, None)
            continue
        old = model.get(name)
        # Another popularity, or availability, and the same text.
        if old is not None and rng.random() < 0.5:
            new = replace(old, popularity=float(rng.randrange(5)), available=rng.random() < 0.6)
        else:
            new = KnownRows(vector_of(rng), float(rng.randrange(5)), rng.random() < 0.8)
        model[name] = new
        deleted.discard(name)
        upserted[name] = ChangedItem(0, name, "", new.popularity, "", new.available)
    vectors = np.array([model[name].vector for name in upserted], np.float32).reshape(-1, WIDTH)
    return Changes(generation, list(upserted.values()), [(0, name) for name in deleted]), vectors


def check(items: LiveItems, model: dict[str, KnownRows], rng: random.Random) -> None:
    """Compare every question with the model's answer."""
    asked = [f"i{number}" for number in range(70)]
    rows = items.rows(asked)
    assert rows.keys() == model.keys()
    assert len(items) == len(model)
    assert items.ids(list(rows.values())) == list(rows)
    assert sorted(items.ids(find_living_rows(items))) == sorted(model)
    if rows:
        found = items.vectors(list(rows.values()))
        assert np.array_equal(found, np.array([model[name].vector for name in rows]))
    shown = {name: known for name, known in model.items() if known.available}
    users = np.array([vector_of(rng) for _ in range(3)], np.float32)
    for k in (1, 5, 100):
        scores, best = items.search(users, k)
        assert best.shape == (3, min(k, len(shown)))
        for user, line, places in zip(users, scores, best, strict=True):
            expected = sorted(
                (float(user @ known.vector) for known in shown.values()), reverse=True
            )[:k]
            assert np.allclose(line, expected, atol=1e-5)
            own = [float(user @ shown[name].vector) for name in items.ids(places)]
            assert np.allclose(own, line, atol=1e-5)
            assert len(set(places.tolist())) == len(places)
    popular = items.ids(items.popular(100))
    assert sorted(popular) == sorted(shown)
    assert [shown[name].popularity for name in popular] == sorted(
        (known.popularity for known in shown.values()), reverse=True
    )
    nearest, cosines = items.nearest(users[0], 5)
    assert all(name in shown for name in items.ids(nearest))
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize("seed", range(40))
def test_any_sequence_of_changes_and_compactions_answers_as_the_plain_model(
    bases: Bases, seed: int
) -> None:
    rng = random.Random(seed)
    model = {
        f"i{n}": KnownRows(vector_of(rng), float(rng.randrange(5)), rng.random() < 0.8)
        for n in range(rng.choice((0, 1, 30)))
    }
    items = built(bases, model, 1)
    check(items, model, rng)
    for generation in range(2, 14):
        changes, vectors = changed(rng, model, generation)
        items = items.with_changes(changes, vectors)
        again = items.with_changes(changes, vectors)  # an entry of the feed may be seen twice
        check(items, model, rng)
        check(again, model, rng)
        assert items.generation == generation
        if rng.random() < 0.15:
            items = built(bases, model, generation)
            check(items, model, rng)


def test_a_value_stays_as_it_is_when_another_is_made_of_it(bases: Bases) -> None:
    rng = random.Random(0)
    model = {f"i{n}": KnownRows(vector_of(rng), 1.0, available=True) for n in range(20)}
    items = built(bases, model, 1)
    before = dict(model)
    changes, vectors = changed(rng, model, 2)
    items.with_changes(changes, vectors)
    check(items, before, rng)


def test_a_compaction_is_due_after_a_thousand_rows_or_two_per_cent(bases: Bases) -> None:
    items = built(bases, {}, 1)

    def with_new(count: int) -> LiveItems:
        new = [ChangedItem(n, f"n{n}", "", 0.0, "", available=True) for n in range(count)]
        return items.with_changes(Changes(2, new, []), np.zeros((count, WIDTH), np.float32))

    policy = COMPACTION_POLICY
    assert not policy.is_due(with_new(policy.rows))
    assert policy.is_due(with_new(policy.rows + 1))


@pytest.fixture
def opened(bases: Bases) -> tuple[Bases, LiveItems]:
    rng = random.Random(0)
    return bases, built(
        bases, {f"i{n}": KnownRows(vector_of(rng), 1.0, available=True) for n in range(20)}, 1
    )


def test_a_base_that_is_removed_while_it_is_mapped_still_answers(
    opened: tuple[Bases, LiveItems],
) -> None:
    bases, items = opened
    users = np.ones((1, WIDTH), np.float32)
    before = items.search(users, 5)[0]
    bases.forget(RECORD)
    assert np.array_equal(items.search(users, 5)[0], before)
    assert bases.newest(RECORD, "d" * 64, "float32", None) is None


def test_the_base_of_a_domain_that_had_the_same_name_is_never_taken(
    opened: tuple[Bases, LiveItems],
) -> None:
    bases, _ = opened
    assert bases.newest(replace(RECORD, incarnation="b2"), "d" * 64, "float32", None) is None
    assert bases.newest(RECORD, "e" * 64, "float32", None) is None


@pytest.mark.parametrize(
    "name", ["ids.npy", "hashes.npy", "popularity.npy", "vectors-*.npy", "card.json"]
)
def test_a_damaged_file_makes_a_base_absent(
    opened: tuple[Bases, LiveItems], tmp_path: Path, name: str
) -> None:
    assert opened[1].generation == 1
    [path] = (tmp_path / "bases").glob(f"*/*/{name}")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Bases(tmp_path / "bases").newest(RECORD, "d" * 64, "float32", None) is None


def test_what_a_killed_builder_left_is_no_base(bases: Bases, tmp_path: Path) -> None:
    catalog = catalog_of({"a": KnownRows(np.zeros(WIDTH, np.float32), 0.0, available=True)}, 1)

    def interrupted() -> None:
        with bases.writing(RECORD, catalog, 1, WIDTH) as base:
            base.vectors("d" * 64, "float32")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "bases" / "movies").iterdir()) == []


def test_ids_of_equal_hashes_are_distinguished() -> None:
    # A well-known pair of words with one CRC-32.
    ids = Ids.of(["plumless", "other", "buckeroo", ""])
    assert ids.rows(["buckeroo", "plumless", "absent", ""]) == {"buckeroo": 2, "plumless": 0, "": 3}
    assert [ids[row] for row in range(4)] == ["plumless", "other", "buckeroo", ""]


def test_a_base_that_its_builder_made_before_it_was_killed_stays_when_it_is_made_again(
    bases: Bases,
) -> None:
    rng = random.Random(5)
    model = {f"i{n}": KnownRows(vector_of(rng), float(n), available=True) for n in range(4)}
    first = built(bases, model, 1)
    again = built(bases, model, 1)
    assert again.base is first.base
    assert not list(first.base.path.parent.glob(".*"))
