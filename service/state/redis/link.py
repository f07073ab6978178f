"""The line to Redis: every operation once or reported as failed, never a wait longer than a few
seconds.

A thread looks at Redis twice a second. While it is gone, operations fail at once instead of each
waiting for its own timeout; when it is back, and is the same one, they work again without anybody
doing anything.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis import exceptions as theirs
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters_store.errors import OutOfSpace
from service.errors import StateError, StateLost, StateUnavailable
from service.state.redis import scripts
from service.state.redis.job_scripts import SETTLE
from service.state.redis.keys import EPOCH, FEED, FEED_COUNT, JOB, JOBS, LINE, OPEN_JOBS, ROOT

TIMEOUT_S = 2.0
CONNECT_S = 1.0
WAIT_S = 1.0
LOOK_S = 0.5

_CONNECTION_ERRORS = (theirs.ConnectionError, theirs.TimeoutError)
_log = logging.getLogger("swaprec")

FillPipeline = Callable[[Any], object]
Value = str | bytes | int | float


class Link:
    """Connections to one Redis; safe to use from any thread."""

    def __init__(self, url: str) -> None:
        self.shown = shown(url)
        self.epoch = ""
        self._client = _client(url, self.shown, TIMEOUT_S)
        self._watcher = _client(url, self.shown, CONNECT_S)
        self._waiter = _client(url, self.shown, WAIT_S + TIMEOUT_S)
        self._writer = uuid.uuid4().hex
        self._fence = 0
        self._lock = threading.Lock()
        self._unsure: set[str] = set()
        self._trouble: StateUnavailable | None = None
        self._closing = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def trouble(self) -> str | None:
        """Why Redis cannot be used now; None while it can. Costs nothing."""
        trouble = self._trouble
        return None if trouble is None else trouble.detail

    @property
    def closing(self) -> bool:
        """Whether it is to be let go of."""
        return self._closing.is_set()

    def watch(self) -> None:
        """Begin to look at Redis now and then."""
        self._watch = threading.Thread(target=self._keep_looking, name="redis-watch", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Let go of all connections."""
        self._closing.set()
        if self._watch is not None:
            self._watch.join()
        self._client.close()
        self._watcher.close()
        # A waiting reader finds out within a second.
        self._waiter.connection_pool.disconnect(inuse_connections=False)

    def plain(self, call: Callable[[Any], Any]) -> Any:
        """Ask before the epoch is agreed on.

        Raises:
            StateUnavailable.
        """
        with self._answered():
            return call(self._client)

    def read(self, ask: FillPipeline) -> list[Any]:
        """Ask several things of one moment: `ask` is handed a pipeline; returns their answers.

        Raises:
            StateUnavailable, StateLost.
        """
        with self._answered():
            epoch, *answers = _twice(lambda: self._execute(ask))
            if epoch != self.epoch.encode():
                raise _Lost
        return answers

    def write(self, script: str, keys: Sequence[str], *values: Value) -> bytes:
        """Run a script once; returns its answer, one that begins with `!` where it did nothing.

        Raises:
            StateUnavailable: whether it was done is unknown, and a retry is safe; StateLost,
                OutOfSpace: it was not.
        """
        with self._answered():
            return self._send(script, keys, values)

    def wait(self, log: str, after: str, seconds: float) -> None:
        """Wait, for a second at most, until a log has something behind `after`, on a connection of
        its own.

        Raises:
            StateUnavailable.
        """
        with self._answered():
            wanted = {log: after}
            block = max(1, int(min(seconds, WAIT_S) * 1000))
            _twice(lambda: self._waiter.xread(wanted, count=1, block=block))

    def take_back(self, job_id: str) -> None:
        """Have a job forgotten, as soon as Redis answers,
        of which nobody knows whether it was stored.
        """
        with self._lock:
            self._unsure.add(job_id)

    def _execute(self, ask: FillPipeline) -> list[Any]:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.get(EPOCH)
            ask(pipe)
            answers: list[Any] = pipe.execute()
        return answers

    def _send(self, script: str, keys: Sequence[str], values: Sequence[Value]) -> bytes:
        run = self._client.register_script(script)
        own = (
            EPOCH,
            f"{ROOT}fence:{self._writer}",
            f"{ROOT}done:{uuid.uuid4().hex}",
            FEED,
            FEED_COUNT,
        )
        failed = False
        while True:
            try:
                reply: bytes = run(keys=[*own, *keys], args=[self.epoch, self._fence, *values])
            except _CONNECTION_ERRORS as error:
                with self._lock:
                    self._fence += (
                        1  # should it still arrive, it must not undo what is written from now on
                    )
                if failed or isinstance(error, (theirs.TimeoutError, theirs.AuthenticationError)):
                    raise
                failed = True
                continue
            if reply == scripts.LOST:
                raise _Lost
            # Stale: another thread's write overtook it and it was not done; once more.
            if reply != scripts.STALE:
                return reply

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Turn what Redis can answer into our own errors;
        fail at once while it is known to be gone.
        """
        trouble = self._trouble
        if trouble is not None:
            raise type(trouble)(trouble.detail)
        try:
            yield
        except _Lost:
            self._trouble = self._lost("another one, or an empty one, answers there now")
            raise self._trouble from None
        except redis.RedisError as error:
            raise self._ours(error) from error

    def _ours(self, error: redis.RedisError) -> StateUnavailable | OutOfSpace:
        text = str(error)
        if isinstance(error, theirs.OutOfMemoryError) or (
            text.startswith("MISCONF") and "No space left" in text
        ):
            return OutOfSpace(
                f"{self.shown} is full ({text}): give it more memory or disk and try again; nothing"
                " was changed"
            )
        found = StateUnavailable(f"{self.shown} {_reason(error)}")
        if isinstance(error, (*_CONNECTION_ERRORS, theirs.ReadOnlyError)) and self.epoch:
            self._trouble = found
        return found

    def _lost(self, found: str) -> StateLost:
        return StateLost(
            f"{self.shown} is not the Redis that this service wrote to: {found}. Nothing was taken"
            " from it or written to it, recommendations go on from memory. Bring the old one back"
            " (its append-only file), then it goes on by itself; docs/configuration.md says how to"
            " begin anew"
        )

    def _keep_looking(self) -> None:
        while not self._closing.wait(LOOK_S):
            before = self._trouble
            try:
                self._trouble = self._look()
            except Exception:  # noqa: BLE001 - a watch that ends would leave the state gone for ever
                _log.exception("%s cannot be watched", self.shown)
            _log_change(self.shown, before, self._trouble)

    def _look(self) -> StateUnavailable | None:
        try:
            epoch = self._watcher.get(EPOCH)
            if epoch != self.epoch.encode():
                return self._lost(
                    "it is empty"
                    if epoch is None
                    else f"its epoch is {epoch.decode(errors='replace')}"
                )
            if self._trouble is not None or self._unsure:
                self._settle()
        except _Lost:
            return self._lost("it changed just now")
        except redis.RedisError as error:
            # Another server may have taken over the name.
            for client in (
                self._client,
                self._watcher,
                self._waiter,
            ):
                client.connection_pool.disconnect(inuse_connections=False)
            return StateUnavailable(f"{self.shown} {_reason(error)}")
        return None

    def _settle(self) -> None:
        """Write something, so that it is known that this works,
        and close the door behind what was given up.
        """
        with self._lock:
            unsure = list(self._unsure)
        self._send(SETTLE, [JOBS, OPEN_JOBS], [JOB, LINE, *unsure])
        with self._lock:
            self._unsure.difference_update(unsure)


class _Lost(Exception):
    pass


def shown(url: str) -> str:
    """Return a URL as it may be logged: without its password and options."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username}@" if parts.username else ""
    except ValueError:
        return "REDIS_URL"
    return urlunsplit((parts.scheme, user + host, parts.path, "", ""))


def _client(url: str, name: str, timeout: float) -> Any:
    # Not their retries: they would send a write again without knowing whether it was done.
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=CONNECT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise StateError(
            f"REDIS_URL {name!r} cannot be read: expected redis://host:6379/0, rediss://… or unix:///path/to/socket"
        ) from error


def _twice(call: Callable[[], list[Any]]) -> list[Any]:
    """Once more where a connection broke: it may only have been an old one.

    Not after a timeout: that took long.
    """
    try:
        return call()
    except theirs.AuthenticationError:
        raise
    except theirs.ConnectionError:
        return call()


def _reason(error: redis.RedisError) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, theirs.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return f"refuses user or password ({text}): check REDIS_URL"
    if isinstance(error, theirs.TimeoutError):
        return f"does not answer within {TIMEOUT_S:g} s"
    if isinstance(error, theirs.ResponseError):
        return f"refuses: {text}"
    return f"does not answer: {text}"


def _log_change(name: str, before: StateUnavailable | None, after: StateUnavailable | None) -> None:
    if after is not None and (before is None or before.detail != after.detail):
        _log.error("state: %s", after.detail)
    elif before is not None and after is None:
        _log.warning("state: %s answers again", name)
