"""What a running service says of itself, as a doctor's findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swaprec.client import Client
from swaprec.errors import ProblemError, Unreachable
from swaprec.finding import Finding
from swaprec.show import bytes_text

ASK_S = 5.0
MAX_LISTED = 5


def examine_service(url: str, key: str) -> list[Finding]:
    """Ask the service at an address what it has;
    an address where nobody answers is one bad finding.
    """
    with Client(url, key, timeout=ASK_S) as client:
        try:
            ready = client.readiness()
        except Unreachable as error:
            advice = "swaprec serve starts one; --url or SWAPREC_URL says where it is"
            return [Finding("bad", "service", str(error), advice)]
        except ProblemError as error:
            return [Finding("bad", "service", f"{url}: {error}")]
        try:
            info: Mapping[str, Any] = client.info()
        except ProblemError as error:
            advice = "--key or SWAPREC_KEY names a key that sees all domains"
            return [
                _readiness(url, "", ready),
                Finding("warning", "service", f"{url} answers: {error}", advice),
            ]
        except Unreachable as error:
            return [Finding("bad", "service", str(error))]
    return [
        _readiness(url, f" {info['version']}, process {info['process']}", ready),
        _state(info["state"]),
        _backbones(info["backbones"]),
        _domains(info["domains"], ready["broken"]),
    ]


def _readiness(url: str, which: str, ready: Mapping[str, Any]) -> Finding:
    loading = ready["loading"]
    degraded = ready["degraded"]
    found = f"swaprec{which} at {url}, {ready['status']}"
    if loading:
        return Finding(
            "warning", "service", f"{found}: {_listed(list(loading))}", "wait until it is ready"
        )
    if degraded:
        lacks = "; ".join(f"{what}: {why}" for what, why in degraded.items())
        advice = (
            "recommendations go on, writes do not"
            if "state" in degraded
            else "the other domains are served"
        )
        return Finding("warning", "service", f"{found}, without {lacks}", advice)
    return Finding("ok", "service", found)


def _state(state: Mapping[str, Any]) -> Finding:
    found = " ".join(str(state[name]) for name in ("backend", "server", "where") if state.get(name))
    if state["trouble"]:
        return Finding(
            "bad",
            "service state",
            f"{found}: {state['trouble']}",
            "bring back what it keeps its state in",
        )
    if state["warnings"]:
        advice = "docs/configuration.md, State in Redis"
        return Finding(
            "warning", "service state", f"{found}: {'; '.join(state['warnings'])}", advice
        )
    return Finding("ok", "service state", found)


def _backbones(backbones: list[Mapping[str, Any]]) -> Finding:
    if not backbones:
        advice = "put a folder that swaprec train wrote into backbones/ of its data folder"
        return Finding("warning", "service backbones", "none: nothing can be recommended", advice)
    listed = [
        f"{one['name']} ({one['fingerprint'][:12]}) on {one['device']}, {one['parameters']:,}"
        f" parameters, {bytes_text(one['memory_bytes'])}"
        for one in backbones
    ]
    return Finding("ok", "service backbones", _listed(listed, "; "))


def _domains(domains: list[Mapping[str, Any]], broken: Mapping[str, str]) -> Finding:
    listed = [f"{one['domain']}@{one['version']} ({one['items']:,} items)" for one in domains]
    found = f"{len(domains)}: {_listed(listed)}" if domains else "none"
    if broken:
        reasons = _listed([f"{name}: {why}" for name, why in broken.items()], "; ")
        return Finding(
            "bad",
            "service domains",
            f"{found}; broken are {reasons}",
            "the service's log says more",
        )
    return Finding("ok", "service domains", found)


def _listed(names: list[str], between: str = ", ") -> str:
    more = [f"{len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return between.join([*names[:MAX_LISTED], *more])
