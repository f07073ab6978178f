"""A canary: which users it answers, and whether it may go on."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from service.errors import ServiceError
from service.live.table import Deployment, LiveDomain
from service.recommend.recommend import Reader, recommend
from service.version import version_name
from service.wire.requests import RecommendRequest
from service.wire.responses import Recommendation

WINDOW = 500
MIN_ANSWERS = 50
MAX_ERROR_RATE = 0.02
MAX_SLOWDOWN = 2.0
SLOWDOWN_TOLERANCE_S = 0.005
BUCKETS = 10_000

_log = logging.getLogger("swaprec")


def chosen(domain: str, canary_digest: str, user_id: str | None, percent: int) -> bool:
    """Whether a canary answers this user: the same answer for the same user as long as the canary
    runs.

    Users are drawn anew for each canary, so that not always the same ones meet what is new. Who is
    anonymous stays with the live version.
    """
    if user_id is None or not percent:
        return False
    drawn = hashlib.blake2b(
        f"{domain}\0{canary_digest}\0{user_id}".encode(), digest_size=8
    ).digest()
    return int.from_bytes(drawn, "big") % BUCKETS < percent * BUCKETS // 100


@dataclass(slots=True)
class ArmWindow:
    """The newest answers of a version: seconds, None for an error."""

    seconds: deque[float | None] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def errors(self) -> float:
        """The share of errors."""
        return sum(one is None for one in self.seconds) / max(1, len(self.seconds))

    @property
    def p95(self) -> float:
        """The 95th percentile, in seconds."""
        well = sorted(one for one in self.seconds if one is not None)
        return well[int(0.95 * (len(well) - 1))] if well else 0.0


class Canaries:
    """Answers domains that have a canary, and ends those that do not do well.

    Args:
        counted: called with domain, arm, version, outcome and seconds of every answer.
        begun: called with the domain of each canary when it is first seen.
        end: takes a canary back: domain, digest, reason; runs in a thread.
    """

    def __init__(
        self,
        counted: Callable[[str, str, str, str, float], None],
        begun: Callable[[str], None],
        end: Callable[[str, str, str], None],
    ) -> None:
        self._watch = Watch()
        self._counted = counted
        self._begun = begun
        self._end = end
        self._ending: set[str] = set()

    def forget(self, domain: str) -> None:
        """Forget a domain that is gone."""
        self._watch.forget(domain)

    async def recommend(
        self, deployment: Deployment, canary: LiveDomain, request: RecommendRequest, reader: Reader
    ) -> Recommendation:
        """Answer from the canary or the live version; where the canary fails, its user is answered
        all the same.

        Raises:
            As `recommend`.
        """
        live = deployment.live
        if not chosen(live.domain, canary.digest, request.user_id, deployment.percent):
            return await self._timed(live, canary, request, reader)
        try:
            return await self._timed(canary, canary, request, reader)
        except ServiceError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the live version answers in its place
            _log.exception("%s: the canary %s failed", live.domain, version_name(canary.version))
        return await recommend(live, request, reader)

    async def _timed(
        self, value: LiveDomain, canary: LiveDomain, request: RecommendRequest, reader: Reader
    ) -> Recommendation:
        started = time.perf_counter()
        try:
            answer = await recommend(value, request, reader)
        except ServiceError:  # the request is wrong, or too many wait: no fault of the version
            raise
        except Exception:
            self._saw(value, canary, None)
            raise
        self._saw(value, canary, time.perf_counter() - started)
        return answer

    def _saw(self, value: LiveDomain, canary: LiveDomain, seconds: float | None) -> None:
        arm = "canary" if value is canary else "live"
        if not self._watch.knows(value.domain, canary.digest):
            self._begun(value.domain)
        version = str(version_name(value.version))
        outcome = "error" if seconds is None else "answer"
        self._counted(value.domain, arm, version, outcome, seconds or 0.0)
        fault = self._watch.saw(
            value.domain, canary.digest, canary=value is canary, seconds=seconds
        )
        if fault is not None and canary.digest not in self._ending:
            self._ending.add(canary.digest)
            ending = asyncio.get_running_loop().run_in_executor(
                None, self._end, value.domain, canary.digest, fault
            )
            ending.add_done_callback(lambda _: self._ending.discard(canary.digest))


class Watch:
    """Compares a canary's answers in this process with the live version's."""

    def __init__(self) -> None:
        self._arms: dict[str, tuple[str, ArmWindow, ArmWindow]] = {}

    def forget(self, domain: str) -> None:
        """Forget a domain."""
        self._arms.pop(domain, None)

    def knows(self, domain: str, digest: str) -> bool:
        """Whether answers were recorded while a canary of this digest runs."""
        known = self._arms.get(domain)
        return known is not None and known[0] == digest

    def saw(self, domain: str, digest: str, *, canary: bool, seconds: float | None) -> str | None:
        """Record an answer while a canary of this digest runs;
        return why it must end, if it must.
        """
        known = self._arms.get(domain)
        if known is None or known[0] != digest:
            known = self._arms[domain] = digest, ArmWindow(), ArmWindow()
        _, usual, new = known
        (new if canary else usual).seconds.append(seconds)
        return _fault(usual, new) if canary else None


def _fault(live: ArmWindow, canary: ArmWindow) -> str | None:
    count = len(canary.seconds)
    if count < MIN_ANSWERS:
        return None
    if canary.errors > max(MAX_ERROR_RATE, 2 * live.errors):
        return (
            f"{canary.errors:.1%} of its last {count} answers were errors, {live.errors:.1%} of the"
            " live version's"
        )
    if (
        len(live.seconds) >= MIN_ANSWERS
        and canary.p95 > MAX_SLOWDOWN * live.p95 + SLOWDOWN_TOLERANCE_S
    ):
        return (
            f"95 % of its answers took up to {1e3 * canary.p95:.1f} ms, the live version's"
            f" {1e3 * live.p95:.1f} ms"
        )
    return None
