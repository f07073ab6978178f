# Generated from ../asynchronous by `make fix`: change that one.
"""A connection to a service: how a call is sent, and what is asked of the service itself."""

from __future__ import annotations

import time
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


class SyncConnection:
    """Sends calls, repeats what may be repeated, and waits for jobs."""

    def __init__(
        self, url: str | None = None, key: str | None = None, timeout: float = 60.0
    ) -> None:
        self._http = open_http(httpx.Client, url, key, timeout)
        self.url = str(self._http.base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def info(self) -> Info:
        """Say what runs there."""
        return self._do(calls.info())

    def metrics(self) -> str:
        """Return the metrics in Prometheus' text form."""
        answer = self._send(Call("GET", "/metrics", repeatable=True))
        if answer.is_error:
            raise refusal(answer)
        return answer.text

    def alive(self) -> bool:
        """Whether a process answers there."""
        return self._probe("/livez")

    def ready(self) -> bool:
        """Whether the service can answer for every domain that it knows."""
        return self._probe("/readyz")

    def readiness(self) -> Readiness:
        """Return which domains do not answer, and why, also while the service is loading."""
        call = calls.readiness()
        return readiness_of(self.url, call, self._send(call))

    def jobs(self, domain: str | None = None, limit: int = 100) -> list[Job]:
        """List jobs, newest first."""
        return (self._do(calls.jobs(domain, limit)))["items"]

    def job(self, job_id: str) -> Job:
        """Show a job."""
        return self._do(calls.job(job_id))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that runs ends at its next step."""
        return self._do(calls.cancel(job_id))

    def wait(self, job: Job, on_job: OnJob | None = None) -> Job:
        """Wait until a job ended; `on_job` is called with the job at each step.

        Raises:
            ProblemError: it failed, or was cancelled.
        """
        pause = POLL_S
        while job["status"] not in DONE:
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, POLL_LONGEST_S)
            job = self.job(job["id"])
            if on_job is not None:
                on_job(job)
        if job["status"] != "succeeded":
            raise unfinished(job)
        return job

    def _probe(self, path: str) -> bool:
        try:
            return (self._http.get(path)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _do(self, call: Call[T]) -> T:
        body: T = body_of(self.url, call, self._send(call))
        return body

    def _send(self, call: Call[Any]) -> httpx.Response:
        attempts = Attempts(self.url, call)
        while True:
            try:
                with named_texts(call):
                    answer = self._http.request(call.method, call.path, **call.request)
            except httpx.TransportError as error:
                time.sleep(attempts.after_error(error))
                continue
            pause = attempts.after_answer(answer)
            if pause is None:
                return answer
            time.sleep(pause)
