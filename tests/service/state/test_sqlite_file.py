"""What only a state in a file has: one that is none, a newer one, a full disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import StateError
from service.state.sqlite import FILE, SqliteState


def test_a_file_that_is_no_database_keeps_the_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StateError, match="cannot be used as state"):
        SqliteState(tmp_path)


def test_state_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    SqliteState(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateError, match="schema 99"):
        SqliteState(tmp_path)


FULL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
from adapters_store.errors import OutOfSpace
from service.state import DomainRecord, StoredItem
from service.state.sqlite import SqliteState
state = SqliteState(Path(sys.argv[1]))
state.put_domain(DomainRecord("movies", "f"))
state.upsert_items("movies", [StoredItem("a", "kept")])
state.file.connection().execute("PRAGMA max_page_count = 20")
try:
    state.upsert_items("movies", [StoredItem(str(n), "x" * 1000) for n in range(1000)])
except OutOfSpace as error:
    print("OutOfSpace", list(state.items_by_id("movies", ["a", "0", "999"])), error)
"""


def test_a_full_disk_changes_nothing_and_is_one_clear_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OutOfSpace ['a'] no room left on the disk")
