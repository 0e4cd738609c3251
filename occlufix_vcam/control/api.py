"""The control API: HTTP on the loopback, by which the command line (and later tray and page) steers the daemon.

Other programs and web pages on this machine can reach a loopback port, so every request must carry the token of the
user-only control.json, name this host, and come from no other origin. There is no CORS: no page elsewhere may ask.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from occlufix_vcam.daemon import Daemon, NeedsRestart
from occlufix_vcam.errors import ConfigError
from occlufix_vcam.state import ControlAddress, StateFolder

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LONGEST_BODY = 64 * 1024
JOIN_S = 2.0


@contextmanager
def serve(daemon: Daemon, state: StateFolder, port: int = 0) -> Iterator[ControlAddress]:
    """Serves `daemon` in a thread of its own while the block lasts; port 0 takes a free one.

    The socket listens and control.json stands before the block starts, so an early client waits instead of failing;
    FastAPI is imported in the thread, where it delays no frame. Raises ConfigError where the port is taken.
    """
    with _listen(port) as listener:
        address = state.publish(listener.getsockname()[1])
        server = _Server(daemon, address, listener)
        server.start()
        try:
            yield address
        finally:
            server.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {port} of the control API cannot be used: {error.strerror}",
            "choose another `control_port`, or 0 for a free one",
        ) from error
    return listener


class _Server(threading.Thread):
    """uvicorn in a thread: imports it, serves until closed."""

    def __init__(self, daemon: Daemon, address: ControlAddress, listener: socket.socket) -> None:
        super().__init__(name="control")
        self._product, self._address, self._listener = daemon, address, listener
        self._closing = threading.Event()
        self._uvicorn: uvicorn.Server | None = None

    def run(self) -> None:
        import uvicorn

        config = uvicorn.Config(
            Guard(build_app(self._product), self._address),
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        # `close` sets the event first and looks for the server second: one of the two always sees the other.
        if not self._closing.is_set():
            self._uvicorn.run(sockets=[self._listener])

    def close(self) -> None:
        self._closing.set()
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        self.join(JOIN_S)


def build_app(daemon: Daemon) -> FastAPI:
    """The endpoints, without the guard. They only call `daemon`."""
    from fastapi import Body, FastAPI, HTTPException
    from fastapi.encoders import jsonable_encoder

    app = FastAPI(title="OccluFix Camera", openapi_url=None)

    @app.get("/v1/status")
    def status() -> Any:
        return jsonable_encoder(daemon.status())

    @app.post("/v1/toggle")
    def toggle(enabled: bool | None = Body(None, embed=True)) -> dict[str, bool]:
        return {"enabled": daemon.toggle(enabled)}

    @app.post("/v1/stop")
    def stop() -> dict[str, str]:
        daemon.stop()
        return {"state": "stopping"}

    @app.get("/v1/settings")
    def settings() -> Any:
        return jsonable_encoder(daemon.settings)

    @app.patch("/v1/settings")
    def change_settings(changes: dict[str, Any]) -> Any:
        try:
            return jsonable_encoder(daemon.update(changes))
        except NeedsRestart as error:
            raise HTTPException(409, {"message": error.message, "hint": error.hint}) from error
        except ConfigError as error:
            raise HTTPException(422, {"message": error.message, "hint": error.hint}) from error

    return app


class Guard:
    """Lets a request through only with the token, our own Host, no foreign Origin and a body of bounded length."""

    def __init__(self, app: ASGIApp, address: ControlAddress) -> None:
        self._app = app
        self._token = f"Bearer {address.token}".encode()
        hosts = {f"127.0.0.1:{address.port}", f"localhost:{address.port}"}
        self._hosts = {host.encode() for host in hosts}
        self._origins = {f"http://{host}".encode() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(list(scope["headers"]))
        if refusal is None:
            body = await _read_body(receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), send)
                return
            refusal = (413, f"the body is longer than {LONGEST_BODY} bytes")
        await _answer(send, *refusal)

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        named = dict(headers)
        if len([name for name, _ in headers if name == b"host"]) != 1 or named[b"host"] not in self._hosts:
            return 403, "this is not the host that the request names"
        if b"origin" in named and named[b"origin"] not in self._origins:
            return 403, "requests from other origins are refused"
        if not secrets.compare_digest(named.get(b"authorization", b""), self._token):
            return 401, "the token of control.json is missing or wrong"
        return None


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None where it broke off or is too long, which a chunked one shows only while it comes."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY or message["type"] != "http.request":
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then goes on with the connection's own messages."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"detail": {"message": message, "hint": "use the occlufix-vcam command"}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
