"""What a data folder knows without its state: a state that was lost is not taken for a new one."""

from __future__ import annotations

from pathlib import Path

from adapters_store.domains import domains_in
from service.state.snapshots import CARD

MAX_NAMED = 10


def known_domains(data: Path) -> list[str]:
    """Return the domains that have versions, activations or a snapshot in a data folder."""
    snapshots = (path.parent.name for path in (data / "snapshots").glob(f"*/{CARD}"))
    return sorted({*domains_in(data / "adapters"), *snapshots})


def lost_state(data: Path, file: Path) -> str | None:
    """Return what is to be said of an SQLite file that is gone or empty while its domains are known; None if it is not.

    Args:
        data: the data folder.
        file: of the state.
    """
    if file.exists() and file.stat().st_size:
        return None
    known = known_domains(data)
    if not known:
        return None
    gone = "is empty" if file.exists() else "is gone"
    return (
        f"state_lost: {file} {gone}, while the data folder knows {named(known)}: it is not served, its catalogs would "
        f"be missing. Bring it back from a backup, or run swaprec restore, which makes it anew from the snapshots; "
        f"to go on without these domains, move {data / 'adapters'} and {data / 'snapshots'} away"
    )


def named(domains: list[str]) -> str:
    """Name domains, the first of them."""
    more = f" and {len(domains) - MAX_NAMED} more" if len(domains) > MAX_NAMED else ""
    return f"the domain{'s' if len(domains) > 1 else ''} {', '.join(domains[:MAX_NAMED])}{more}"
