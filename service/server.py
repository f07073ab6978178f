"""Run the service: one port, one process or several."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn

from service.access.keys import open_keys
from service.app import create_app, started
from service.http.admission_middleware import refuse_early
from service.http.limits import Limits
from service.http.protocol import BoundedConfig
from service.process import freeze_objects, tune
from service.settings import Settings, unknown_variables
from service.workers import run_workers

BACKLOG = 1024
GRACE_S = 30
"""How long accepted requests may take after SIGTERM before their connections are closed."""

OTHER_DESCRIPTORS = 1024
"""Files, sockets and locks beside the connections."""

_log = logging.getLogger("swaprec")


class PortTaken(RuntimeError):
    """The port cannot be listened on."""


def listen(settings: Settings) -> socket.socket:
    """Bind the port before anything is loaded.

    Raises:
        PortTaken: somebody else has it, or it may not be taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        why = (
            "is taken"
            if error.errno == errno.EADDRINUSE
            else f"cannot be listened on ({error.strerror})"
        )
        by_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = f"choose another with SWAPREC_{'PORT' if by_port else 'HOST'}"
        raise PortTaken(f"port {settings.port} of {settings.host} {why}: {hint}") from error
    listener.listen(BACKLOG)
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL of what is listened on."""
    host, port = listener.getsockname()[:2]
    return (
        f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"
    )


def server_config(settings: Settings, app: Any = "") -> BoundedConfig:
    """Return how the port is served; the app may be set later."""
    limits = Limits(
        connections=settings.max_connections,
        head_bytes=settings.max_header_bytes,
        head_seconds=settings.header_timeout_s,
        body_seconds=settings.body_timeout_s,
        write_seconds=settings.body_timeout_s,
    )
    return BoundedConfig(
        app,
        limits,
        refuse_early,
        loop="service.http.accepting:Loop",
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address or the scheme
        log_level="warning",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
    )


def allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files,
    as far as the hard one lets, so that each connection finds one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_DESCRIPTORS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "%d files may be open, %d connections need %d: raise ulimit -n",
            allowed,
            connections,
            wanted,
        )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is answered first, and jobs stop at a step
    they go on from.

    Raises:
        Exposed, PortTaken, StateError, BackboneError: what keeps it from starting.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    # uvicorn raises the signal again when it is done: that must still let go of what `started`
    # holds, and be no failure
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    open_keys(settings)  # before the port: nobody is kept waiting by a service that will not start
    with listen(settings) as listener:
        for warning in unknown_variables(os.environ):
            _log.warning("%s", warning)
        _log.info("listening on %s", address(listener))
        allow_descriptors(settings.max_connections)
        config = server_config(settings)
        if settings.workers > 1:
            run_workers(settings, config, listener)
            return
        tune(settings.threads)
        with started(settings) as components:
            config.app = create_app(settings, components, on_started=freeze_objects)
            server = LoggingServer(config)
            signal.signal(signal.SIGHUP, server.handle_exit)
            server.run(sockets=[listener])
        _log.info("ended")


class LoggingServer(uvicorn.Server):
    """Says which signal ends it."""

    _signal = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember the signal; it is logged by the loop, not within whatever was interrupted."""
        self._signal = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, and end."""
        why = signal.Signals(self._signal).name if self._signal else "the server was told to end"
        _log.info("%s: what was accepted is answered, then the service ends", why)
        await super().shutdown(sockets)
