# Generated from ../asynchronous by `make fix`: change that one.
"""The whole client."""

from __future__ import annotations

from swaprec.client.sync.catalogs import SyncCatalogs
from swaprec.client.sync.recommendations import SyncRecommendations
from swaprec.client.sync.versions import SyncVersions


class Client(SyncRecommendations, SyncCatalogs, SyncVersions):
    """A connection to a service; a context manager.

    Args:
        url: address; `SWAPREC_URL` if not given, else http://127.0.0.1:8000.
        key: token of a key; `SWAPREC_KEY` if not given.
        timeout: seconds that one step of a request may take.

    Raises (every method): ProblemError: the service refused, in a subclass for each status;
    Unreachable: nobody answers there.
    """
