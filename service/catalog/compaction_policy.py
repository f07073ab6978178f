"""When a changed catalog gets a new base."""

from __future__ import annotations

import time
from dataclasses import dataclass

from service.catalog.live_items import LiveItems


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """Bounds of a delta.

    A delta may have `rows` rows, or `share` of its base if that is more. `idle_s`: seconds
    without a change after which a smaller delta is compacted, too: a base takes less memory, and
    has a snapshot.
    """

    rows: int = 1000
    share: float = 0.02
    idle_s: float = 30.0

    def is_due(self, items: LiveItems) -> bool:
        """Whether a new base is due: more was changed, the delta is large, or nothing was added to
        it for a while.
        """
        most = max(self.rows, self.share * len(items.base.ids))
        if items.incomplete or len(items.delta) > most:
            return True
        uncompacted = len(items.delta) > 0 or not items.base.is_kept
        return uncompacted and time.monotonic() - items.changed_at > self.idle_s


COMPACTION_POLICY = CompactionPolicy()
