"""What both clients know of HTTP: addresses, keys, what is repeated and when, and problems."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from urllib.request import proxy_bypass

import httpx

from service.wire.responses import Job, Readiness
from swaprec.client.arguments import check_encodable
from swaprec.client.calls import Call
from swaprec.errors import ProblemError, ProxyUnusable, Unreachable, problem_error

H = TypeVar("H")

LOCAL = "http://127.0.0.1:8000"
PROXIES = tuple(
    name for one in ("all_proxy", "http_proxy", "https_proxy") for name in (one.upper(), one)
)
PAUSES_S = (0.1, 0.4, 1.0)
LONGEST_PAUSE_S = 5.0
BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout)
BUSY = (429, 503)
POLL_S = 0.05
POLL_LONGEST_S = 1.0
POLL_GROWTH = 1.3
DONE = ("succeeded", "failed", "cancelled")


def options(url: str | None, key: str | None, timeout: float) -> dict[str, Any]:
    """Return how to open a connection; what is not given comes from `SWAPREC_URL` and
    `SWAPREC_KEY`.

    Raises:
        ValueError: no address, or a key that is none.
    """
    address = check_url((os.environ.get("SWAPREC_URL") or LOCAL) if url is None else url)
    token = os.environ.get("SWAPREC_KEY", "") if key is None else key
    if not token.isascii():
        raise ValueError(
            "the key has characters that no key has: expected the ASCII text that was printed when"
            " it was made"
        )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # A proxy of the environment does not reach this machine's own services.
    proxied = not is_loopback(httpx.URL(address).host)
    return {"base_url": address, "timeout": timeout, "headers": headers, "trust_env": proxied}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    return found.is_loopback or found.is_unspecified


def open_http(kind: Callable[..., H], url: str | None, key: str | None, timeout: float) -> H:
    """Open a connection of a kind.

    Raises:
        ValueError: no address, or a key that is none.
        ProxyUnusable: the environment's proxy needs what is not installed, or is none.
    """
    given = options(url, key, timeout)
    try:
        return kind(**given)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        # httpx prepares every proxy that the environment names, also one that this host would not
        # be reached by.
        if proxy_bypass(httpx.URL(given["base_url"]).host):
            return kind(**(given | {"trust_env": False}))
        what = (
            "a SOCKS proxy, which needs pip install 'httpx[socks]': install it"
            if isinstance(error, ImportError)
            else f"no usable proxy ({error}): correct it"
        )
        named = ", ".join(name for name in PROXIES if os.environ.get(name)) or "ALL_PROXY"
        why = f"the environment names {what}, unset {named}, or add the host to NO_PROXY"
        raise ProxyUnusable(given["base_url"], why) from error


def check_url(url: str) -> str:
    """Return a service's address without its last slash.

    Raises:
        ValueError: it is none.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeEncodeError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not the address of a service: expected for example {LOCAL}")
    return url.rstrip("/")


@contextmanager
def named_texts(call: Call[Any]) -> Iterator[None]:
    """Name the text of a call that cannot be sent, where httpx only says that one cannot.

    Raises:
        Unsendable: a text has no form in UTF-8.
    """
    try:
        yield
    except UnicodeEncodeError:
        for part in ("params", "json", "data"):
            check_encodable(call.request.get(part), "")
        raise


class Attempts:
    """Decides after each attempt of a call whether to go on: what may be repeated is, a few times.

    A connection that could not be made sent nothing: any call is tried again. One that broke later,
    or a service that is busy and says when to come back, is tried again where the call may be
    repeated.
    """

    def __init__(self, url: str, call: Call[Any]) -> None:
        self._url = url
        self._call = call
        self._pauses = iter(PAUSES_S)

    def after_error(self, error: httpx.TransportError) -> float:
        """Return how many seconds to wait before the next attempt.

        Raises:
            Unreachable: it is the end.
        """
        pause = next(self._pauses, None)
        if pause is None or not (self._call.repeatable or isinstance(error, BEFORE_SENDING)):
            raise Unreachable(self._url, str(error) or type(error).__name__) from error
        return pause

    def after_answer(self, answer: httpx.Response) -> float | None:
        """Return how many seconds to wait before the next attempt, None where the answer stands."""
        if answer.status_code not in BUSY or not self._call.repeatable:
            return None
        asked = answer.headers.get("Retry-After", "")
        if not asked.isdecimal() or next(self._pauses, None) is None:
            return None
        return min(float(asked), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all come at once


def body_of(url: str, call: Call[Any], answer: httpx.Response) -> Any:
    """Return the JSON object of an answer.

    Raises:
        ProblemError: the service refused; Unreachable: what answers there is no swaprec.
    """
    if answer.is_error:
        raise refusal(answer)
    if answer.status_code == httpx.codes.NO_CONTENT:
        return None
    body = _json(answer)
    if not isinstance(body, dict):
        raise Unreachable(
            url,
            f"what answers there is something else ({call.method} {call.path} is no JSON object)",
        )
    return body


def readiness_of(url: str, call: Call[Readiness], answer: httpx.Response) -> Readiness:
    """Return what `/readyz` says; 503 is an answer here: it loads.

    Raises:
        ProblemError, Unreachable: as `body_of`.
    """
    body = _json(answer)
    if isinstance(body, dict) and {"loading", "broken", "degraded"} <= set(body):
        return cast("Readiness", body)
    return cast("Readiness", body_of(url, call, answer))


def refusal(answer: httpx.Response) -> ProblemError:
    """Return the error of an answer whose body was read."""
    body = _json(answer)
    if not isinstance(body, dict) or "status" not in body:
        body = {"status": answer.status_code, "detail": answer.text}
    return problem_error(body)


def unfinished(job: Job) -> ProblemError:
    """Return the error of a job that ended without success."""
    cancelled = {
        "status": 409,
        "code": "cancelled",
        "title": "Cancelled",
        "detail": f"job {job['id']} was cancelled",
    }
    return problem_error(job["error"] or cancelled)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
