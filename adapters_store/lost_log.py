"""Whether an activation log is lost: domains with versions are marked outside their own folders.

`<root>/.copied` says that every domain with versions has a copy of its current activation; it holds
a file for each. The file stands outside the domain's folder, so that a folder that is gone as a
whole is missed.
"""

from __future__ import annotations

from pathlib import Path

from adapters_store.activations import read_current
from adapters_store.domains import domains_in

COPIED = ".copied"


def mark(home: Path) -> None:
    """Note that a domain has versions."""
    place = _mark_of(home)
    place.parent.mkdir(exist_ok=True)
    place.touch()


def unmark(home: Path) -> None:
    """Take the note back: the domain is removed."""
    _mark_of(home).unlink(missing_ok=True)


def is_log_lost(home: Path) -> bool:
    """Whether a domain had versions,
    and with them an activation log and its copy, and now has neither.
    """
    if read_current(home) is not None:
        return False
    has_versions = any(path.name.isdigit() for path in home.glob("*"))
    return _mark_of(home).exists() or (has_versions and (home.parent / COPIED).exists())


def lost_logs(folder: Path) -> list[str]:
    """Name the domains of a store's folder of which nobody knows what was live."""
    marked = (path.name for path in (folder / COPIED).glob("*"))
    return sorted(name for name in {*domains_in(folder), *marked} if is_log_lost(folder / name))


def _mark_of(home: Path) -> Path:
    return home.parent / COPIED / home.name
