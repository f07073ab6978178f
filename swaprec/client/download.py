"""A file that appears whole, with the digest that was promised, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self


class Download:
    """Collects chunks beside a place and moves them there when the block ends well."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._digest = digest
        self._sum = hashlib.sha256()

    def __enter__(self) -> Self:
        self._file = self._part.open("wb")
        return self

    def write(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._sum.update(chunk)
        self._file.write(chunk)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Move the file to its place.

        Raises:
            OSError: what came has another digest.
        """
        self._file.close()
        try:
            if error is None:
                if self._sum.hexdigest() != self._digest:
                    raise OSError(
                        f"what came for {self._path} is not what the card names: try again"
                    )
                self._part.rename(self._path)
        finally:
            self._part.unlink(missing_ok=True)
