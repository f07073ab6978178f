"""Several worker processes on one port:
kept alive, replaced one by one on SIGHUP, ended together.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.data_folder import only_process
from service.die_with_parent import die_with_parent
from service.process import freeze_objects, tune
from service.settings import Settings

LOG_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"
HANGS_AFTER_S = 60

_log = logging.getLogger("swaprec")


def run_workers(settings: Settings, config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve with as many processes as the settings say until SIGTERM or SIGINT.

    A worker that dies is started again; one that cannot start ends them all, and says why. The data
    folder is held by this process, so that no second service writes to it while the workers come
    and go.

    Raises:
        StateError: another service holds the data folder.
    """
    config.app = partial(work, settings, os.getpid())
    config.factory = True
    config.workers = settings.workers
    config.timeout_worker_healthcheck = HANGS_AFTER_S
    with only_process(settings.data, shared=settings.redis_url is not None):
        Supervisor(config, sockets=[listener]).run()


class Supervisor(Multiprocess):
    """Notices at once that a worker died,
    also while it waits for the answer of one that is busy loading.
    """

    def keep_subprocess_alive(self) -> None:
        """Start again what died."""
        before = list(self.processes)
        for process in before:
            # With the parent's copy of the worker's end closed, a death is the end of the pipe and
            # not a silence.
            process.child_conn.close()
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if old is not new:
                _log.warning(
                    "worker %s ended (%s): worker %s takes its place",
                    old.pid,
                    _why(old.exitcode),
                    new.pid,
                )

    def handle_term(self) -> None:
        """End all workers."""
        _log.info(
            "SIGTERM: %d workers answer what they accepted, then the service ends",
            len(self.processes),
        )
        super().handle_term()

    def handle_int(self) -> None:
        """End all workers."""
        _log.info(
            "SIGINT: %d workers answer what they accepted, then the service ends",
            len(self.processes),
        )
        super().handle_int()

    def handle_hup(self) -> None:
        """Replace the workers one by one."""
        before = [process.pid for process in self.processes]
        _log.info("SIGHUP: %d workers are replaced, one by one", len(before))
        super().handle_hup()
        _log.info(
            "workers %s are replaced by %s", before, [process.pid for process in self.processes]
        )


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def work(settings: Settings, parent: int) -> FastAPI:
    """Make a worker's app; uvicorn's own handler of SIGTERM ends it,
    as the supervisor or an operator asks.
    """
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
    die_with_parent(parent)
    tune(settings.threads)
    return create_app(settings, alone=False, on_started=freeze_objects)
