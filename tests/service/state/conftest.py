"""Fixtures of the tests of the state."""

from __future__ import annotations

import pytest

from service.state.redis import link as redis_link


@pytest.fixture
def patient_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Redis time: some tests send it 50,000 items at once, which no request may."""
    monkeypatch.setattr(redis_link, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis_link, "CONNECT_S", 60.0)
