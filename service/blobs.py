"""Pictures of items, kept under the digest of their content: a new version embeds them again."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from adapters_store.files import PART, room_or_error
from transrec.content import Picture
from transrec.images import digest_of


class Blobs:
    """Files in `<data>/blobs/<two digits>/<digest>`. The same picture of many items, or domains, is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Write a picture, if it is not there yet, and return its digest; `settle` makes it survive a power cut.

        Raises:
            OutOfSpace: nothing is left behind.
        """
        digest = digest_of(content)
        path = self._path(digest)
        if path.is_file() and path.stat().st_size == len(content):  # a crash can leave a shorter one
            return digest
        beside = path.with_name(f".{uuid.uuid4().hex}{PART}")
        try:
            with room_or_error(self._folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(content)
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
        return digest

    def settle(self) -> None:
        """Bring everything that was kept to the disk: called once before many items are stored that name pictures."""
        os.sync()

    def picture(self, digest: str) -> Picture:
        """Return a picture that is kept; its file is read when it is embedded."""
        return Picture.at(self._path(digest), digest)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest
