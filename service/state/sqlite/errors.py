"""From errors of SQLite to what the service answers:
never an internal error for what an operator can mend.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters_store.errors import OutOfSpace
from service.errors import StateDamaged, StateLost, StateUnavailable

RESTORE = (
    "Stop the service and bring the file back from a backup, or move it away and run swaprec"
    " restore"
)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
_PRIMARY = 0xFF
"""The part of an extended error code that names its kind."""
_WRITABLE = "{path} cannot be written ({error}): make it writable for the service, then try again"
_READABLE = "{path} cannot be read or written ({error}): look at its disk and its permissions"
_LOCKED = "{path} is locked by another program: end it, then try again"
_DAMAGED = "{path} is damaged ({error}). " + RESTORE
_MEANINGS: dict[int, tuple[type[StateUnavailable], str]] = {
    sqlite3.SQLITE_BUSY: (StateUnavailable, _LOCKED),
    sqlite3.SQLITE_LOCKED: (StateUnavailable, _LOCKED),
    sqlite3.SQLITE_READONLY: (StateUnavailable, _WRITABLE),
    sqlite3.SQLITE_PERM: (StateUnavailable, _WRITABLE),
    sqlite3.SQLITE_CANTOPEN: (StateUnavailable, _READABLE),
    sqlite3.SQLITE_IOERR: (StateUnavailable, _READABLE),
    sqlite3.SQLITE_CORRUPT: (StateDamaged, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (StateDamaged, _DAMAGED),
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what the service knows in place of what SQLite says of a file.

    Raises:
        OutOfSpace: nothing was changed; StateLost, StateDamaged, StateUnavailable.
    """
    try:
        yield
    except sqlite3.ProgrammingError:  # of this program, such as a connection that was closed
        raise
    except sqlite3.DatabaseError as error:
        found = _meaning(error, path)
        if found is None:
            raise
        raise found from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _full() from error


def _meaning(error: sqlite3.DatabaseError, path: Path) -> Exception | None:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL:
        return _full()
    if "no such table" in str(error):
        return StateLost(f"{path} was emptied: it has none of its tables. {RESTORE}")
    kind, text = _MEANINGS.get(code & _PRIMARY, (None, ""))
    return None if kind is None else kind(text.format(path=path, error=error))


def _full() -> OutOfSpace:
    return OutOfSpace("no room left on the disk for the state: free some space and try again")
