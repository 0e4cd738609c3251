"""The control API: HTTP on the loopback, by which command line, tray icon and control page steer the daemon.

`docs/openapi.json` describes it; who is let in is decided in `guard.py`, before anything here is reached. What takes
long runs in threads of its own; nothing here is waited for by the video path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.state import ControlAddress, StateFolder
from occlufix_vcam.runtime.daemon import Daemon

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from occlufix_vcam.control.services import Services

log = logging.getLogger(__name__)

JOIN_S = 2.0
BACKLOG = 4096  # connections that the system keeps until they are accepted
SILENT_S = 3  # for which it keeps one that says nothing to itself, where it can
#: How long a thread may keep the interpreter's lock while another wants it: the API's must not hold up the pictures.
LOCK_S = 0.0005


@contextmanager
def serve(daemon: Daemon, state: StateFolder, port: int = 0) -> Iterator[ControlAddress]:
    """Serves `daemon` in a thread of its own while the block lasts; port 0 takes that of the last run, or a free one.

    The socket listens and control.json stands before the block starts, so an early client waits instead of failing;
    FastAPI is imported in the thread, where it delays no frame. Where the port is taken another one is.
    """
    with _listen(port or state.last_port(), wanted=port != 0) as listener:
        sys.setswitchinterval(LOCK_S)
        address = state.publish(listener.getsockname()[1])
        server = _Server(daemon, address, state, listener)
        server.start()
        try:
            yield address
        finally:
            server.close()


def _listen(port: int, wanted: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a peer that takes nothing any more is dropped by the system, too
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):  # a crowd that says nothing is kept by the system
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_S)
        if os.name == "posix":  # here it only forgives closed connections; on Windows two could listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            listener.bind(("127.0.0.1", 0))
            if wanted:
                free = listener.getsockname()[1]
                log.warning("control_port %d cannot be used (%s): listening on %d", port, error.strerror, free)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the control API cannot listen on any port of 127.0.0.1: {error.strerror}", "check the firewall rules"
        ) from error
    return listener


class _Server(threading.Thread):
    """uvicorn in a thread: imports it, serves until closed."""

    def __init__(self, daemon: Daemon, address: ControlAddress, state: StateFolder, listener: socket.socket) -> None:
        super().__init__(name="control")
        self._product, self._address, self._state, self._listener = daemon, address, state, listener
        self._closing = threading.Event()
        self._uvicorn: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._services: Services | None = None

    def run(self) -> None:
        # By name, since what Windows has by default can't tell when a socket is readable.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        import uvicorn

        from occlufix_vcam.control.connection import Connection
        from occlufix_vcam.control.guard import Guard
        from occlufix_vcam.control.lobby import Lobby
        from occlufix_vcam.control.services import Services
        from occlufix_vcam.control.sessions import Sessions

        sessions = Sessions(self._address, self._state)
        self._services = Services.of(self._product, sessions)
        guard = Guard(build_app(self._product, self._services), self._address, sessions)
        config = uvicorn.Config(
            guard,
            log_config=None,
            log_level="critical",  # malformed requests would fill the log; our own faults we log ourselves
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        self._loop = asyncio.get_running_loop()
        self._uvicorn = server
        lobby = Lobby(self._listener, guard.is_known, partial(Connection, config, server.server_state))
        try:
            # `close` sets the event first and looks for the server second: one of the two always sees the other.
            if not self._closing.is_set():
                await server.serve(sockets=[])
        finally:
            lobby.close()

    def close(self) -> None:
        self._closing.set()
        if self._uvicorn is not None and self._loop is not None and self._services is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._services.close)
            self._uvicorn.should_exit = True
        self.join(JOIN_S)


def build_app(daemon: Daemon, services: Services) -> FastAPI:
    """The endpoints, without the guard."""
    from fastapi import FastAPI

    from occlufix_vcam import __version__
    from occlufix_vcam.control import answers, page_routes, routes
    from occlufix_vcam.control.endpoints import enrolling, recording

    app = FastAPI(
        title="OccluFix Camera",
        version=__version__,
        description="Loopback only. Every request carries `Authorization: Bearer TOKEN`, with the token of the "
        "user-only control.json, or of the session that the page got for its link. `Request-Deadline`, in seconds "
        "since the epoch, says until when the client waits: a later request is refused and has no effect.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    answers.explain_errors(app)
    app.include_router(routes.steering(daemon, services))
    app.include_router(routes.settings(daemon))
    app.include_router(enrolling.enrolling(daemon))
    app.include_router(enrolling.views(daemon))
    app.include_router(recording.recording(daemon))
    app.include_router(routes.looking(daemon, services))
    app.include_router(page_routes.page(services.sessions))
    return app
