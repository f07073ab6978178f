"""What an item is made of, as the encoders read it: a text, a picture, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transrec.images import ImageError, digest_of

KEY_BYTES = 16
BETWEEN = "\x1f"
"""Stands between the attributes of a text:
the control character that was made to separate units.
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by its content's digest; its bytes are read when it is embedded, and not kept.

    Two of one digest are equal, wherever they lie.
    """

    digest: str
    read: Callable[[], bytes] = field(compare=False)
    name: str = field(default="image", compare=False)

    @classmethod
    def of(cls, content: bytes, name: str = "image") -> Picture:
        """A picture in memory."""
        return cls(digest_of(content), lambda: content, name)

    @classmethod
    def at(cls, path: Path, digest: str | None = None) -> Picture:
        """A picture in a file; without its digest the file is read once to find it.

        Raises:
            ImageError: the file cannot be read.
        """
        return cls(digest or digest_of(_read(path)), lambda: _read(path), path.name)


@dataclass(frozen=True, slots=True)
class Content:
    """A text and a picture, of which either may be missing; missing text is empty.

    A text may have several attributes, such as title and abstract: `joined` makes one of them.
    """

    text: str = ""
    image: Picture | None = None

    def key(self) -> bytes:
        """A short name of the content: equal contents have equal names.

        A text alone is named by its own bytes, so that catalogs of texts keep the vectors they
        have.
        """
        named = self.text.encode()
        if self.image is not None:
            # No text begins with this byte.
            named = b"\xff" + bytes.fromhex(self.image.digest) + named
        return hashlib.blake2b(named, digest_size=KEY_BYTES).digest()


def joined(attributes: Sequence[str]) -> str:
    """Make one text of several attributes; what is empty at the end is left out."""
    cleaned = [attribute.replace(BETWEEN, " ") for attribute in attributes]
    return BETWEEN.join(cleaned).rstrip(BETWEEN)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: cannot be read: {error.strerror}") from error
