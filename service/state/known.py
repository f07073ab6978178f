"""What a data folder knows without its state: a state that was lost is not taken for a new one."""

from __future__ import annotations

from pathlib import Path

from adapters_store.domains import domains_in
from adapters_store.store import Store
from service.errors import StateLost
from service.state import Domains
from service.state.snapshots import CARD

MAX_NAMED = 10


def known_domains(data: Path) -> list[str]:
    """Return the domains that have versions, activations or a snapshot in a data folder."""
    snapshots = (path.parent.name for path in (data / "snapshots").glob(f"*/{CARD}"))
    return sorted({*domains_in(data / "adapters"), *snapshots})


def lost_state(data: Path, file: Path) -> str | None:
    """Return what is to be said of an SQLite file that is gone or empty while its domains are
    known; None if it is not.

    Args:
        data: the data folder.
        file: of the state.
    """
    if file.exists() and file.stat().st_size:
        return None
    known = known_domains(data)
    if not known:
        return None
    fate = "is empty" if file.exists() else "is gone"
    return (
        f"state_lost: {file} {fate}, while the data folder knows {named(known)}: it is not served,"
        " its catalogs would be missing. Bring it back from a backup, or run swaprec restore,"
        " which makes it anew from the snapshots; to go on without these domains, move"
        f" {data / 'adapters'} and {data / 'snapshots'} away"
    )


class LostDomains:
    """Domains that the data folder knows and the state lacked at the start, until each is made anew
    or removed.

    Raises:
        StateUnavailable: the state cannot be asked which domains it has.
    """

    def __init__(self, data: Path, state: Domains, store: Store) -> None:
        self._data = data
        self._state = state
        being_removed = store.half_removed()
        there = {record.name for record in state.domains()}
        self.at_start = frozenset(known_domains(data)) - there - frozenset(being_removed)

    def trouble(self) -> str | None:
        """Return what is to be said of the domains that are still lost, None where there are none.

        Raises:
            StateUnavailable: the state cannot be asked.
        """
        if not self.at_start:
            return None
        there = {record.name for record in self._state.domains()}
        lost = sorted(self.at_start.intersection(known_domains(self._data)) - there)
        return self._message(lost) if lost else None

    def error(self, name: str) -> StateLost | None:
        """Return the error of a domain that the state does not have;
        None where nothing was lost with it.
        """
        is_lost = name in self.at_start and name in known_domains(self._data)
        return StateLost(self._message([name])) if is_lost else None

    def _message(self, lost: list[str]) -> str:
        what = "its catalog" if len(lost) == 1 else "their catalogs"
        return (
            f"the state lacks {named(lost)}, known in {self._data}: swaprec restore brings {what}"
            " back from a snapshot; without one, PUT /domains/{name} and import the items again"
        )


def named(domains: list[str]) -> str:
    """Name domains, the first of them."""
    more = f" and {len(domains) - MAX_NAMED} more" if len(domains) > MAX_NAMED else ""
    return f"the domain{'s' if len(domains) > 1 else ''} {', '.join(domains[:MAX_NAMED])}{more}"
