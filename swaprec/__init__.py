"""The door: command line, Python client, demo."""

from __future__ import annotations

from swaprec.client import AsyncClient, Client
from swaprec.errors import ProblemError, Unreachable

__all__ = ["AsyncClient", "Client", "ProblemError", "Unreachable"]
