"""The Python client: `Client("http://127.0.0.1:8000").recommend("movies", ["i1", "i2"])`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from swaprec.errors import ProblemError, Unreachable

NDJSON = "application/x-ndjson"
POLL_S = 0.1
PAUSES_S = (0.1, 0.4)
BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout)
CHUNK_ROWS = 500
LOOPBACK = ("127.0.0.1", "localhost", "::1")

Json = dict[str, Any]
OnJob = Callable[[Json], None]


class Client:
    """A connection to a service; a context manager.

    What is safe to repeat is repeated when the connection breaks: reading, and whatever was not sent yet.

    Raises (every method):
        ProblemError: the service refused; Unreachable: nobody answers there.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", timeout: float = 60.0) -> None:
        self.url = check_url(url)
        # a proxy of the environment does not reach this machine's own services
        proxied = httpx.URL(self.url).host not in LOOPBACK
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=proxied)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def recommend(self, domain: str, history: Sequence[str], k: int = 10, **wishes: Any) -> Json:
        """Recommend `k` items to a history, oldest first; further fields of the request as keywords."""
        body = {"history": list(history), "k": k, **wishes}
        return self._json("POST", "/recommend", params={"domain": domain}, json=body)

    def put_domain(self, domain: str, title: str = "", backbone: str | None = None) -> Json:
        """Create a domain or change its title."""
        return self._json("PUT", f"/domains/{domain}", json={"title": title, "backbone": backbone})

    def domains(self) -> list[Json]:
        """List domains."""
        return self._items("/domains")

    def domain(self, name: str) -> Json:
        """Show a domain."""
        return self._json("GET", f"/domains/{name}")

    def delete_domain(self, name: str) -> None:
        """Delete a domain with all that belongs to it."""
        self._send("DELETE", f"/domains/{name}")

    def import_items(self, domain: str, items: Iterable[Mapping[str, Any]], on_job: OnJob | None = None) -> Json:
        """Stream items to a domain; returns the report once all of them are searchable.

        It is a job there, since embedding may take longer than a connection waits.
        """
        path, headers = f"/domains/{domain}/items", {"Content-Type": NDJSON}
        job = self._json("POST", path, params={"wait": "false"}, content=_ndjson(items), headers=headers)
        report: Json = self.wait(job, on_job)["result"]
        return report

    def items(self, domain: str, limit: int = 100) -> Iterator[Json]:
        """Yield a domain's items, page by page."""
        params: dict[str, str | int] = {"limit": limit}
        while True:
            page = self._json("GET", f"/domains/{domain}/items", params=params)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    def item(self, domain: str, item_id: str) -> Json:
        """Show an item."""
        return self._json("GET", f"/domains/{domain}/items/{item_id}")

    def push(self, bundle: Path, *, activate: bool = False, create: bool = False, on_job: OnJob | None = None) -> Json:
        """Upload a bundle; with `activate` wait until it is live. Returns the version's card.

        Raises:
            ProblemError: also when the activation fails; the old version then goes on serving.
        """
        fields = {"activate": str(activate).lower(), "create": str(create).lower()}
        with bundle.open("rb") as file:
            card = self._json("POST", "/adapters", files={"file": (bundle.name, file)}, data=fields)
        if "job" in card:
            self.wait(card.pop("job"), on_job)
        return card

    def versions(self, domain: str) -> list[Json]:
        """List a domain's versions."""
        return self._items("/adapters", domain=domain)

    def version(self, domain: str, version: int) -> Json:
        """Show a version's card."""
        return self._json("GET", f"/adapters/{domain}/versions/{version}")

    def delete_version(self, domain: str, version: int) -> None:
        """Delete a version."""
        self._send("DELETE", f"/adapters/{domain}/versions/{version}")

    def activate(self, domain: str, version: int | str, on_job: OnJob | None = None) -> Json:
        """Make a version, or `none`, live; returns the ended job."""
        return self.wait(self._json("POST", f"/adapters/{domain}/versions/{version}/activate"), on_job)

    def rollback(self, domain: str) -> Json:
        """Go back to the version that was live before."""
        return self._json("POST", f"/domains/{domain}/rollback")

    def jobs(self, domain: str | None = None) -> list[Json]:
        """List jobs, newest first."""
        return self._items("/jobs", **({} if domain is None else {"domain": domain}))

    def wait(self, job: Json, on_job: OnJob | None = None) -> Json:
        """Wait until a job ended; `on_job` is told of each step.

        Raises:
            ProblemError: it failed.
        """
        while job["status"] not in ("succeeded", "failed"):
            time.sleep(POLL_S)
            job = self._json("GET", f"/jobs/{job['id']}")
            if on_job is not None:
                on_job(job)
        if job["status"] == "failed":
            raise ProblemError(job["error"])
        return job

    def info(self) -> Json:
        """Say what runs there."""
        return self._json("GET", "/info")

    def ready(self) -> bool:
        """Whether the service can answer."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _items(self, path: str, **params: str) -> list[Json]:
        items: list[Json] = self._json("GET", path, params=params)["items"]
        return items

    def _json(self, method: str, path: str, **request: Any) -> Json:
        answer = self._send(method, path, **request)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Unreachable(self.url, f"what answers there is something else ({method} {path} is no JSON object)")
        return body

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        pauses = iter(PAUSES_S)
        while True:
            try:
                answer = self._http.request(method, path, **request)
                break
            except httpx.TransportError as error:
                pause = next(pauses, None)
                if pause is None or not (method == "GET" or isinstance(error, BEFORE_SENDING)):
                    raise Unreachable(self.url, str(error) or type(error).__name__) from error
                time.sleep(pause)
        if answer.is_error:
            raise ProblemError(_problem(answer))
        return answer


def check_url(url: str) -> str:
    """Return a service's address without its last slash.

    Raises:
        ValueError: it is none.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not the address of a service: expected for example http://127.0.0.1:8000")
    return url.rstrip("/")


def _problem(answer: httpx.Response) -> Json:
    try:
        body = answer.json()
    except ValueError:
        body = None
    return (
        body if isinstance(body, dict) and "status" in body else {"status": answer.status_code, "detail": answer.text}
    )


def _ndjson(items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    lines: list[str] = []
    for item in items:
        lines.append(json.dumps(item, ensure_ascii=False) + "\n")
        if len(lines) == CHUNK_ROWS:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()
