"""What tests of outages of Redis share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from service.errors import StateUnavailable
from service.state.redis import RedisState
from tests.service.conftest import wait_until


def healed(state: RedisState) -> None:
    """Wait until the state can be used again."""
    wait_until(lambda: state.trouble() is None, 5)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call took to raise StateUnavailable."""
    began = time.monotonic()
    with pytest.raises(StateUnavailable):
        call()
    return time.monotonic() - began
