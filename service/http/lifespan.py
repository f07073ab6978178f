"""The life of an app: what starts and ends with its server."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from types import FrameType

from fastapi import FastAPI

from service.http.components import Components, provide
from service.rollout.gate_runner import EventLoopReader


@asynccontextmanager
async def lifespan(
    app: FastAPI, components: AbstractContextManager[Components], on_started: Callable[[], None]
) -> AsyncIterator[None]:
    """Start the follower and the jobs with the server; close the components when it stops."""
    with components as opened:
        app.state.components = opened
        provide(app.state, opened)
        opened.gate_runner.loop_reader = EventLoopReader(asyncio.get_running_loop(), opened.reader)
        opened.follower.start()
        opened.jobs.start()
        on_started()
        with _ending(opened):
            yield


@contextmanager
def _ending(components: Components) -> Iterator[None]:
    """End what takes long when the process is asked to stop:
    the server waits for answers before it ends the app.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        components.job_events.close()
        components.reader.pace.close()

    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():  # only there signals are heard
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                signal.signal(number, partial(_stopped, loop, end, before))
                restored.callback(signal.signal, number, before)
        yield
    end()


def _stopped(
    loop: asyncio.AbstractEventLoop,
    end: Callable[[], None],
    before: object,
    number: int,
    frame: FrameType | None,
) -> None:
    loop.call_soon_threadsafe(end)
    if callable(before):
        before(number, frame)
