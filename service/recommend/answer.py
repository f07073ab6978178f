"""The one entry for what is asked of a domain: load it, parse the request, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from service.errors import RequestConflict
from service.live.residency import Residency
from service.live.table import Deployment, LiveDomain
from service.recommend.canary import Canaries
from service.recommend.compare import compare
from service.recommend.probes import Disconnected, evaluate
from service.recommend.recommend import Reader, recommend
from service.recommend.similar import embed, similar
from service.wire.json_body import parse_body
from service.wire.requests import (
    Body,
    CompareRequest,
    EmbedRequest,
    EvaluateRequest,
    RecommendRequest,
    SimilarRequest,
)
from service.wire.responses import Comparison, Embedded, Evaluated, Recommendation, Similar

B = TypeVar("B", bound=Body)

ReadBody = Callable[[], Awaitable[bytes]]
"""Reads the body of a request; called after the domain is loaded: a request to an unknown domain is
refused before its body is read.
"""

HISTORY_EXAMPLE = '{"history": ["n101"]}'
COMPARE_EXAMPLE = '{"history": ["n101"], "arms": [{"version": 3}]}'
SIMILAR_EXAMPLE = '{"item_id": "n101"}'
EMBED_EXAMPLE = '{"items": ["n101", {"text": "Storm closes roads"}]}'
EVALUATE_EXAMPLE = '{"version": 3}'


@dataclass(frozen=True, slots=True)
class Recommender:
    """Answers what is asked of domains, each request from one deployment.

    Every method raises DomainNotFound or DomainLoading, what reading the body raises, MalformedBody
    and InvalidRequest (every wrong value), VersionNotServable (the version is not in memory) and
    QueueFull.
    """

    residency: Residency
    reader: Reader
    canaries: Canaries

    async def recommend(self, domain: str, read_body: ReadBody) -> Recommendation:
        """Recommend items to a history; users of a canary are answered by it."""
        deployment, request = await self._begin(
            domain, read_body, RecommendRequest, HISTORY_EXAMPLE
        )
        if request.version is not None:
            return await recommend(deployment.get(request.version), request, self.reader)
        if deployment.canary is None:
            return await recommend(deployment.live, request, self.reader)
        return await self.canaries.recommend(deployment, deployment.canary, request, self.reader)

    async def compare(self, domain: str, read_body: ReadBody) -> Comparison:
        """Answer one history by every arm."""
        deployment, request = await self._begin(domain, read_body, CompareRequest, COMPARE_EXAMPLE)
        return await compare(deployment, request, self.reader)

    async def similar(self, domain: str, read_body: ReadBody) -> Similar:
        """Find the items nearest to an item, a text or a picture."""
        deployment, request = await self._begin(domain, read_body, SimilarRequest, SIMILAR_EXAMPLE)
        return await similar(_choose(deployment, request.version), request, self.reader)

    async def embed(self, domain: str, read_body: ReadBody) -> Embedded:
        """Return the vectors of items, texts and pictures."""
        deployment, request = await self._begin(domain, read_body, EmbedRequest, EMBED_EXAMPLE)
        return await embed(_choose(deployment, request.version), request, self.reader)

    async def evaluate(
        self, domain: str, read_body: ReadBody, disconnected: Disconnected
    ) -> Evaluated:
        """Ask a version the domain's probes; the body may be empty.

        Raises:
            RequestConflict: there are no probes; TooManyAtOnce: others are evaluated;
                ClientDisconnect: nobody waits for the answer any more.
        """
        deployment, request = await self._begin(
            domain, read_body, EvaluateRequest, EVALUATE_EXAMPLE, empty=b"{}"
        )
        value = _choose(deployment, request.version)
        with self.reader.pace.place(domain):
            probes = await run_in_threadpool(self.reader.state.probes, domain)
            if not probes:
                raise RequestConflict(
                    f"{domain} has no probes: PUT /domains/{domain}/probes, or swaprec publish,"
                    " gives it some"
                )
            return await evaluate(value, probes, self.reader, request.k, disconnected)

    async def _begin(
        self,
        domain: str,
        read_body: ReadBody,
        kind: type[B],
        example: str,
        empty: bytes = b"",
    ) -> tuple[Deployment, B]:
        """Load a domain, then read and parse the body; `empty` stands for a body of no bytes."""
        deployment = await self.residency.get(domain)
        return deployment, parse_body(kind, await read_body() or empty, example)


def _choose(deployment: Deployment, version: int | str | None) -> LiveDomain:
    """Return the value of the version that a request names, else the live one."""
    return deployment.live if version is None else deployment.get(version)
