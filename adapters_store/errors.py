"""What the store refuses, as plain errors that say what was given,
what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from adapters_store.quoting import clip

MAX_PROBLEMS = 50
MAX_SUMMARISED = 10
MAX_DETAIL = 240


@dataclass(frozen=True, slots=True)
class BundleProblem:
    """One thing wrong with a bundle.

    `kind` is one of `header`, `manifest`, `missing`, `unexpected`, `shape_mismatch`, `dtype`,
    `backbone_mismatch`, `non_finite`, `truncated`, `too_large`, `digest`, `more`.
    """

    kind: str
    detail: str
    tensor: str | None = None
    expected: Any = None
    got: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class StoreError(Exception):
    """Anything that the store refuses."""


class BundleError(StoreError):
    """A bundle that cannot be used; `problems` lists the
    first of everything found wrong with it, `count` is all.
    """

    def __init__(self, problems: Sequence[BundleProblem]) -> None:
        self.count = len(problems)
        self.problems = [
            replace(one, detail=clip(one.detail, MAX_DETAIL)) for one in problems[:MAX_PROBLEMS]
        ]
        if self.count > MAX_PROBLEMS:
            self.problems.append(
                BundleProblem("more", f"and {self.count - MAX_PROBLEMS} more problems")
            )
        details = [one.detail for one in self.problems[:MAX_SUMMARISED]]
        if self.count > MAX_SUMMARISED:
            details.append(f"and {self.count - MAX_SUMMARISED} more")
        super().__init__("; ".join(details))


class UnsupportedFormat(StoreError):
    """A file that is no safetensors file: pickle, zip and the like are never opened."""


class BundleTooLarge(StoreError):
    """More bytes than the limit allows."""


class OutOfSpace(StoreError):
    """No room left on the disk, or in Redis; nothing half-written stays."""


class InvalidName(StoreError, ValueError):
    """A domain name that is not one."""


class InvalidId(StoreError, ValueError):
    """An id that is not one: no text, empty, too long, or with control characters."""


class VersionNotFound(StoreError, LookupError):
    """A version that the store does not hold."""


class VersionInUse(StoreError):
    """A version that is live, a canary, or what a rollback would return to."""


class NothingBefore(StoreError):
    """A rollback where nothing was live before."""


class StoreDamaged(StoreError):
    """An activation log that is gone or damaged, and its copy too: nobody knows what was live."""
