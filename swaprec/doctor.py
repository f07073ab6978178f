"""Looks at what a service needs on this machine:
each check finds one thing and says what to do about it.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import socket
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from adapters_store.domains import domains_in
from adapters_store.lost_log import lost_logs
from service.access.keys import KeyFile, key_path, open_keys
from service.errors import StateError
from service.settings import InvalidSettings, Settings, unknown_variables
from service.state.known import known_domains, lost_state, named
from service.state.sqlite.errors import RESTORE
from swaprec.client import Client
from swaprec.doctor_service import examine_service
from swaprec.finding import Finding

GIB = 1024**3
ROOM_BYTES = 2 * GIB
MEMORY_BYTES = 2 * GIB
PROBE_S = 2.0
NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs")
PACKAGES = ("torch", "transformers", "faiss-cpu", "fastapi", "uvicorn")


def examine(data: Path | None, url: str | None = None, key: str = "") -> list[Finding]:
    """Run every check, each for itself: what one of them meets does not keep the others from
    looking.

    Args:
        data: data folder; what the settings say without it.
        url: of a running service, which is asked what it has. Without it, one that answers on the
            settings' port is.
        key: for that service.
    """
    try:
        settings = Settings() if data is None else Settings(data=data)
    except InvalidSettings as error:
        wrong = Finding("bad", "settings", str(error), "docs/configuration.md lists every setting")
        return [wrong] if url is None else [wrong, *_asked(url, key)]
    unknown = [
        Finding("warning", "settings", warning, "rename or remove it")
        for warning in unknown_variables(os.environ)
    ]
    return [
        *unknown,
        *(
            _examine_machine(settings, key)
            if url is None
            else _examine_service_and_machine(settings, url, key)
        ),
    ]


def _examine_machine(settings: Settings, key: str) -> list[Finding]:
    """Look at this machine, and at the service that answers on the settings' port."""
    found = [_checked(check, settings) for check in (*MACHINE, *PLACE, _port)]
    local = _local_service(settings)
    return found if local is None else [*found, *_asked(local, key)]


def _examine_service_and_machine(settings: Settings, url: str, key: str) -> list[Finding]:
    """Ask the service at an address,
    then look at this machine; what it lacks is no fault if the service runs.
    """
    service = _asked(url, key)
    place = [
        replace(one, what=f"{one.what} here")
        for one in (_checked(check, settings) for check in PLACE)
    ]
    if service[0].state != "bad":
        place = [
            replace(one, state="ok", advice="") if one.state == "warning" else one for one in place
        ]
    return [*service, *(_checked(check, settings) for check in MACHINE), *place]


def _asked(url: str, key: str) -> list[Finding]:
    try:
        return examine_service(url, key)
    except Exception as error:  # noqa: BLE001 - a doctor reports what it meets
        return [Finding("bad", "service", f"{url}: {type(error).__name__}: {error}")]


def _checked(check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return check(settings)
    except Exception as error:  # noqa: BLE001 - a doctor reports what it meets
        return Finding("bad", check.__name__.strip("_"), f"{type(error).__name__}: {error}")


def _python(_: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.platform != "linux":
        return Finding(
            "bad",
            "python",
            f"{version} on {sys.platform}",
            "swaprec runs on Linux; elsewhere in a container",
        )
    return Finding("ok", "python", f"{version}, {sys.executable}")


def _packages(_: Settings) -> Finding:
    found = []
    missing = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "bad", "packages", f"missing: {', '.join(missing)}", "pip install 'swaprec[serve]'"
        )
    try:
        importlib.metadata.version("polars")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "ok", "packages", ", ".join(found), "training needs pip install 'swaprec[train]'"
        )
    return Finding("ok", "packages", ", ".join(found))


def _device(settings: Settings) -> Finding:
    import torch

    from transrec.backbone import resolve_device, resolve_dtype

    device = resolve_device(settings.device)
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        advice = "set SWAPREC_DEVICE=auto, or make the driver visible here (containers: --gpus all)"
        return Finding("bad", "device", f"{settings.device}, and torch finds no CUDA", advice)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "no GPU"
    return Finding(
        "ok", "device", f"{device} ({name}), item vectors in {resolve_dtype('auto', device)}"
    )


def _threads(settings: Settings) -> Finding:
    cores = len(os.sched_getaffinity(0))
    found = (
        f"{cores} cores, SWAPREC_THREADS={settings.threads},"
        f" OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '-')}"
    )
    if settings.threads > cores:
        return Finding(
            "warning",
            "threads",
            found,
            "more threads than cores are many times slower: set SWAPREC_THREADS=1",
        )
    return Finding("ok", "threads", found)


def _memory(_: Settings) -> Finding:
    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB available"
    if free < MEMORY_BYTES:
        return Finding("warning", "memory", found, "a service with one backbone takes about 1 GiB")
    return Finding("ok", "memory", found)


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
    from transrec.backbone import files_of, fingerprint_of

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


def _port(settings: Settings) -> Finding:
    if not _is_taken(settings):
        return Finding("ok", "port", f"{settings.port} is free")
    if _local_service(settings) is None:
        advice = "end it, or choose another with SWAPREC_PORT"
        return Finding("bad", "port", f"another program answers on {settings.port}", advice)
    return Finding("ok", "port", f"{settings.port} is a swaprec's")


def _local_service(settings: Settings) -> str | None:
    """Return the address of the service that answers on the settings' port, if one does."""
    if not _is_taken(settings):
        return None
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - a name for all
    url = f"http://{host}:{settings.port}"
    with Client(url, timeout=PROBE_S) as client:
        return url if client.alive() else None


def _is_taken(settings: Settings) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PROBE_S)
        return settings.port != 0 and probe.connect_ex(("127.0.0.1", settings.port)) == 0


MACHINE: tuple[Callable[[Settings], Finding], ...] = (
    _python,
    _packages,
    _device,
    _threads,
    _memory,
)
PLACE: tuple[Callable[[Settings], Finding], ...] = (
    _data,
    _disk,
    _holder,
    _state,
    _versions,
    _backbones,
    _keys,
)
"""What concerns the data folder of these settings, which need not be the running service's."""
