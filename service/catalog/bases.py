"""Bases: a catalog at one generation with vectors by version, as files that all processes of a host
map.

A base lies in `<data>/bases/<domain>/<incarnation>-<generation>-<token>/`. Its folder appears by
one rename and is never changed; it names the domain's birth, so that the files of a domain that was
deleted are never taken for those of its successor, and the fencing token of its builder. Bases are
derived: losing one costs an embedding, never an answer.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from adapters_store.files import PART, atomic_write, digest_of, room_or_error, sync_folder
from service.catalog.ids import FILES, Ids
from service.catalog.index import ExactIndex, Index, Tuned, TunedIndex
from service.catalog.mapped import forget_pages, is_cut, open_array
from service.state import DomainRecord
from transrec.arrays import Floats

CARD = "card.json"
INDEX = ".faiss"
KEPT_BASES = 2
MAX_CHECKED_BASES = 4
_POPULARITY = ("popularity", "by_popularity")


_log = logging.getLogger("swaprec")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Base:
    """What versions share of a catalog: ids, popularity, and which items may be recommended.

    The first `recommendable` rows may be, the others are not available. `by_popularity` lists those
    rows, most popular first, earlier items first among equals.
    """

    path: Path
    generation: int
    ids: Ids
    popularity: NDArray[np.float64]
    by_popularity: NDArray[np.int32]
    recommendable: int

    @classmethod
    def empty(cls, generation: int) -> Base:
        """Return a catalog without items."""
        nothing = np.zeros(0, np.float64), np.zeros(0, np.int32)
        return cls(Path(), generation, Ids.of([]), *nothing, 0)

    @property
    def is_kept(self) -> bool:
        """Whether it lies on the disk; the one before the first does not."""
        return self.path != Path()

    def forget_pages(self) -> None:
        """Take what is mapped from memory until it is read again."""
        self.ids.forget_pages()
        for array in (self.popularity, self.by_popularity):
            forget_pages(array)

    def is_cut(self) -> bool:
        """Whether a mapped file lost some of its end."""
        return self.ids.is_cut() or is_cut(self.popularity) or is_cut(self.by_popularity)

    @property
    def nbytes(self) -> int:
        """Bytes that are mapped."""
        return self.ids.nbytes + self.popularity.nbytes + self.by_popularity.nbytes


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a base keeps of a catalog, in the order of its `rows [n]`, which rise.

    It has every change up to `generation`, and may have later ones: they are applied again when the
    base is used.
    """

    generation: int
    rows: NDArray[np.int64]
    ids: list[str]
    popularity: NDArray[np.float64]
    available: NDArray[np.bool_]


@dataclass(slots=True)
class BaseWriter:
    """A base on its way: vectors are written into mapped files, row by row of the base.

    `places [n]` says in which row of the base the catalog's i-th item is.
    """

    folder: Path
    catalog: Catalog
    places: NDArray[np.int64]
    width: int
    indexes: dict[str, Tuned] = field(default_factory=dict)
    verified: list[str] = field(default_factory=list)

    @property
    def recommendable(self) -> int:
        """How many items may be recommended."""
        return int(self.catalog.available.sum())

    def vectors(self, digest: str, dtype: str) -> Floats:
        """Return an array [n, d] of zeros,
        to be filled with a version's vectors, backed by its file.
        """
        path = self.vectors_path(digest, dtype)
        shape = (len(self.places), self.width)
        if not len(self.places):
            np.save(path, np.zeros(shape, np.float32))
            return np.zeros(shape, np.float32)
        return np.lib.format.open_memmap(path, "w+", np.float32, shape)

    def vectors_path(self, digest: str, dtype: str) -> Path:
        """Return the file of a version's vectors."""
        return self.folder / _vectors_name(digest, dtype)

    def base(self) -> Base:
        """Return what versions will share of it."""
        return _opened(self.folder, self.catalog.generation, self.recommendable)

    def index_path(self, digest: str, dtype: str) -> Path:
        """Return where a version's index is to be written."""
        return self.vectors_path(digest, dtype).with_suffix(INDEX)

    def has_index(self, digest: str, dtype: str, tuned: Tuned) -> None:
        """Say that a version has an index, and how it was tuned."""
        self.indexes[self.index_path(digest, dtype).name] = tuned

    def is_verified(self, digest: str, dtype: str) -> None:
        """Say that a version's vectors passed `service.catalog.verify`."""
        self.verified.append(_vectors_name(digest, dtype))


class Bases:
    """All bases of a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: WeakValueDictionary[Path, Base] = WeakValueDictionary()
        self._checked: dict[Path, dict[Path, set[str]]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def writing(
        self, record: DomainRecord, catalog: Catalog, token: int, width: int
    ) -> Iterator[BaseWriter]:
        """Write a base of a catalog; it is there when the block ends without an error.

        The rows of the base are those items that may be recommended, then the others, each in the
        catalog's order.
        """
        home = self._home(record)
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob(f".*{PART}"):  # of a builder that was killed, or has lost its claim
            shutil.rmtree(left, ignore_errors=True)
        part = home / f".{uuid.uuid4().hex}{PART}"
        try:
            with room_or_error(home):
                part.mkdir()
                writer = BaseWriter(part, catalog, _save_catalog(part, catalog), width)
                yield writer
                _seal(part, writer)
                path = home / f"{record.mark}-{catalog.generation:012}-{token:012}"
                # Otherwise a worker that was killed after this had made it.
                if not path.exists():
                    part.rename(path)
            sync_folder(home)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def newest(
        self, record: DomainRecord, digest: str, dtype: str, than: Base | None
    ) -> tuple[Base, Floats, Index] | None:
        """Return the newest base that has a version's vectors, them and their index; None if none
        is newer than `than`.

        A base that is damaged counts as absent.
        """
        for path in self._paths(record):
            if than is not None and path.name <= than.path.name:
                return None
            if not (path / _vectors_name(digest, dtype)).exists():
                continue
            try:
                base = self._open(path)
                matrix = self._matrix(path, _vectors_name(digest, dtype))
                return (
                    base,
                    matrix,
                    self._index(path, _vectors_name(digest, dtype), matrix[: base.recommendable]),
                )
            except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: of FAISS
                _log.warning("%s cannot be used: %s", path, error)
        return None

    def verified(self, base: Base, digest: str, dtype: str) -> bool:
        """Whether a version's vectors were verified when a base was built."""
        if not base.is_kept:
            return False
        card = json.loads((base.path / CARD).read_text("utf-8"))
        return _vectors_name(digest, dtype) in card.get("verified", ())

    def holds(self, record: DomainRecord, digest: str, dtype: str) -> bool:
        """Whether the newest base has a version's vectors, verified."""
        newest = next(iter(self._paths(record)), None)
        if newest is None:
            return False
        card = json.loads((newest / CARD).read_text("utf-8"))
        return _vectors_name(digest, dtype) in card.get("verified", ())

    def generation(self, record: DomainRecord) -> int:
        """Return the newest base's catalog generation, -1 without one."""
        return next((int(path.name.split("-")[1]) for path in self._paths(record)), -1)

    def keep(self, record: DomainRecord) -> None:
        """Remove all but the newest bases; values that map one keep it."""
        mine = self._paths(record)
        for path in mine[KEPT_BASES:]:
            shutil.rmtree(path, ignore_errors=True)
        for path in self._home(record).glob("*"):
            if path not in mine and not path.name.startswith("."):  # of a domain that had this name
                shutil.rmtree(path, ignore_errors=True)

    def forget(self, record: DomainRecord) -> None:
        """Remove all bases of a domain."""
        shutil.rmtree(self._home(record), ignore_errors=True)

    def let_go(self, domain: str) -> None:
        """Forget what is known of a domain's files."""
        self._checked.pop(self._folder / domain, None)

    def _home(self, record: DomainRecord) -> Path:
        return self._folder / record.name

    def _paths(self, record: DomainRecord) -> list[Path]:
        home = self._home(record)
        mark = f"{record.mark}-"
        try:
            there = [path for path in home.iterdir() if path.name.startswith(mark)]
        except FileNotFoundError:
            return []
        return sorted(there, key=lambda path: path.name, reverse=True)

    def _open(self, path: Path) -> Base:
        with self._lock:
            known = self._opened.get(path)
            if known is not None and not known.is_cut():
                return known
            card = json.loads((path / CARD).read_text("utf-8"))
            for name in (*FILES, *_POPULARITY):
                self._check(path / f"{name}.npy", card["files"][f"{name}.npy"])
            base = self._opened[path] = _opened(path, card["generation"], card["recommendable"])
            return base

    def _matrix(self, path: Path, name: str) -> Floats:
        card = json.loads((path / CARD).read_text("utf-8"))
        self._check(path / name, card["files"][name])
        if not card["items"]:
            return np.zeros((0, card["width"]), np.float32)
        return open_array(path / name)

    def _index(self, path: Path, vectors_name: str, vectors: Floats) -> Index:
        card = json.loads((path / CARD).read_text("utf-8"))
        name = (path / vectors_name).with_suffix(INDEX).name
        if name not in card["indexes"]:
            return ExactIndex(vectors)
        self._check(path / name, card["files"][name])
        return TunedIndex(path / name, vectors, Tuned.parse(card["indexes"][name]))

    def _check(self, path: Path, digest: str) -> None:
        """Compare a file with its digest, once a process.

        Raises:
            ValueError: it is another one.
        """
        bases = self._checked.setdefault(path.parent.parent, {})
        checked = bases.setdefault(path.parent, set())
        if path.name not in checked and digest_of(path) != digest:
            raise ValueError(f"{path.name} is not what was written")
        checked.add(path.name)
        while len(bases) > MAX_CHECKED_BASES:
            bases.pop(next(iter(bases)), None)


def _vectors_name(digest: str, dtype: str) -> str:
    return f"vectors-{digest[:32]}-{dtype}.npy"


def _save_catalog(folder: Path, catalog: Catalog) -> NDArray[np.int64]:
    """Write what versions share; returns the row of the base of each item."""
    order = np.concatenate([np.flatnonzero(catalog.available), np.flatnonzero(~catalog.available)])
    popularity = catalog.popularity[order]
    Ids.of([catalog.ids[place] for place in order]).save(folder)
    np.save(folder / "popularity.npy", popularity)
    shown = popularity[: int(catalog.available.sum())]
    np.save(folder / "by_popularity.npy", np.argsort(-shown, kind="stable").astype(np.int32))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _opened(path: Path, generation: int, recommendable: int) -> Base:
    popularity, order = (open_array(path / f"{name}.npy") for name in _POPULARITY)
    return Base(path, generation, Ids.open(path), popularity, order, recommendable)


def _seal(folder: Path, writer: BaseWriter) -> None:
    """Digest and sync every file, the card last."""
    files = {}
    for path in sorted([*folder.glob("*.npy"), *folder.glob(f"*{INDEX}")]):
        files[path.name] = digest_of(path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            # It is never changed, and whoever cut it would kill the processes that map it.
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~0o222)
    card = {
        "generation": writer.catalog.generation,
        "items": len(writer.places),
        "recommendable": writer.recommendable,
        "verified": writer.verified,
        "indexes": {name: tuned.to_json() for name, tuned in writer.indexes.items()},
        "width": writer.width,
        "files": files,
    }
    atomic_write(folder / CARD, json.dumps(card).encode())
