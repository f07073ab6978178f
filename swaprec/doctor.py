"""Looks at what a service needs: each check finds one thing and says what to do about it.

The checks stand in `doctor_machine`, `doctor_data` and `doctor_service`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from service.settings import InvalidSettings, Settings, unknown_variables
from swaprec.client import Client
from swaprec.doctor_data import DATA_CHECKS, PROBE_S
from swaprec.doctor_machine import MACHINE_CHECKS
from swaprec.doctor_service import examine_service
from swaprec.finding import Finding


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
    found = [_checked(check, settings) for check in (*MACHINE_CHECKS, *DATA_CHECKS, _port)]
    local = _local_service(settings)
    return found if local is None else [*found, *_asked(local, key)]


def _examine_service_and_machine(settings: Settings, url: str, key: str) -> list[Finding]:
    """Ask the service at an address,
    then look at this machine; what it lacks is no fault if the service runs.
    """
    service = _asked(url, key)
    place = [
        replace(one, what=f"{one.what} here")
        for one in (_checked(check, settings) for check in DATA_CHECKS)
    ]
    if service[0].state != "bad":
        place = [
            replace(one, state="ok", advice="") if one.state == "warning" else one for one in place
        ]
    return [*service, *(_checked(check, settings) for check in MACHINE_CHECKS), *place]


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
