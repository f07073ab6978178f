"""One SQLite file: write-ahead log, synced commits, one connection a thread, whole transactions."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import OutOfSpace, StateError
from service.state.sqlite_schema import prepare

BUSY_MS = 10_000
RETRY_S = 0.01


class File:
    """Connections to one file, which other processes may have open too; safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        try:
            with self.writing() as db:
                prepare(db, path)
        except sqlite3.DatabaseError as error:
            raise StateError(f"{path} cannot be used as state: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing.

        Raises:
            OutOfSpace: nothing was changed.
        """
        db = self.connection()
        with _disk_errors():
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read everything as it is at one moment."""
        db = self.connection()
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("ROLLBACK")

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection; what it reads outside of a transaction is as it is now."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            _log_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
            self._keep(connection)
        return connection

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._all.values():
                connection.close()
            self._all.clear()

    def _keep(self, connection: sqlite3.Connection) -> None:
        """Remember this thread's connection; close those of threads that ended: the server's come and go."""
        with self._lock:
            for thread in [thread for thread in self._all if not thread.is_alive()]:
                self._all.pop(thread).close()
            self._all[threading.current_thread()] = connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. Of processes that do so to a new file at once all but one are told it is busy."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(RETRY_S)
        else:
            return


@contextmanager
def _disk_errors() -> Iterator[None]:
    full = "no room left on the disk for the state: free some space and try again"
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise OutOfSpace(full) from error
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutOfSpace(full) from error
        raise
