"""Bodies of imports wait in files: bounded together, durable once they are a job's, and removed
when nobody will import them.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path

import anyio

from adapters_store.files import PART, room_or_error, sync_file, sync_folder
from service.errors import AtCapacity, PayloadTooLarge

MAX_ARRAY_BYTES = 64 * 1024 * 1024
"""A JSON array must fit in memory; NDJSON need not."""
ABANDONED_S = 3600.0
COUNTED_BYTES = 16 * 1024 * 1024
"""After so much of a body everything that waits is counted again."""


class Spool:
    """Files in one folder, shared by all domains and processes.

    A file that ends with `.part` is on its way in; `keep` takes the ending away.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove what nobody will import any more: not named in `wanted`, and too old to be on its
        way in.
        """
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in wanted and time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    async def receive(self, body: AsyncIterator[bytes], max_bytes: int, *, ndjson: bool) -> Path:
        """Write a body to a file of its own while it comes.

        Raises:
            PayloadTooLarge: an array that must fit in memory, or more than `max_bytes`; OutOfSpace;
            AtCapacity: what waits here takes more than it may. Nothing is left.
        """
        limit = max_bytes if ndjson else min(max_bytes, MAX_ARRAY_BYTES)
        path = self._new_path("ndjson" if ndjson else "json")
        try:
            await anyio.to_thread.run_sync(self._check_room)
            with room_or_error(self.folder):
                async with await anyio.open_file(path, "wb") as file:
                    await self._write(file, body, limit, ndjson=ndjson)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def write(self, content: bytes) -> Path:
        """Write what is in memory to a file of its own.

        Raises:
            OutOfSpace.
        """
        path = self._new_path("ndjson")
        with room_or_error(self.folder):
            path.write_bytes(content)
        return path

    def keep(self, path: Path) -> Path:
        """Make a file durable, under the name that it has from here on.

        Raises:
            OutOfSpace.
        """
        with room_or_error(self.folder):
            sync_file(path)
        kept = path.rename(path.with_suffix(""))
        sync_folder(self.folder)
        return kept

    def remove(self, path: Path) -> None:
        """Remove a file, whether `keep` gave it its new name already or not."""
        path.unlink(missing_ok=True)
        path.with_suffix("").unlink(missing_ok=True)

    def _new_path(self, kind: str) -> Path:
        return self.folder / f"{uuid.uuid4().hex}.{kind}{PART}"

    async def _write(
        self, file: anyio.AsyncFile[bytes], body: AsyncIterator[bytes], limit: int, *, ndjson: bool
    ) -> None:
        """Write a body to an open file, and count from time to time what waits."""
        size = 0
        counted = 0
        async for chunk in body:
            size += len(chunk)
            _check_size(size, limit, ndjson=ndjson)
            await file.write(chunk)
            if size - counted > COUNTED_BYTES:
                counted = size
                await anyio.to_thread.run_sync(self._check_room)

    def _check_room(self) -> None:
        """Refuse more where too much waits, of all domains and processes that share the folder."""
        waiting = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    waiting += entry.stat().st_size
        if waiting > self._max_bytes:
            raise AtCapacity(
                f"imports of {waiting} bytes wait already, at most {self._max_bytes} are kept"
            )


def _check_size(size: int, limit: int, *, ndjson: bool) -> None:
    if size > limit:
        hint = "" if ndjson else "; send it as application/x-ndjson, one item a line"
        raise PayloadTooLarge(f"more than {limit} bytes of items{hint}")
