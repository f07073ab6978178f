"""The Python client: `Client("http://127.0.0.1:8000").recommend("movies",
["i1", "i2"])`, and the same for asyncio.
"""

from __future__ import annotations

from swaprec.client.asynchronous.client import AsyncClient
from swaprec.client.sync.client import Client
from swaprec.client.wire import check_url

__all__ = ["AsyncClient", "Client", "check_url"]
