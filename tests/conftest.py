from __future__ import annotations

import os

from hypothesis import settings

# Tests that want a Redis start their own; that of whoever runs them is not for tests.
os.environ.pop("REDIS_URL", None)

# The same examples in every run: a red build is red again. `pytest --hypothesis-profile explore`
# looks for new ones.
settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile("same")
