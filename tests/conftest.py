from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Tests that want a Redis start their own; that of whoever runs them is not for tests.
os.environ.pop("REDIS_URL", None)

# The same examples in every run: a red build is red again. `pytest --hypothesis-profile explore`
# looks for new ones.
settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: at the end one worker would run them alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
