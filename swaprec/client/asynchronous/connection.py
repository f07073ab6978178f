"""A connection to a service: how a call is sent, and what is asked of the service itself."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from service.wire.responses import Info, Job, Readiness
from swaprec.client import calls
from swaprec.client.calls import Call, OnJob
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


class AsyncConnection:
    """Sends calls, repeats what may be repeated, and waits for jobs."""

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
