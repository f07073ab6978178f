"""Item vectors kept on disk, by version, each under the key of the content it came from.

They are derived: losing one costs an embedding, never an answer. A vector is found by its content,
so that what is here serves every catalog generation.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.embedding.segments import KeyBytes, Segments, as_keys
from service.embedding.versions import Prepared
from service.embedding.worker import WorkerProcess
from transrec.adapters import Adapter
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.embed import embed_batches
from transrec.progress import OnProgress

KEEP_EVERY_S = 10.0
MAX_OPEN_SEGMENT_FOLDERS = 16
"""Of so many versions segments stay mapped; a base holds the vectors that answers come from."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """Segments, and whose turn it is to read them."""

    segments: Segments
    turn: threading.Lock = field(default_factory=threading.Lock)


class VectorFiles:
    """A folder of segments a version in `<data>/vectors/<domain>/`; safe for several processes and
    threads.

    Args:
        folder: of all domains.
        worker: embeds what is much, in a process of its own; without it everything is embedded
            here.
    """

    def __init__(self, folder: Path, worker: WorkerProcess | None = None) -> None:
        self._folder = folder
        self._worker = worker
        self._opened: OrderedDict[Path, _Opened] = OrderedDict()
        self._opening = threading.Lock()

    def complete(
        self,
        domain: str,
        version: Prepared,
        contents: Sequence[Content],
        backbone: Backbone,
        progress: OnProgress | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Return vectors [n, d] of contents under a version, embedding only those that have none
        yet.

        What is embedded is kept every few seconds, so that an interrupted embedding goes on where
        it was.

        Args:
            domain: whose items.
            version: under which they are embedded.
            contents: n of them.
            backbone: of the domain.
            progress: called with (items embedded, items to embed); it may raise, to stop.
            out: where the vectors are written, [n, d].
        """
        keys = as_keys([content.key() for content in contents])
        vectors = np.empty((len(keys), backbone.config.width), np.float32) if out is None else out
        place = self._place(domain, version.digest, version.dtype)
        missing = self._look_up(place, keys, vectors)
        if not len(missing):
            return vectors
        _, first = np.unique(keys[missing], axis=0, return_index=True)
        todo = [contents[place] for place in missing[np.sort(first)]]
        if self._worker is not None and self._worker.takes(len(todo), backbone):
            self._worker.embed(backbone, version.bundle, version.dtype, todo, place, progress)
        else:
            segments = Segments(place, backbone.config.width)
            embed_into(segments, backbone, version.adapter, version.dtype, todo, progress)
        rest = np.empty((len(missing), backbone.config.width), np.float32)
        left = self._look_up(place, keys[missing], rest)
        if len(left):
            raise RuntimeError(
                f"{len(left)} vectors of {domain} were lost while they were kept: try again"
            )
        vectors[missing] = rest
        return vectors

    def missing(
        self, domain: str, version: Prepared, contents: Sequence[Content], width: int
    ) -> int:
        """Count the contents that have no vector of this width under a version yet."""
        keys = as_keys([content.key() for content in contents])
        place = self._place(domain, version.digest, version.dtype)
        left = self._look_up(place, keys, np.empty((len(keys), width), np.float32))
        return len(np.unique(keys[left], axis=0))

    def forget(self, domain: str) -> None:
        """Remove all of a domain."""
        self.sweep(domain, list)
        shutil.rmtree(self._folder / domain, ignore_errors=True)

    def sweep(self, domain: str, wanted: Callable[[], Collection[str]]) -> None:
        """Remove the vectors of what is not wanted,
        by digest; `wanted` is asked after what is there was listed.
        """
        there = list((self._folder / domain).glob("*"))
        kept = {digest[:32] for digest in wanted()}
        for path in there:
            if path.name.partition("-")[0] not in kept:
                self._remove(path)

    def _look_up(self, path: Path, keys: KeyBytes, out: Floats) -> NDArray[np.int64]:
        """Write the vectors that are known into `out`; return the places of the others."""
        opened = self._open(path, out.shape[1])
        with opened.turn:
            return np.flatnonzero(~opened.segments.look_up(keys, out))

    def _open(self, path: Path, width: int) -> _Opened:
        with self._opening:
            opened = self._opened.setdefault(path, _Opened(Segments(path, width)))
            self._opened.move_to_end(path)
            while len(self._opened) > MAX_OPEN_SEGMENT_FOLDERS:
                self._opened.popitem(last=False)
            return opened

    def let_go(self, domain: str) -> None:
        """Close what is open of a domain; its files stay."""
        with self._opening:
            for path in [path for path in self._opened if path.parent == self._folder / domain]:
                del self._opened[path]

    def _place(self, domain: str, digest: str, dtype: str) -> Path:
        return self._folder / domain / f"{digest[:32]}-{dtype}"

    def _remove(self, path: Path) -> None:
        with self._opening:
            self._opened.pop(path, None)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def embed_into(
    segments: Segments,
    backbone: Backbone,
    adapter: Adapter | None,
    dtype: str,
    contents: Sequence[Content],
    progress: OnProgress | None = None,
) -> None:
    """Embed distinct contents and keep their vectors, every few seconds and at the end."""
    keys = as_keys([content.key() for content in contents])
    places: list[NDArray[np.int64]] = []
    vectors: list[Floats] = []
    done = 0
    kept = time.monotonic()

    def keep() -> None:
        if places:
            segments.add(keys[np.concatenate(places)], np.concatenate(vectors))
            places.clear()
            vectors.clear()

    try:
        for some, found in embed_batches(backbone, contents, adapter, dtype=dtype):
            places.append(some)
            vectors.append(found)
            done += len(some)
            if progress is not None:
                progress(done, len(contents))
            if time.monotonic() - kept > KEEP_EVERY_S:
                keep()
                kept = time.monotonic()
    finally:
        keep()
