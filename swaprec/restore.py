"""Bring catalogs back into a state that was lost, from the snapshots in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapters_store.files import atomic_write
from adapters_store.store import Store
from service.data_folder import only_process, open_state
from service.errors import StateError
from service.settings import Settings
from service.state import State
from service.state.redis import open as redis_open
from service.state.snapshots import Snapshots
from service.state.snapshots import restore as restore_one


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a domain; `what` is restored, there, or lost."""

    domain: str
    what: str
    items: int
    detail: str


def restore(settings: Settings) -> list[Restored]:
    """Restore every domain that the data folder knows and the state lacks; nothing that is there is
    changed.

    Raises:
        StateError: a service runs on the data folder, or the state cannot be opened.
    """
    with only_process(settings.data, shared=False):
        state = _opened(settings)
        try:
            return _all(settings.data, state)
        finally:
            state.close()


def _opened(settings: Settings) -> State:
    """Open the state; an empty Redis in place of the lost one is what a restore is for."""
    if settings.redis_url is None:
        return open_state(settings, restoring=True)
    if redis_open.is_empty(settings.redis_url.get_secret_value()):
        atomic_write(settings.data / redis_open.FILE, redis_open.ANY.encode())
    return open_state(settings, restoring=True)


def _all(data: Path, state: State) -> list[Restored]:
    snapshots = Snapshots(data / "snapshots")
    store = Store(data / "adapters")
    there = {record.name for record in state.domains()}
    for name in set(store.half_removed()) - there:  # it was deleted: it does not come back
        snapshots.forget(name)
        store.finish_removal(name)
    cards = {card.domain: card for card in snapshots.all()}
    found = []
    for name in sorted({*cards, *store.domains()}):
        if name in there:
            found.append(
                Restored(
                    name, "there", state.count_items(name), "in the state already: left as it is"
                )
            )
        elif name not in cards:
            found.append(
                Restored(
                    name, "lost", 0, "no snapshot was taken: create it and import its items again"
                )
            )
        else:
            card = cards[name]
            try:
                count = restore_one(snapshots, state, card)
            except StateError as error:
                found.append(Restored(name, "lost", 0, str(error)))
            else:
                gap = f"as of {card.taken_at}: what changed since is missing"
                found.append(Restored(name, "restored", count, gap))
    return found
