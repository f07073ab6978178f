"""Pictures of items, kept under the digest of their content: a new version embeds them again.

Nobody counts who names a picture. A sweep removes what no item names, in two steps, so that whoever
reads an item still finds its picture long after the item is gone: one sweep notes the old pictures
that are not named, and the next one, a grace period later, removes those of them that still are
not. To keep a picture that is there renews its time, and takes it off the note.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters_store.files import PART, atomic_file, atomic_write, room_or_error
from transrec.content import Picture
from transrec.images import digest_of

GRACE_S = 24 * 3600.0
"""Far longer than it takes from a picture that is
kept to the item that names it, or to embed a catalog.
"""

SWEEP_RETRY_S = 3600.0
LOCK = ".lock"
NOTE = ".unnamed"
_DIGEST = re.compile("[0-9a-f]{64}")
_FOLDER = "[0-9a-f][0-9a-f]"


class Blobs:
    """Files in `<data>/blobs/<two digits>/<digest>`. The same picture of many items, or domains, is
    one file.

    Each folder of two digits has a lock, shared by those who keep pictures and held alone to remove
    one. Who sweeps holds the lock of them all, whose time is that of the last attempt; the note's
    time is that of the last sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Write a picture, or renew its time, and return its digest; `settle` makes it survive a
        power cut.

        An item must name it within the grace period.

        Raises:
            OutOfSpace: nothing is left behind.
        """
        digest = digest_of(content)
        path = self._path(digest)
        with room_or_error(self._folder), _locked(path.parent, fcntl.LOCK_SH):
            # A crash can leave a shorter one.
            if path.is_file() and path.stat().st_size == len(content):
                os.utime(path)
            else:
                with atomic_file(path, sync=False) as part:
                    part.write_bytes(content)
        return digest

    def settle(self) -> None:
        """Bring everything that was kept to the disk:
        called once before many items are stored that name pictures.
        """
        os.sync()

    def picture(self, digest: str) -> Picture:
        """Return a picture that is kept; its file is read when it is embedded."""
        return Picture.at(self._path(digest), digest)

    def is_sweep_due(self) -> bool:
        """Whether pictures were swept a grace period ago, and nobody tried within the last hour."""
        now = time.time()
        tried = _time_of(self._folder / LOCK)
        swept = _time_of(self._folder / NOTE)
        return self._folder.is_dir() and now - tried >= SWEEP_RETRY_S and now - swept >= GRACE_S

    def sweep(
        self,
        named: Callable[[], Iterable[str]],
        check: Callable[[], None] = lambda: None,
        older_than_s: float = GRACE_S,
    ) -> int:
        """Remove the pictures that two sweeps, a grace period apart, did not find named; returns
        how many.

        One sweeps at a time, another does nothing; so does one within the grace period of the last.

        Args:
            named: yields every digest that must stay; asked after what is old was listed, if
                anything is.
            check: called on the way; what it raises, and what `named` does, ends the sweep and
                removes nothing more.
            older_than_s: the grace period.
        """
        if not self._folder.is_dir():
            return 0
        with suppress(BlockingIOError), _locked(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            os.utime(self._folder / LOCK)
            now = _time_of(self._folder / LOCK)  # by the clock that the pictures' times are of
            if _time_of(self._folder / NOTE) <= now - older_than_s:
                return self._sweep(named, check, now, older_than_s)
        return 0

    def _sweep(
        self,
        named: Callable[[], Iterable[str]],
        check: Callable[[], None],
        now: float,
        older_than_s: float,
    ) -> int:
        note = self._folder / NOTE
        for left in self._folder.glob(f".*{PART}"):  # notes of processes that were killed
            left.unlink(missing_ok=True)
        unnamed = self._old(now - older_than_s, check)
        if unnamed:
            for digest in named():
                unnamed.discard(digest)
        noted = (
            unnamed.intersection(note.read_text("ascii").split()) if note.exists() else set[str]()
        )
        removed = self._remove(noted, _time_of(note), check)
        atomic_write(note, "\n".join(sorted(unnamed - removed)).encode())
        os.utime(note, (now, now))
        return len(removed)

    def _old(self, before: float, check: Callable[[], None]) -> set[str]:
        """List the pictures whose time is not after `before`;
        parts that old, of killed writers, go at once.
        """
        found: set[str] = set()
        for folder in self._folder.glob(_FOLDER):
            check()
            there = [path for path in folder.iterdir() if 0 < _time_of(path) <= before]
            found.update(path.name for path in there if _DIGEST.fullmatch(path.name))
            for part in (path for path in there if path.name.endswith(PART)):
                with _locked(folder, fcntl.LOCK_EX):  # nobody writes now
                    part.unlink(missing_ok=True)
        return found

    def _remove(
        self, digests: Collection[str], noted: float, check: Callable[[], None]
    ) -> set[str]:
        """Remove pictures, but for those that were kept
        again since they were noted; returns what went.
        """
        removed: set[str] = set()
        for digest in digests:
            check()
            path = self._path(digest)
            with _locked(path.parent, fcntl.LOCK_EX):
                if _time_of(path) < noted:
                    path.unlink(missing_ok=True)
                    removed.add(digest)
        return removed

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


def _time_of(path: Path) -> float:
    """Return when a file was written or renewed, 0 where there is none."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold a folder's lock; the kernel lets go of it when the process dies.

    Raises:
        BlockingIOError: another process has it, and `how` says not to wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+b") as lock:  # read and written: NFS asks for both
        fcntl.flock(lock, how)
        yield
