from __future__ import annotations

import os

# Tests that want a Redis start their own; that of whoever runs them is not for tests.
os.environ.pop("REDIS_URL", None)
