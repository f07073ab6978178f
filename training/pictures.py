"""The pictures of a data set, by the names that its items have."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from training.image_lmdb import ImageLmdb, is_lmdb
from transrec.content import Picture
from transrec.images import ImageError, digest_of


class Pictures:
    """The pictures of a data set: files in a folder, in a zip that is never unpacked, or in an
    LMDB.

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
        """Return a picture by its file name, or the end of its path in a zip; None where there is
        none.

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
        found = (
            [name]
            if name in members
            else [member for member in members if f"/{member}".endswith(f"/{name}")]
        )
        if len(found) > 1:
            raise ImageError(
                f"{name}: {self._folder.name} holds {' and '.join(found[:2])}: name one with its"
                " folder"
            )
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
