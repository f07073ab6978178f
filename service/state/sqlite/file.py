"""One SQLite file: write-ahead log, synced commits, one connection a thread, whole transactions."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.errors import StateDamaged, StateError, StateLost, StateUnavailable
from service.state.sqlite import header as sqlite_header
from service.state.sqlite.errors import RESTORE, translated
from service.state.sqlite.schema import prepare

BUSY_MS = 10_000
RETRY_S = 0.01
LOOK_EVERY_S = 1.0

_log = logging.getLogger("swaprec")


class SqliteFile:
    """Connections to one file, which other processes
    may have open too; safe to use from any thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._closed = False
        self._looked = 0.0
        self.trouble: str | None = None
        try:
            with self.writing() as db:
                prepare(db, path)
        except (sqlite3.DatabaseError, StateUnavailable) as error:
            raise StateError(f"{path} cannot be used as state: {error}. {RESTORE}") from error
        self._identity = sqlite_header.hold(path)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise errors of SQLite as the service's, and remember whether there was one.

        Raises:
            OutOfSpace: nothing was changed; StateLost: the file was removed or replaced;
                StateDamaged,
            StateUnavailable.
        """
        try:
            self._check_identity()
            with translated(self.path):
                yield
        except StateUnavailable as error:
            if self.trouble is None:
                _log.error("state: %s", error.detail)
            self.trouble = error.detail
            raise
        if self.trouble is not None:
            _log.info("state: %s answers again", self.path)
            self.trouble = None

    def _check_identity(self) -> None:
        """Raise StateLost where the file is no longer the one that was opened:
        what is written to that one is lost.
        """
        if self._identity is None:
            return
        try:
            about = self.path.stat()
        except FileNotFoundError:
            raise StateLost(f"{self.path} was removed. {RESTORE}") from None
        except OSError as error:
            raise StateUnavailable(f"{self.path} cannot be reached: {error.strerror}") from error
        if (about.st_dev, about.st_ino) != self._identity:
            raise StateLost(
                f"{self.path} was replaced by another file: start the service again to use it"
            )
        if not about.st_size:
            raise StateLost(f"{self.path} was emptied. {RESTORE}")
        # What is cached in memory would go on being answered.
        if time.monotonic() - self._looked > LOOK_EVERY_S:
            if not sqlite_header.is_intact(self._identity):
                raise StateDamaged(
                    f"{self.path} is damaged: it does not begin as a database. {RESTORE}"
                )
            self._looked = time.monotonic()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing."""
        db = self.connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                with suppress(sqlite3.Error):  # what went wrong first is what is to be told
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
            with suppress(sqlite3.OperationalError):  # an error may have ended it
                db.execute("ROLLBACK")

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection;
        what it reads outside of a transaction is as it is now.
        """
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # Once it was there, none is made in its place.
            mode = "rwc" if self._identity is None else "rw"
            address = f"{self.path.absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(
                address, uri=True, isolation_level=None, check_same_thread=False
            )
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
            if self._identity is not None and not self._closed:
                self._closed = True
                sqlite_header.release(self._identity)

    def _keep(self, connection: sqlite3.Connection) -> None:
        """Remember this thread's connection;
        close those of threads that ended: the server's come and go.
        """
        with self._lock:
            for thread in [thread for thread in self._all if not thread.is_alive()]:
                self._all.pop(thread).close()
            self._all[threading.current_thread()] = connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on.

    Of processes that do so to a new file at once all but one are told it is busy.
    """
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
