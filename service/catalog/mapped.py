"""Arrays in files that processes map and share: opened quickly, without a descriptor; pages can be
let go of.

Reading what was cut off a mapped file kills the process (SIGBUS). So its size is compared with the
header when it is opened, and with `is_cut` again and again while it is mapped.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_MAPS = 32_000
"""Maximum memory maps of a process: half of the kernel's default limit."""
_HEAD = 10  # magic, version, length of the header

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value


class _Map:
    """A file's pages, read-only; the map goes with the last array over it.

    Not `mmap.mmap`, which keeps a descriptor: a thousand domains have eight thousand maps.
    """

    __slots__ = ("__array_interface__", "_inode", "_path", "address", "size")

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            about = os.fstat(descriptor)
            self.size = about.st_size
            self._path = path
            self._inode = about.st_dev, about.st_ino
            if not self.size:
                raise ValueError(f"{path} is empty")
            self.address = _libc.mmap(
                None, self.size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0
            )
        finally:
            os.close(descriptor)
        if self.address == _FAILED:
            self.address = None
            raise OSError(
                ctypes.get_errno(), f"{path} cannot be mapped: {os.strerror(ctypes.get_errno())}"
            )

    def __del__(self) -> None:
        if getattr(self, "address", None) is not None:
            _libc.munmap(self.address, self.size)

    def is_cut(self) -> bool:
        """Whether the file lost some of its end;
        one that was removed or replaced stays whole while it is mapped.
        """
        try:
            about = self._path.stat()
        except OSError:
            return False
        return (about.st_dev, about.st_ino) == self._inode and about.st_size < self.size

    def bytes(self, start: int, stop: int) -> bytes:
        """Return some of it; what is beyond its end is left out."""
        stop = min(stop, self.size)
        return ctypes.string_at(self.address + start, max(0, stop - start))

    def array(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return what lies behind `start` as an array that holds the map."""
        place = (self.address + start, True)
        self.__array_interface__ = {
            "data": place,
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }
        return np.asarray(self)


def open_array(path: Path) -> NDArray[Any]:
    """Map what `np.save` wrote, read-only; several times as fast as `np.load`, which asks more of
    path and header.

    Raises:
        OSError: it is not there; ValueError: it is damaged.
    """
    content = _Map(path)
    start = _HEAD + int.from_bytes(content.bytes(_HEAD - 2, _HEAD), "little")
    shape, dtype = _header(content.bytes(0, start))
    if start + dtype.itemsize * int(np.prod(shape)) != content.size:
        raise ValueError(f"{path} is damaged: its header tells of another size")
    return content.array(start, shape, dtype)


def forget_pages(array: NDArray[Any]) -> None:
    """Take a mapped array's pages from this process's memory; they come back as they are read."""
    content = _map_of(array)
    if content is not None:
        _libc.madvise(content.address, content.size, mmap.MADV_DONTNEED)


def is_cut(array: NDArray[Any]) -> bool:
    """Whether the file of a mapped array lost some of its end since:
    the array must not be read any more.
    """
    content = _map_of(array)
    return content is not None and content.is_cut()


def _map_of(array: NDArray[Any]) -> _Map | None:
    content: Any = array
    while isinstance(content, np.ndarray):
        content = content.base
    return content if isinstance(content, _Map) else None


@lru_cache(4096)
def _header(head: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array in C's order."""
    text = io.BytesIO(head)
    if np.lib.format.read_magic(text) != (1, 0):
        raise ValueError("expected version 1.0 of numpy's format")
    shape, in_fortrans_order, dtype = np.lib.format.read_array_header_1_0(text)
    if in_fortrans_order:
        raise ValueError("expected an array in C's order")
    return shape, dtype
