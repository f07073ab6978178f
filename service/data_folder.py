"""The data folder: held by one process or shared by replicas, with the state that belongs to it."""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters_store.store import Store
from service.errors import DomainNotFound, StateError
from service.settings import Settings
from service.state import Domains, State, redis, sqlite
from service.state.fence import fence
from service.state.known import lost_state
from service.state.sqlite import SqliteState


def end_removals(state: Domains, store: Store) -> None:
    """End removals of domains that were interrupted:
    those that state has forgotten go, the others stay.
    """
    for domain in store.half_removed():
        try:
            record = state.get_domain(domain)
        except DomainNotFound:
            store.finish_removal(domain)
        else:
            store.keep_domain(domain, fence(state, record))


def process_name() -> str:
    """Name this process as no other one is named, now or later."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def open_state(settings: Settings, *, restoring: bool = False) -> State:
    """Open the state that the settings name.

    Args:
        settings: frozen.
        restoring: also make a new one in place of one that was lost.

    Raises:
        StateError: it cannot be used, it was lost, or the data folder belongs to another one.
    """
    if settings.redis_url is None:
        if (settings.data / redis.FILE).exists():
            raise StateError(
                f"the state of {settings.data} is in Redis: set REDIS_URL, or remove"
                f" {settings.data / redis.FILE} to go on without its catalogs"
            )
        lost = None if restoring else lost_state(settings.data, settings.data / sqlite.FILE)
        if lost is not None:
            raise StateError(lost)
        return SqliteState(settings.data)
    known = set(Store(settings.data / "adapters").domains())
    if (settings.data / sqlite.FILE).exists():
        embedded = SqliteState(settings.data)
        known |= {record.name for record in embedded.domains()}
        embedded.close()
    return redis.RedisState(settings.redis_url.get_secret_value(), settings.data, known)


@contextmanager
def only_process(data: Path, *, shared: bool) -> Iterator[None]:
    """Hold the data folder; the kernel lets go of it when the process dies.

    Replicas, whose state is in Redis, share it with each other.

    Raises:
        StateError: another process holds it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / ".lock").open("w")
    except OSError as error:
        raise StateError(f"data folder {data} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"another swaprec serves from {data}: stop it, or choose another folder with"
                " SWAPREC_DATA"
            ) from error
        yield
