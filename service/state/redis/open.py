"""Before a Redis is used: is it one that keeps what it is given,
and the one that this data folder belongs to?
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

from adapters_store.files import atomic_write
from service.errors import StateError, StateUnavailable
from service.state.redis import keys, scripts
from service.state.redis.link import Link

VERSION = "3"
BEFORE = ("1", "2")
FILE = "redis.epoch"
ANY = "any"
OLDEST = (7, 0)


def check_server(link: Link) -> tuple[str, list[str]]:
    """Return the server's version and what is wrong with its settings.

    Raises:
        StateError: it is too old, or would throw items away.
    """
    info: dict[str, Any] = link.plain(lambda client: client.info())
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise StateError(f"{link.shown} is Redis {version}, expected 7.0 or later: upgrade it")
    if info.get("role") == "slave":
        raise StateError(
            f"{link.shown} is a replica, which takes no writes: name its primary in REDIS_URL"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys") and info.get("maxmemory"):
        raise StateError(
            f"{link.shown} has maxmemory-policy {policy}: it would throw items away when it is"
            " full. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its"
            " configuration)"
        )
    warnings = (
        []
        if policy == "noeviction"
        else [f"{link.shown} has maxmemory-policy {policy}: set it to noeviction"]
    )
    if not info.get("aof_enabled"):
        warnings.append(
            f"{link.shown} has appendonly off: what it acknowledged is lost when it stops. Set it"
            " to yes"
        )
    elif _synced(link) not in (None, "always"):
        warnings.append(
            f"{link.shown} does not have appendfsync always: a crash may lose its last second"
        )
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', version)}", warnings


def is_empty(url: str) -> bool:
    """Whether a Redis has nothing of ours, as a new one.

    Raises:
        StateUnavailable: it does not answer.
    """
    link = Link(url)
    try:
        there: int = link.plain(lambda client: client.exists(keys.SCHEMA, keys.EPOCH))
        return not there
    finally:
        link.close()


def _synced(link: Link) -> str | None:
    """When Redis syncs its file; None where it does not tell, as hosted ones do not."""
    try:
        found: dict[str, str] = link.plain(lambda client: client.config_get("appendfsync"))
    except StateUnavailable:
        return None
    return found.get("appendfsync")


def agree(link: Link, folder: Path, known: Collection[str]) -> str:
    """Return the epoch on which Redis and the data folder agree; an empty Redis gets one where
    nothing is known.

    Raises:
        StateError: they do not belong together.
    """
    file = folder / FILE
    remembered = file.read_text("utf-8").strip() if file.exists() else ""
    fresh = remembered == ANY or not (remembered or known)
    begin = uuid.uuid4().hex if fresh else ""
    answer = link.plain(
        lambda client: client.register_script(scripts.OPEN)(
            [keys.SCHEMA, keys.EPOCH], [VERSION, begin]
        )
    )
    schema, epoch = ((value or b"").decode() for value in answer)
    if schema not in ("", *BEFORE, VERSION):
        raise StateError(
            f"{link.shown} has schema {schema}, this version of swaprec has {VERSION}: upgrade"
            " swaprec"
        )
    if not epoch or not (fresh or epoch == remembered):
        raise StateError(_strangers(link.shown, file, epoch, remembered, known))
    if schema in BEFORE:
        places = [keys.SCHEMA, keys.JOBS, keys.OPEN_JOBS, keys.DOMAINS]
        link.plain(
            lambda client: client.register_script(scripts.UPGRADE)(
                places, [keys.JOB, keys.record("")]
            )
        )
    if remembered != epoch:
        atomic_write(file, epoch.encode())
    return epoch


def _strangers(name: str, file: Path, epoch: str, remembered: str, known: Collection[str]) -> str:
    found = "is empty" if not epoch else f"belongs to another data folder (its epoch is {epoch})"
    has = f"was used with epoch {remembered}" if remembered else "was not used with Redis yet"
    domains = f" and knows the domains {', '.join(sorted(known))}" if known else ""
    return (
        f"{name} {found}, while the data folder {file.parent} {has}{domains}: it is not served, its"
        " catalogs would be missing. Bring back the Redis that has them, or correct REDIS_URL or"
        f" SWAPREC_DATA; to go on with this one all the same, write the word {ANY} into {file}"
    )
