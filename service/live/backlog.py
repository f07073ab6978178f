"""Domains that are not yet what store and state say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service.catalog.compaction_policy import COMPACTION_POLICY, CompactionPolicy
from service.catalog.live_items import LiveItems


@dataclass(slots=True)
class Backlog:
    """Which domains are behind, and why.

    `waiting` are domains that a build must bring on: until then they answer without removed items
    and without other changes, or not at all if there is nothing to answer from. `troubled` are
    domains that stay at what they were, for an error that may pass. `request_compaction` queues a
    build; the app sets it. `policy` says when a changed catalog gets a new base.
    """

    waiting: set[str] = field(default_factory=set)
    troubled: set[str] = field(default_factory=set)
    request_compaction: Callable[[str], object] = lambda _: None
    policy: CompactionPolicy = COMPACTION_POLICY

    def await_base(self, domain: str) -> None:
        """Note that a domain waits for a base, and request one."""
        self.waiting.add(domain)
        self.request_compaction(domain)

    def compact_if_due(self, domain: str, items: LiveItems) -> None:
        """Request a base where the policy says that one is due."""
        if self.policy.is_due(items):
            self.request_compaction(domain)

    def clear(self, domain: str) -> None:
        """Note that a domain is behind no more, or is gone."""
        self.waiting.discard(domain)
        self.troubled.discard(domain)
