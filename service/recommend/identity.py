"""What every answer names: the domain, and the version and generation that produced it."""

from __future__ import annotations

from service.live.table import LiveDomain
from service.version import version_name
from service.wire.responses import Identity


def identify(live: LiveDomain) -> Identity:
    """Return the part of an answer that names the live value it comes from."""
    return {
        "domain": live.domain,
        "version": version_name(live.version),
        "digest": live.digest,
        "index_generation": live.index_generation,
    }
