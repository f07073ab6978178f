"""Types of progress callbacks, defined once for every package."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Called with (items done, items in all)."""
OnStage = Callable[[str], OnProgress]
"""Called with the name of a stage as it begins; returns what to call with its progress."""
