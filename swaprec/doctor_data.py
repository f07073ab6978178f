"""What a data folder holds and lacks: its disk, lock, state, versions, backbones and keys."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from adapters_store.domains import domains_in
from adapters_store.lost_log import lost_logs
from service.access.keys import KeyFile, key_path, open_keys
from service.errors import StateError
from service.settings import Settings
from service.state.known import known_domains, lost_state, named
from service.state.sqlite.errors import RESTORE
from swaprec.doctor_machine import GIB
from swaprec.finding import Finding

ROOM_BYTES = 2 * GIB
PROBE_S = 2.0
NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs")


def _data(settings: Settings) -> Finding:
    folder = settings.data.absolute()
    there = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        advice = f"make it writable for user {os.getuid()}, or choose another with SWAPREC_DATA"
        return Finding("bad", "data folder", f"{there}: {error.strerror}", advice)
    kind = _filesystem(there)
    if kind in NETWORKED:
        advice = "SQLite and its locks need a local disk: choose another with SWAPREC_DATA"
        return Finding("warning", "data folder", f"{folder} lies on {kind}", advice)
    when = "" if there == folder else ", will be made at the first start"
    return Finding("ok", "data folder", f"{folder} ({kind}), writable, locks work{when}")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there: a doctor makes nothing."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _filesystem(folder: Path) -> str:
    holding = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if folder.is_relative_to(mount.mountpoint)
    ]
    return max(holding, key=lambda mount: len(mount.mountpoint)).fstype if holding else "unknown"


def _disk(settings: Settings) -> Finding:
    usage = shutil.disk_usage(_existing(settings.data.absolute()))
    found = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if usage.free < ROOM_BYTES:
        return Finding(
            "warning", "disk", found, "uploads and imports end with 507 when it is full: make room"
        )
    return Finding("ok", "disk", found)


def _holder(settings: Settings) -> Finding:
    path = settings.data / ".lock"
    if not path.exists():
        return Finding("ok", "lock", "no service has run from this folder yet")
    with path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Finding("ok", "lock", "a service runs from this folder; a second one is refused")
    return Finding("ok", "lock", "free: no service runs from this folder")


def _state(settings: Settings) -> Finding:
    if settings.redis_url is not None:
        return _redis(settings.redis_url.get_secret_value())
    path = settings.data / "state.db"
    lost = lost_state(settings.data, path)
    if lost is not None:
        return Finding(
            "bad", "state", lost, "swaprec restore brings the catalogs back from the snapshots"
        )
    if not path.exists():
        return Finding("ok", "state", f"{path} will be made at the first start")
    try:
        with sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PROBE_S
        ) as db:
            there = {row[0] for row in db.execute("SELECT name FROM domains")}
            [items] = db.execute("SELECT count(*) FROM items").fetchone()
    except sqlite3.DatabaseError as error:
        return Finding("bad", "state", f"{path}: {error}", RESTORE)
    missing = sorted(set(known_domains(settings.data)) - there)
    found = f"domains: {len(there)}, items: {items:,}, in {path}"
    if missing:
        advice = (
            "swaprec restore brings back those that have a snapshot; nothing that is there is"
            " changed"
        )
        return Finding("bad", "state", f"{found}; it lacks {named(missing)}", advice)
    return Finding("ok", "state", found)


def _versions(settings: Settings) -> Finding:
    folder = settings.data / "adapters"
    domains = domains_in(folder)
    lost = lost_logs(folder)
    if lost:
        advice = "activate a version in each of them, or bring activations.jsonl back from a backup"
        return Finding("bad", "versions", f"what was live is not known in {named(lost)}", advice)
    return Finding("ok", "versions", f"domains with versions or activations: {len(domains)}")


def _redis(url: str) -> Finding:
    import redis

    from service.state.redis.link import shown

    try:
        with redis.Redis.from_url(
            url, socket_timeout=PROBE_S, socket_connect_timeout=PROBE_S
        ) as client:
            server: Any = client.info("server")
            persistence: Any = client.info("persistence")
    except (redis.RedisError, ValueError) as error:
        advice = "start it, or correct REDIS_URL; without it state is SQLite"
        return Finding("bad", "state", f"{shown(url)}: {error}", advice)
    found = f"Redis {server['redis_version']} at {shown(url)}"
    if not persistence.get("aof_enabled"):
        advice = "set appendonly to yes: what it acknowledged is lost when it stops"
        return Finding("warning", "state", f"{found}, appendonly off", advice)
    return Finding("ok", "state", f"{found}, appendonly on")


def _backbones(settings: Settings) -> Finding:
    from service.engine.backbones import backbone_folders, unique_names
    from transrec.backbone_folder import files_of, fingerprint_of

    whole = {}
    broken = []
    for folder in backbone_folders(settings):
        missing = [name for name in files_of(folder) if not (folder / name).is_file()]
        if missing:
            broken.append(f"{folder} lacks {', '.join(missing)}")
        else:
            whole[fingerprint_of(folder)] = folder
    if broken:
        return Finding(
            "bad", "backbones", "; ".join(broken), "name folders that swaprec train wrote"
        )
    if not whole:
        advice = (
            f"put a folder that swaprec train wrote into {settings.data / 'backbones'}, or name it"
            " in SWAPREC_BACKBONES"
        )
        return Finding("warning", "backbones", "none: nothing can be recommended", advice)
    names = unique_names(whole)
    return Finding(
        "ok", "backbones", ", ".join(f"{name} ({mark[:12]})" for mark, name in names.items())
    )


def _keys(settings: Settings) -> Finding:
    path = key_path(settings)
    try:
        open_keys(settings)
        keys = KeyFile(path).read()
    except StateError as error:
        return Finding("bad", "keys", str(error))
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Finding("warning", "keys", f"others may read {path}", f"chmod 600 {path}")
    if not keys:
        how = (
            "SWAPREC_INSECURE=1: anyone may write"
            if settings.insecure
            else f"only {settings.host} is listened on"
        )
        return Finding("warning" if settings.insecure else "ok", "keys", f"none; {how}")
    return Finding(
        "ok", "keys", f"{len(keys)}: {', '.join(f'{key.name} ({key.scope})' for key in keys[:5])}"
    )


DATA_CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    _data,
    _disk,
    _holder,
    _state,
    _versions,
    _backbones,
    _keys,
)
"""What concerns the data folder of these settings, which need not be the running service's."""
