"""Pictures in an LMDB as Adapter4Rec, MoRec, NineRec and PixelRec keep them: item id → a pickled
`LMDB_Image`.

Nothing is unpickled. The pickle's opcodes are read as data: plain values are taken, and a name of
anything but that class is refused; nothing that a file names is imported or called.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path, PurePosixPath
from pickletools import genops
from typing import TYPE_CHECKING, Any

from transrec.images import ImageError, check_bytes, check_pixels

if TYPE_CHECKING:
    from lmdb import Environment

MAX_KEY_BYTES = 511
MAX_OPCODES = 64
"""Twice what such a pickle has."""
CHANNELS = 3
SHOWN = 80


def is_lmdb(source: Path) -> bool:
    """Say whether a path is a file `*.lmdb` or a folder with `data.mdb`."""
    return (source / "data.mdb").is_file() or (source.suffix == ".lmdb" and source.is_file())


class ImageLmdb:
    """The pictures of an LMDB, by the item's id.

    Raises:
        ImageError: it is no LMDB or cut off, or the package lmdb is missing.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._environment = _open(source.resolve())

    def find(self, name: str) -> bytes | None:
        """Return the key of a picture, None where there is none: `v17.jpg` is kept as `v17.jpg`,
        `v17` or `17`.

        Raises:
            ImageError: it cannot be looked up.
        """
        return next((key for key in _keys(name) if self._value(key, name) is not None), None)

    def read(self, key: bytes, name: str) -> bytes:
        """Return a picture as a BMP file: its pixels as they are, and the same bytes each time.

        Raises:
            ImageError: it is no `LMDB_Image` of RGB pixels, truncated, or too large.
        """
        return _bitmap(values_of(self._value(key, name) or b"", name), name)

    def _value(self, key: bytes, name: str) -> bytes | None:
        from lmdb import Error

        try:
            with self._environment.begin(buffers=True) as transaction:
                found: memoryview | None = transaction.get(key)
                if found is None:
                    return None
                check_bytes(len(found), name)
                return bytes(found)
        except Error as error:
            raise ImageError(f"{name}: cannot be read from {self._source.name}: {error}") from error


@functools.cache  # a process may open an LMDB once
def _open(source: Path) -> Environment:
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ImageError(
            f"{source.name}: to read an LMDB of images, pip install 'swaprec[train]'"
        ) from error
    try:
        found = lmdb.open(
            str(source), subdir=source.is_dir(), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise ImageError(f"{source} is no LMDB: {error}") from error
    file = source / "data.mdb" if source.is_dir() else source
    needed = (found.info()["last_pgno"] + 1) * found.stat()["psize"]
    # A page that is not there would end the process when it is read. A whole file is shorter only
    # where a transaction deleted what it had written at the end; the scripts that write pictures do
    # not delete.
    if file.stat().st_size < needed:
        found.close()
        raise ImageError(
            f"{source} is cut off: {file.stat().st_size} of {needed} bytes; fetch it again"
        )
    return found


def _keys(name: str) -> list[bytes]:
    """Return where a picture may be:
    under its file name, the item's id, or the number in it (as MoRec keeps H&M).
    """
    item = PurePosixPath(name).stem
    number = item.removeprefix("v").lstrip("0") or "0"
    keys = [one.encode() for one in (name, item, number if number.isdecimal() else item)]
    return [key for key in keys if 0 < len(key) <= MAX_KEY_BYTES]


def _bitmap(found: dict[str, object], name: str) -> bytes:
    """Make a file of what an `LMDB_Image` holds:
    `image` is uint8 [height, width, 3] in `size` and `channels`.
    """
    from PIL import Image

    channels, size, image = (found.get(key) for key in ("channels", "size", "image"))
    match size, image:
        case (int(height), int(width)), bytes(content) if (
            min(height, width) > 0 and channels == CHANNELS
        ):
            check_pixels(width, height, name)
        case _:
            kinds = ", ".join(
                f"{str(key)[:SHOWN]} ({type(value).__name__})" for key, value in found.items()
            )
            raise ImageError(
                f"{name}: expected channels 3, size (height, width) and image as bytes, got {kinds}"
            )
    if len(content) != height * width * CHANNELS:
        raise ImageError(f"{name}: {len(content)} bytes for {width} x {height} pixels of three")
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), content).save(file, "BMP")
    return file.getvalue()


def values_of(pickled: bytes, name: str = "image") -> dict[str, object]:
    """Return the attributes of a pickled `LMDB_Image`, protocol 2 or later, without unpickling it.

    Raises:
        ImageError: another class or opcode, which it names, or a truncated pickle.
    """
    reading = _Reading(name)
    try:
        for opcode, given, _ in islice(genops(pickled), MAX_OPCODES):
            reading.take(opcode.name, given)
        [found] = reading.stack
    except ImageError:
        raise
    except (ValueError, LookupError, TypeError) as error:  # what a damaged pickle leads to
        raise ImageError(f"{name}: no pickled LMDB_Image, damaged or truncated: {error}") from error
    if not isinstance(found, dict):
        raise ImageError(
            f"{name}: the pickle holds a {type(found).__name__}, expected an LMDB_Image"
        )
    return found


_MARK = object()
_IMAGE = object()
_ENCODE = object()


class _Reading:
    """The stack and the memo of a pickle; a class, a function and a mark are placeholders here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, opcode: str, given: object) -> None:
        """Follow one opcode.

        Raises:
            ImageError: it, or what it names, has no place in an `LMDB_Image`.
        """
        if opcode not in _STEPS:
            raise ImageError(
                f"{self.name}: the pickle has opcode {opcode}: only an LMDB_Image is read"
            )
        _STEPS[opcode](self, given)

    def leave(self, _: object) -> None:
        """Do nothing: the opcode tells the version, a frame or the end."""

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pair(self, _: object) -> None:
        second = self.stack.pop()
        first = self.stack.pop()
        if not isinstance(first, int | str) or not isinstance(second, int | str):
            raise TypeError("a pair of something else than numbers or texts")
        self.stack.append((first, second))

    def remember(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.stack.append(self.memo[place])

    def named(self, full: str) -> None:
        """Take the one class, or how protocol 2 writes bytes: as text that is encoded."""
        if full == "_codecs encode":
            self.stack.append(_ENCODE)
        elif full.endswith(" LMDB_Image"):  # the module is that of the script that wrote it
            self.stack.append(_IMAGE)
        else:
            raise ImageError(
                f"{self.name}: the pickle names {full[:SHOWN].replace(' ', '.')}: only LMDB_Image"
                " is read"
            )

    def named_by_stack(self, _: object) -> None:
        name = self.stack.pop()
        module = self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.named(f"{module} {name}")

    def new(self, _: object) -> None:
        if (self.stack.pop(), self.stack.pop()) != ((), _IMAGE):
            raise ValueError("an object that is no LMDB_Image")
        self.stack.append({})

    def encode(self, _: object) -> None:
        (text, codec), function = self.stack.pop(), self.stack.pop()
        if function is not _ENCODE or codec != "latin1":
            raise ValueError("a call other than that which makes bytes")
        self.stack.append(text.encode("latin-1"))

    def set_item(self, _: object) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.stack[-1][key] = value

    def set_items(self, _: object) -> None:
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        given = self.stack[place + 1 :]
        del self.stack[place:]
        self.stack[-1].update(zip(given[::2], given[1::2], strict=True))

    def build(self, _: object) -> None:
        state = self.stack.pop()
        self.stack[-1].update(state)


_STEPS: dict[str, Callable[[_Reading, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Reading.leave),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Reading.push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Reading.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Reading.push),
    **dict.fromkeys(("MEMOIZE", "BINPUT", "LONG_BINPUT"), _Reading.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Reading.recall),
    "MARK": lambda reading, _: reading.push(_MARK),
    "EMPTY_TUPLE": lambda reading, _: reading.push(()),
    "TUPLE2": _Reading.pair,
    "EMPTY_DICT": lambda reading, _: reading.push({}),
    "SETITEM": _Reading.set_item,
    "SETITEMS": _Reading.set_items,
    "GLOBAL": _Reading.named,
    "STACK_GLOBAL": _Reading.named_by_stack,
    "NEWOBJ": _Reading.new,
    "REDUCE": _Reading.encode,
    "BUILD": _Reading.build,
}
