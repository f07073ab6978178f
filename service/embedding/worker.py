"""Embedding much and building indexes in a process of its own: niced, so that requests go first,
one task at a time.

The process is started when it is first needed, spoken to in lines of JSON, kept for the next task
and let go after a while. It adds vectors to the same segments as everybody; when it is killed, what
it had kept stays kept.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters_store.errors import OutOfSpace
from service.catalog.index import Tuned
from service.errors import ServiceError, StateUnavailable, VerificationFailed
from service.version import Version
from transrec.arrays import Floats
from transrec.backbone import Backbone
from transrec.content import Content
from transrec.progress import OnProgress, OnStage

NICE = 19
TICK_S = 0.25
"""How often it is looked whether who waits still wants the task, while the process says nothing."""
IDLE_S = 60.0
PIPE_BYTES = 65_536

Heard = Callable[[dict[str, Any]], object]
"""Called with what the process says of a task."""

_log = logging.getLogger("swaprec")


class BuildFailed(ServiceError):
    """A task that its process could not finish."""

    status = 500
    code = "build_failed"
    title = "Build failed"


class WorkerKilled(BuildFailed):
    """The process ended in the middle of a task."""


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A version for another process to load; `none` has no bundle."""

    version: Version
    digest: str
    dtype: str
    bundle: str | None


class WorkerProcess:
    """Owns the worker process.

    Args:
        folders: where the backbones lie, by fingerprint.
        least: from this many items on, the worker is used.
        threads: that it computes with.
        where: what the process needs to read the catalog: data folder, address of Redis, size from
            which catalogs get an index.
    """

    def __init__(
        self,
        folders: Callable[[str], Path | None],
        *,
        least: int,
        threads: int,
        where: dict[str, Any] | None = None,
    ) -> None:
        self._where = where or {}
        self._folders = folders
        self._least = least
        self._threads = threads
        self._turn = threading.Lock()
        self._closed = False
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="builder")
        self._process: subprocess.Popen[str] | None = None
        self._idle: threading.Timer | None = None

    def takes(self, count: int, backbone: Backbone) -> bool:
        """Whether the worker embeds this many items; a backbone is never loaded twice on a GPU."""
        known = self._folders(backbone.fingerprint) is not None
        return count >= self._least > 0 and backbone.device.type == "cpu" and known

    def embed(
        self,
        backbone: Backbone,
        bundle: Path | None,
        dtype: str,
        contents: Sequence[Content],
        place: Path,
        progress: OnProgress | None = None,
    ) -> None:
        """Embed contents and keep their vectors in the segments at `place`; waits until it is done.

        Raises:
            BuildFailed: with the reason, or that the process was killed. What `progress` raises
                ends it, too.
        """
        with _spooled(contents) as spool:
            task = {
                "do": "embed",
                "backbone": str(self._folders(backbone.fingerprint)),
                "bundle": None if bundle is None else str(bundle),
                "dtype": dtype,
                "contents": str(spool),
                "place": str(place),
            }
            first = {"done": 0, "total": len(contents)}
            self._run(
                task, first, lambda answer: progress and progress(answer["done"], answer["total"])
            )

    def compact(
        self,
        domain: str,
        backbone: Backbone,
        versions: Sequence[VersionFile],
        token: int,
        stage: OnStage,
    ) -> None:
        """Build a base of a domain's catalog; see `service.embedding.base_builder`.

        Raises:
            BuildFailed; what `stage` and what it returned raise.
        """
        task = {
            "do": "fold",
            "domain": domain,
            "backbone": str(self._folders(backbone.fingerprint)),
            "versions": [asdict(version) for version in versions],
            "token": token,
            "where": self._where,
        }
        on_progress: OnProgress | None = None
        now = ""

        def progress(answer: dict[str, Any]) -> None:
            nonlocal on_progress, now
            if answer["stage"] != now or on_progress is None:
                now = answer["stage"]
                on_progress = stage(now)
            on_progress(answer["done"], answer["total"])

        self._run(task, {"stage": "embed", "done": 0, "total": 0}, progress)

    def index(
        self,
        vectors: Path,
        count: int,
        queries: Floats,
        source: str,
        path: Path,
        check: Callable[[], None] = lambda: None,
    ) -> Tuned | None:
        """Build an index over the first `count` rows of a file of vectors; see
        `service.catalog.index.build`.

        Raises:
            BuildFailed. What `check` raises ends it, too.
        """
        with tempfile.TemporaryDirectory(prefix="swaprec-") as folder:
            np.save(Path(folder) / "queries.npy", queries)
            task = {
                "do": "index",
                "vectors": str(vectors),
                "count": count,
                "source": source,
                "path": str(path),
            }
            task["queries"] = str(Path(folder) / "queries.npy")
            result = self._run(task, {}, lambda _: check())
        return None if result is None else Tuned.parse(result)

    def _run(self, task: dict[str, Any], first: dict[str, Any], progress: Heard) -> Any:
        """Do a task in its turn.

        Args:
            task: for the process.
            first: how far it is before the process says so.
            progress: called with each answer, and with the last one again while there is none.
        """
        while not self._turn.acquire(timeout=TICK_S):
            progress(first)
        try:
            try:
                result = self._asked(task, first, progress)
            except BaseException:
                self._end()
                raise
            self._rest()
        finally:
            self._turn.release()
        return result

    def _asked(self, task: dict[str, Any], first: dict[str, Any], progress: Heard) -> Any:
        """Ask, and once more where the process was killed: what it had embedded is kept."""
        try:
            return self._ask(task, first, progress)
        except WorkerKilled as error:
            if self._closed:
                raise
            _log.warning("%s: once more", error.detail)
            self._end()
            return self._ask(task, first, progress)

    def close(self) -> None:
        """End the process."""
        self._closed = True
        process = self._process
        if process is not None:  # whoever waits for it learns that it is gone
            process.kill()
        with self._turn:
            self._end()
        self._starter.shutdown()

    def _ask(self, task: dict[str, Any], last: dict[str, Any], progress: Heard) -> Any:
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        for answer in _answers(process):
            if answer is None:
                progress(last)
                continue
            if "unavailable" in answer:
                raise StateUnavailable(f"{task['do']}: {answer['unavailable']}")
            if "refused" in answer:
                raise VerificationFailed(answer["refused"])
            if "full" in answer:
                raise OutOfSpace(answer["full"])
            if "error" in answer:
                raise BuildFailed(f"{task['do']}: {answer['error']}")
            if "end" in answer:
                return answer["end"]
            last = answer
            progress(last)
        code = process.wait()
        why = f"signal {-code}" if code < 0 else f"code {code}"
        raise WorkerKilled(
            f"the process that builds ended with {why}: what it had embedded is kept, try again"
        )

    def _running(self) -> subprocess.Popen[str]:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is None or self._process.poll() is not None:
            threads = str(self._threads)
            command = [
                sys.executable,
                "-m",
                "service.embedding.worker_main",
                str(os.getpid()),
                threads,
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            # The kernel ends it with the thread that started it: one that lasts as long as the
            # service.
            self._process = self._starter.submit(_started, command, environment).result()
        return self._process

    def _rest(self) -> None:
        self._idle = threading.Timer(IDLE_S, self._let_go)
        self._idle.daemon = True
        self._idle.start()

    def _let_go(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        process = self._process
        self._process = None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


def _answers(process: subprocess.Popen[str]) -> Iterator[dict[str, Any] | None]:
    """Yield what the process says until its end,
    and None every now and then while it says nothing.
    """
    assert process.stdout is not None  # noqa: S101 - a pipe
    pipe = process.stdout.fileno()
    text = b""
    ready = select.poll()  # unlike select, for descriptors of any number
    ready.register(pipe, select.POLLIN)
    while True:
        if not ready.poll(1000 * TICK_S):
            yield None
            continue
        more = os.read(pipe, PIPE_BYTES)
        if not more:
            return
        *lines, text = (text + more).split(b"\n")
        yield from map(json.loads, lines)


def _started(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own program, our own arguments
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


@contextmanager
def _spooled(contents: Sequence[Content]) -> Iterator[Path]:
    """Write contents to a file, a line of JSON each; a picture by its path, or by its bytes."""
    with tempfile.TemporaryDirectory(prefix="swaprec-") as folder:
        path = Path(folder) / "contents.jsonl"
        with path.open("w", encoding="ascii") as file:
            for number, content in enumerate(contents):
                image = None
                if content.image is not None:
                    image = Path(folder) / f"{number}.image"
                    image.write_bytes(content.image.read())
                row = [content.text, None if image is None else str(image)]
                file.write(json.dumps(row) + "\n")
        yield path
