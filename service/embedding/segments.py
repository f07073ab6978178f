"""Vectors by the key of their content, in files that are only ever added: several processes read
and add at once.

A segment holds keys, sorted by their first eight bytes, and their vectors; its name carries the
digest of its bytes. A temporary file is written and renamed, so that what a killed process left is
never used. When there are many, the smaller ones are merged.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters_store.files import PART, room_or_error
from transrec.arrays import Floats
from transrec.content import KEY_BYTES

SUFFIX = ".segment"
LOCK = ".lock"
MAX_SEGMENTS = 24
ABANDONED_S = 3600.0
COPY_BLOCK_ROWS = 16_384

KeyBytes = NDArray[np.uint8]


class Segment:
    """One file, mapped: `keys [n, 16]` and `vectors [n, d]`."""

    def __init__(self, path: Path, width: int) -> None:
        """Map a file.

        Raises:
            OSError: it is gone; ValueError: it is not what was written, or of another width.
        """
        row = KEY_BYTES + 4 * width
        # Read for its digest, not mapped: of what is mapped only what is looked up takes memory.
        if path.stem != _content_name(path) or path.stat().st_size % row:
            raise ValueError(f"{path.name} is damaged, or of another width than {width}")
        content = np.memmap(path, np.uint8, "r")
        self._path = path
        self._size = content.size
        count = content.size // row
        self.keys: KeyBytes = np.asarray(content[: count * KEY_BYTES]).reshape(count, KEY_BYTES)
        self.vectors: Floats = (
            np.asarray(content[count * KEY_BYTES :]).view(np.float32).reshape(count, width)
        )
        self._heads = _heads(self.keys)

    def is_cut(self) -> bool:
        """Whether its file lost some of its end: reading what it lacks would kill the process."""
        try:
            return self._path.stat().st_size < self._size
        except OSError:  # merged into another one; it stays whole while it is mapped
            return False

    def find(self, keys: KeyBytes, heads: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each key, -1 where it is not here."""
        places = np.minimum(np.searchsorted(self._heads, heads), len(self._heads) - 1)
        there = (self.keys[places] == keys).all(1)
        return np.where(there, places, -1)


class Segments:
    """All segments of a folder."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._width = width
        self._opened: dict[str, Segment | None] = {}

    def look_up(self, keys: KeyBytes, out: Floats | None = None) -> NDArray[np.bool_]:
        """Return which keys [n, 16] have a vector; write those into their rows of `out [n, d]`."""
        found = np.zeros(len(keys), np.bool_)
        if not len(keys):
            return found
        heads = _heads(keys)
        for segment in self._segments():
            left = np.flatnonzero(~found)
            if not len(left):
                break
            rows = segment.find(keys[left], heads[left])
            hit = rows >= 0
            found[left[hit]] = True
            if out is not None:
                out[left[hit]] = segment.vectors[rows[hit]]
        return found

    def add(self, keys: KeyBytes, vectors: Floats) -> None:
        """Keep vectors [n, d] under their keys [n, 16].

        Raises:
            OutOfSpace: nothing was kept.
        """
        if not len(keys):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write(keys, vectors)
        if len(list(self._folder.glob(f"*{SUFFIX}"))) > MAX_SEGMENTS:
            self._merge()

    def _segments(self) -> list[Segment]:
        """Return the segments that are there now, the largest first."""
        while not self._open_all():  # merged in between: what was in several is in one now
            pass
        return sorted(
            (one for one in self._opened.values() if one is not None),
            key=lambda one: -len(one.keys),
        )

    def _open_all(self) -> bool:
        """Map what is there and was not yet; whether all of it still was."""
        names = {path.name for path in self._folder.glob(f"*{SUFFIX}")}
        for name in self._opened.keys() - names:
            del self._opened[name]
        for name, segment in self._opened.items():
            if segment is not None and segment.is_cut():
                self._opened[name] = None
        for name in names - self._opened.keys():
            try:
                self._opened[name] = Segment(self._folder / name, self._width)
            except FileNotFoundError:
                return False
            except (OSError, ValueError):
                self._opened[name] = None  # derived: what is damaged is made again
        return True

    def _write(self, keys: KeyBytes, vectors: Floats) -> None:
        order = np.argsort(_heads(keys), kind="stable")
        self._write_rows(keys[order], [np.ascontiguousarray(vectors[order], np.float32)])

    def _write_merged(self, parts: Sequence[Segment]) -> Path:
        """Write parts as one, each key once;
        vectors are copied block by block, so that memory holds few of them.
        """
        keys = np.concatenate([part.keys for part in parts])
        _, first = np.unique(keys, axis=0, return_index=True)
        rows = first[np.argsort(_heads(keys[first]), kind="stable")]
        ends = np.cumsum([len(part.keys) for part in parts])

        def blocks() -> Iterator[Floats]:
            for start in range(0, len(rows), COPY_BLOCK_ROWS):
                some = rows[start : start + COPY_BLOCK_ROWS]
                owners = np.searchsorted(ends, some, side="right")
                block = np.empty((len(some), self._width), np.float32)
                for number in np.unique(owners):
                    mine = np.flatnonzero(owners == number)
                    begins = ends[number] - len(parts[number].keys)
                    block[mine] = parts[number].vectors[some[mine] - begins]
                yield block

        return self._write_rows(keys[rows], blocks())

    def _write_rows(self, keys: KeyBytes, vectors: Iterable[Floats]) -> Path:
        temporary = self._folder / f".{uuid.uuid4().hex}{PART}"
        try:
            with room_or_error(self._folder), temporary.open("wb") as file:
                file.write(np.ascontiguousarray(keys).data)
                for block in vectors:
                    file.write(block.data)
            return temporary.rename(self._folder / f"{_content_name(temporary)}{SUFFIX}")
        finally:
            temporary.unlink(missing_ok=True)

    def _merge(self) -> None:
        """Make one segment of the smaller ones, unless another process does."""
        with (self._folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._sweep()
            paths = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_size)
            if len(paths) <= MAX_SEGMENTS:  # another process was here in between
                return
            merged = _worth_merging(paths)
            whole = [part for part in map(self._opened_one, merged) if part is not None]
            written = self._write_merged(whole) if whole else None
            for path in merged:
                # Equal contents have one name: what is in a larger part adds nothing to it.
                if path != written:
                    path.unlink(missing_ok=True)

    def _opened_one(self, path: Path) -> Segment | None:
        """Map a segment, None where it is damaged."""
        with suppress(ValueError):
            return Segment(path, self._width)
        return None

    def _sweep(self) -> None:
        for path in self._folder.glob(f".*{PART}"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()


def as_keys(keys: Sequence[bytes]) -> KeyBytes:
    """Return keys as an array [n, 16]."""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)


def _worth_merging(paths: Sequence[Path]) -> list[Path]:
    """Return the smallest files, up to one that is much
    larger than all before it: that one is left as it is.
    """
    chosen: list[Path] = []
    total = 0
    for path in paths:
        size = path.stat().st_size
        if len(chosen) > 1 and size > 4 * total:
            break
        chosen.append(path)
        total += size
    return chosen


def _heads(keys: KeyBytes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def _content_name(path: Path) -> str:
    """Return what a segment with this content is called."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
