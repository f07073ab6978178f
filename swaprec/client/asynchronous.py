"""`AsyncClient`: the same methods, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.wire.responses import (
    AdapterCard,
    Comparison,
    Domain,
    Embedded,
    Evaluated,
    ImportReport,
    Info,
    Item,
    Job,
    Readiness,
    Recommendation,
    RolledBack,
    Similar,
    VersionName,
)
from swaprec.client import calls
from swaprec.client.arguments import HistoryValue
from swaprec.client.calls import ArmFields, Call, OnJob
from swaprec.client.download import Download
from swaprec.client.sending import Sending
from swaprec.client.wire import (
    DONE,
    POLL_GROWTH,
    POLL_LONGEST_S,
    POLL_S,
    Attempts,
    body_of,
    named_texts,
    open_http,
    readiness_of,
    refusal,
    unfinished,
)

T = TypeVar("T")
RowFields = Mapping[str, Any]


class AsyncClient:
    """A connection to a service; an asynchronous context manager. Methods and errors are those of
    `Client`.

    Args:
        url: address; `SWAPREC_URL` if not given, else http://127.0.0.1:8000.
        key: token of a key; `SWAPREC_KEY` if not given.
        timeout: seconds that one step of a request may take.

    Raises (every method): ProblemError: the service refused, in a subclass for each status;
    Unreachable: nobody answers there.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, timeout: float = 60.0
    ) -> None:
        self._http = open_http(httpx.AsyncClient, url, key, timeout)
        self.url = str(self._http.base_url).rstrip("/")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def recommend(
        self, domain: str, history: Sequence[HistoryValue], k: int = 10, **wishes: Any
    ) -> Recommendation:
        """Recommend `k` items to a history,
        oldest first; further fields of the request as keywords.
        """
        return await self._do(calls.recommend(domain, history, k, wishes))

    async def compare(
        self,
        domain: str,
        history: Sequence[HistoryValue],
        arms: Sequence[ArmFields] = (),
        k: int = 10,
        include: Sequence[str] = (),
    ) -> Comparison:
        """Answer one history by several arms,
        such as `{"version": 3}` or `{"strategy": "popular"}`.
        """
        return await self._do(calls.compare(domain, history, arms, k, include))

    async def similar(
        self, domain: str, query: HistoryValue, k: int = 10, include: Sequence[str] = ()
    ) -> Similar:
        """Find the `k` items nearest to one, or to `{"text": …}`, `{"image_b64": …}` or both."""
        return await self._do(calls.similar(domain, query, k, include))

    async def embed(self, domain: str, items: Sequence[HistoryValue]) -> Embedded:
        """Return vectors of items, texts and pictures under the live version."""
        return await self._do(calls.embed(domain, items))

    async def put_domain(self, domain: str, title: str = "", backbone: str | None = None) -> Domain:
        """Create a domain or change its title."""
        return await self._do(calls.put_domain(domain, title, backbone))

    async def domains(self) -> list[Domain]:
        """List domains."""
        return (await self._do(calls.domains()))["items"]

    async def domain(self, name: str) -> Domain:
        """Show a domain."""
        return await self._do(calls.domain(name))

    async def delete_domain(self, name: str) -> None:
        """Delete a domain with all that belongs to it."""
        await self._do(calls.delete_domain(name))

    async def rollback(self, domain: str) -> RolledBack:
        """Go back to the version that was live before."""
        return await self._do(calls.rollback(domain))

    async def import_items(
        self,
        domain: str,
        items: Iterable[RowFields] | AsyncIterable[RowFields],
        on_job: OnJob | None = None,
    ) -> ImportReport:
        """Stream items to a domain; returns the report once all of them are searchable.

        What a row does not name of an item stays as it is stored; None gives it its default. Rows
        that cannot be stored, or not even sent, are in the report.

        Raises:
            TypeError: `items` holds no rows; nothing was sent.
        """
        sending = Sending(items)
        job = await self.wait(
            await self._do(calls.import_items(domain, sending.chunks_async())), on_job
        )
        report: Any = job["result"]
        return sending.complete(report)

    async def items(self, domain: str, limit: int = 100) -> AsyncIterator[Item]:
        """Yield a domain's items, page by page."""
        cursor: str | None = None
        while True:
            page = await self._do(calls.items(domain, limit, cursor))
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def put_probes(self, domain: str, probes: Sequence[Mapping[str, Any]]) -> int:
        """Replace a domain's held-out probes `{history, target}`; returns how many are kept."""
        return (await self._do(calls.put_probes(domain, probes)))["probes"]

    async def count_probes(self, domain: str) -> int:
        """Return how many probes are kept for a domain."""
        return (await self._do(calls.count_probes(domain)))["probes"]

    async def evaluate(
        self, domain: str, version: VersionName | None = None, k: int = 10
    ) -> Evaluated:
        """Evaluate a version, the live one if none is named, on the domain's probes."""
        return await self._do(calls.evaluate(domain, version, k))

    async def item(self, domain: str, item_id: str) -> Item:
        """Show an item."""
        return await self._do(calls.item(domain, item_id))

    async def put_item(self, domain: str, item_id: str, item: RowFields) -> Item:
        """Add or replace an item; searchable when this returns."""
        return await self._do(calls.put_item(domain, item_id, item))

    async def patch_item(self, domain: str, item_id: str, changes: RowFields) -> Item:
        """Change some fields of an item; None takes one away."""
        return await self._do(calls.patch_item(domain, item_id, changes))

    async def delete_item(self, domain: str, item_id: str) -> None:
        """Delete an item: it is gone from the next answer."""
        await self._do(calls.delete_item(domain, item_id))

    async def push(
        self,
        bundle: Path,
        *,
        activate: bool = False,
        create: bool = False,
        gate: Mapping[str, float] | None = None,
        on_job: OnJob | None = None,
    ) -> AdapterCard:
        """Upload a bundle; with `activate` wait until it is live. Returns the version's card.

        `gate` are thresholds that it must reach on the domain's probes, such as `{"max_drop":
        0.05}`.

        Raises:
            ProblemError: also when the activation fails; the old version then goes on serving.
        """
        with bundle.open("rb") as file:
            card = await self._do(
                calls.upload((bundle.name, file), activate=activate, create=create, gate=gate)
            )
        if "job" in card:
            await self.wait(card.pop("job"), on_job)
        return card

    async def versions(self, domain: str | None = None) -> list[AdapterCard]:
        """List versions, of all domains or of one."""
        return (await self._do(calls.versions(domain)))["items"]

    async def version(self, domain: str, version: int) -> AdapterCard:
        """Show a version's card."""
        return await self._do(calls.version(domain, version))

    async def download(self, domain: str, version: int, path: Path) -> Path:
        """Fetch a version's bundle, compare its digest with the card's, and put it at `path`.

        Raises:
            OSError: it cannot be written, or what came is not what the card names; `path` is as it
                was.
        """
        digest = (await self.version(domain, version))["digest"]
        with Download(path, digest) as part:
            async with self._http.stream("GET", calls.file_path(domain, version)) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise refusal(answer)
                async for chunk in answer.aiter_bytes():
                    part.write(chunk)
        return path

    async def delete_version(self, domain: str, version: int) -> None:
        """Delete a version."""
        await self._do(calls.delete_version(domain, version))

    async def activate(
        self,
        domain: str,
        version: VersionName,
        on_job: OnJob | None = None,
        *,
        canary_percent: int = 0,
        gate: Mapping[str, float] | None = None,
    ) -> Job:
        """Make a version, or `none`, live; returns the ended job.

        Args:
            domain: which one.
            version: a number, or none.
            on_job: called with the job at each step.
            canary_percent: answer so many of a hundred users only.
            gate: thresholds that it must reach on the domain's probes.
        """
        call = calls.activate(domain, version, canary_percent, gate)
        return await self.wait(await self._do(call), on_job)

    async def promote(self, domain: str, version: int) -> RolledBack:
        """Make a canary live for everybody."""
        return await self._do(calls.promote(domain, version))

    async def pin(self, domain: str, version: int, *, pinned: bool = True) -> AdapterCard:
        """Keep a version in memory and undeleted, or no longer."""
        return await self._do(calls.pin(domain, version, pinned=pinned))

    async def jobs(self, domain: str | None = None, limit: int = 100) -> list[Job]:
        """List jobs, newest first."""
        return (await self._do(calls.jobs(domain, limit)))["items"]

    async def job(self, job_id: str) -> Job:
        """Show a job."""
        return await self._do(calls.job(job_id))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that runs ends at its next step."""
        return await self._do(calls.cancel(job_id))

    async def wait(self, job: Job, on_job: OnJob | None = None) -> Job:
        """Wait until a job ended; `on_job` is called with the job at each step.

        Raises:
            ProblemError: it failed, or was cancelled.
        """
        pause = POLL_S
        while job["status"] not in DONE:
            await asyncio.sleep(pause)
            pause = min(pause * POLL_GROWTH, POLL_LONGEST_S)
            job = await self.job(job["id"])
            if on_job is not None:
                on_job(job)
        if job["status"] != "succeeded":
            raise unfinished(job)
        return job

    async def info(self) -> Info:
        """Say what runs there."""
        return await self._do(calls.info())

    async def metrics(self) -> str:
        """Return the metrics in Prometheus' text form."""
        answer = await self._send(Call("GET", "/metrics", repeatable=True))
        if answer.is_error:
            raise refusal(answer)
        return answer.text

    async def alive(self) -> bool:
        """Whether a process answers there."""
        return await self._probe("/livez")

    async def ready(self) -> bool:
        """Whether the service can answer for every domain that it knows."""
        return await self._probe("/readyz")

    async def readiness(self) -> Readiness:
        """Return which domains do not answer, and why, also while the service is loading."""
        call = calls.readiness()
        return readiness_of(self.url, call, await self._send(call))

    async def _probe(self, path: str) -> bool:
        try:
            return (await self._http.get(path)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def _do(self, call: Call[T]) -> T:
        body: T = body_of(self.url, call, await self._send(call))
        return body

    async def _send(self, call: Call[Any]) -> httpx.Response:
        attempts = Attempts(self.url, call)
        while True:
            try:
                with named_texts(call):
                    answer = await self._http.request(call.method, call.path, **call.request)
            except httpx.TransportError as error:
                await asyncio.sleep(attempts.after_error(error))
                continue
            pause = attempts.after_answer(answer)
            if pause is None:
                return answer
            await asyncio.sleep(pause)
