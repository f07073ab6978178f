"""State in one SQLite file in the data folder, shared by the processes of a host."""

from service.state.sqlite.state import FILE, SqliteState

__all__ = ["FILE", "SqliteState"]
