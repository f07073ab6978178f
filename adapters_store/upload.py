"""A bundle on its way in: a temporary file that is hashed while it is written."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters_store.errors import BundleTooLarge
from adapters_store.files import PART, room_or_error
from adapters_store.header import refuse_other_formats


@dataclass(frozen=True, slots=True)
class Sealed:
    """A whole, synced file that waits to be added."""

    path: Path
    digest: str
    size: int


class Upload:
    """Write chunks, then `seal`. Leaving the context removes whatever was not added."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.path = folder / f"{uuid.uuid4().hex}{PART}"
        self.max_bytes = max_bytes
        self.size = 0
        self._hash = hashlib.sha256()
        with room_or_error(folder):
            self._file = self.path.open("xb")
        # Held while this process lives: what `sweep` finds unlocked was left by a crash.
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            BundleTooLarge: more than the limit; UnsupportedFormat: the first bytes are another
                format's; OutOfSpace.
        """
        if self.size == 0:
            refuse_other_formats(chunk)
        self.size += len(chunk)
        if self.size > self.max_bytes:
            raise BundleTooLarge(
                f"more than {self.max_bytes} bytes: a bundle holds adapter weights only"
            )
        self._hash.update(chunk)
        with room_or_error(self.path.parent):
            self._file.write(chunk)

    def seal(self) -> Sealed:
        """Sync the file and return what it is.

        Raises:
            OutOfSpace: the last bytes found no room.
        """
        with room_or_error(self.path.parent):
            self._file.flush()
            os.fsync(self._file.fileno())
        return Sealed(self.path, self._hash.hexdigest(), self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.path.unlink(missing_ok=True)  # gone already where it was added
        with room_or_error(self.path.parent):
            self._file.close()


def sweep(folder: Path) -> None:
    """Remove uploads of processes that are no longer there."""
    for path in folder.glob(f"*{PART}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            continue
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink(missing_ok=True)
