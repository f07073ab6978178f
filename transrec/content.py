"""What an item is made of, as the encoders read it: a text, a picture, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from transrec.image_lmdb import ImageLmdb, is_lmdb
from transrec.images import ImageError, digest_of

KEY_BYTES = 16
BETWEEN = "\x1f"
"""Stands between the attributes of a text: the control character that was made to separate units."""


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

        A text alone is named by its own bytes, so that catalogs of texts keep the vectors they have.
        """
        named = self.text.encode()
        if self.image is not None:
            named = b"\xff" + bytes.fromhex(self.image.digest) + named  # no text begins with this byte
        return hashlib.blake2b(named, digest_size=KEY_BYTES).digest()


def joined(attributes: Sequence[str]) -> str:
    """Make one text of several attributes; what is empty at the end is left out."""
    cleaned = [attribute.replace(BETWEEN, " ") for attribute in attributes]
    return BETWEEN.join(cleaned).rstrip(BETWEEN)


class Pictures:
    """The pictures of a data set: files in a folder, in a zip that is never unpacked, or in an LMDB.

    Raises:
        ImageError: there is no such folder, zip or LMDB.
    """

    def __init__(self, source: Path) -> None:
        self._lmdb = ImageLmdb(source) if is_lmdb(source) else None
        self._zip = None if source.is_dir() or self._lmdb is not None else _open_zip(source)
        self._folder = source
        self._members: dict[str, list[str]] = {}
        for member in () if self._zip is None else self._zip.namelist():
            self._members.setdefault(member.rpartition("/")[2], []).append(member)

    def find(self, name: str) -> Picture | None:
        """Return a picture by its file name, or the end of its path in a zip; None where there is none.

        Raises:
            ImageError: it is there and cannot be read, or several are meant.
        """
        if self._lmdb is not None:
            return _stored(self._lmdb, name)
        if self._zip is None:
            path = self._folder / name
            inside = path.resolve().is_relative_to(self._folder.resolve())
            return Picture.at(path) if inside and path.is_file() else None
        member = self._meant(name)
        if member is None:
            return None
        return Picture(digest_of(self._member(member)), lambda: self._member(member), name)

    def _meant(self, name: str) -> str | None:
        members = self._members.get(name.rpartition("/")[2], [])
        found = [name] if name in members else [member for member in members if f"/{member}".endswith(f"/{name}")]
        if len(found) > 1:
            raise ImageError(f"{name}: {self._folder.name} holds {' and '.join(found[:2])}: name one with its folder")
        return found[0] if found else None

    def _member(self, name: str) -> bytes:
        assert self._zip is not None  # noqa: S101 - its names came from there
        try:
            return self._zip.read(name)
        except (OSError, BadZipFile, RuntimeError) as error:
            raise ImageError(f"{name}: cannot be read from {self._folder.name}: {error}") from error


def _stored(pictures: ImageLmdb, name: str) -> Picture | None:
    key = pictures.find(name)
    if key is None:
        return None
    return Picture(digest_of(pictures.read(key, name)), lambda: pictures.read(key, name), name)


def _open_zip(source: Path) -> ZipFile:
    try:
        return ZipFile(source)
    except FileNotFoundError as error:
        raise ImageError(f"{source}: there is no such folder or zip of images") from error
    except (OSError, BadZipFile) as error:
        raise ImageError(f"{source} is no zip: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: cannot be read: {error.strerror}") from error
