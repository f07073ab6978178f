"""Item vectors kept on disk between restarts, by version, each under the hash of the content it came from.

The files are derived: losing one costs an embedding, never an answer. A vector is found by its content, so a file of
another catalog generation is no danger, only less useful.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from adapters_store.files import PART, write_beside
from transrec.adapters import Adapter
from transrec.backbone import Backbone
from transrec.content import KEY_BYTES, Content
from transrec.embed import embed_batches

KEEP_EVERY_S = 20.0
LOCK = ".lock"
ABANDONED_S = 3600.0

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]


class VectorFiles:
    """One file a version in `<data>/vectors/<domain>/`.

    Several processes read and add; what a killed one had half written is removed after a while.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for path in folder.glob(f"*/.*{PART}"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    def complete(
        self,
        domain: str,
        digest: str,
        contents: Sequence[Content],
        backbone: Backbone,
        adapter: Adapter | None,
        dtype: str,
        progress: Progress | None = None,
    ) -> Floats:
        """Return vectors [n, d] of contents under a version, embedding only those that have none yet.

        What is embedded is kept every few seconds, so that an interrupted embedding goes on where it was.
        """
        path = self._path(domain, digest, dtype)
        known = _read(path, backbone.config.width)
        keys = [content.key() for content in contents]
        missing = dict(zip(keys, contents, strict=True))
        todo = [key for key in missing if key not in known]
        done, kept = 0, time.monotonic()
        for places, vectors in embed_batches(backbone, [missing[key] for key in todo], adapter, dtype=dtype):
            known.update(zip((todo[place] for place in places), vectors, strict=True))
            done += len(places)
            if progress is not None:
                progress(done, len(todo))
            if time.monotonic() - kept > KEEP_EVERY_S:
                self._add(path, {key: known[key] for key in todo[:done]}, backbone.config.width)
                kept = time.monotonic()
        if todo:
            self._add(path, {key: known[key] for key in todo}, backbone.config.width)
        table = np.empty((len(keys), backbone.config.width), np.float32)
        for row, key in enumerate(keys):
            table[row] = known[key]
        return table

    def missing(self, domain: str, digest: str, dtype: str, contents: Sequence[Content]) -> int:
        """Count the contents that have no vector under a version yet."""
        known = _read(self._path(domain, digest, dtype), None)
        return len({content.key() for content in contents} - known.keys())

    def _path(self, domain: str, digest: str, dtype: str) -> Path:
        return self._folder / domain / f"{digest[:32]}-{dtype}.safetensors"

    def _add(self, path: Path, found: dict[bytes, Floats], width: int) -> None:
        """Add vectors to a file that other processes add to as well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(path, _read(path, width) | found)

    def forget(self, domain: str, digest: str | None = None) -> None:
        """Remove a version's file, or all of a domain."""
        for path in (self._folder / domain).glob(f"{digest[:32]}-*" if digest else "*"):
            path.unlink(missing_ok=True)

    def keep(self, domain: str, digests: Collection[str]) -> None:
        """Remove the files of every version that is not one of these."""
        kept = {digest[:32] for digest in digests}
        for path in (self._folder / domain).glob("*.safetensors"):
            if path.name.partition("-")[0] not in kept:
                path.unlink(missing_ok=True)


def _read(path: Path, width: int | None) -> dict[bytes, Floats]:
    """Read a file; one that is damaged, or of another width, counts as not there."""
    try:
        with safe_open(path, "numpy") as file:
            keys, vectors = file.get_tensor("keys"), file.get_tensor("vectors")
            digest = json.loads((file.metadata() or {}).get("swaprec", "{}")).get("digest")
    except (FileNotFoundError, SafetensorError, ValueError):
        return {}
    if (
        digest != _digest(keys, vectors)
        or vectors.shape[1:] not in ((width,), vectors.shape[1:] if width is None else ())
        or keys.shape[1:] != (KEY_BYTES,)
    ):
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _write(path: Path, known: dict[bytes, Floats]) -> None:
    keys = np.frombuffer(b"".join(known), np.uint8).reshape(-1, KEY_BYTES)
    vectors = np.stack(list(known.values()))
    content = save(
        {"keys": keys.copy(), "vectors": vectors}, {"swaprec": json.dumps({"digest": _digest(keys, vectors)})}
    )
    write_beside(path, content)


def _digest(keys: NDArray[np.uint8], vectors: Floats) -> str:
    total = hashlib.sha256(np.ascontiguousarray(keys).tobytes())
    total.update(np.ascontiguousarray(vectors).tobytes())
    return total.hexdigest()
