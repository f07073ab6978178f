"""The door: command line, Python client, demo."""

from __future__ import annotations

from swaprec.client import Client
from swaprec.errors import ProblemError, Unreachable

__all__ = ["Client", "ProblemError", "Unreachable"]
