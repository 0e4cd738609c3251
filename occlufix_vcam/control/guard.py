"""Who is let in: everything that reaches the control API passes here first.

Other programs and web pages on this machine can reach a loopback port. So every request must name this host, come from
no other origin, and carry in its header either the token of the user-only control.json or the session that the page got
for a link that works once. There is no CORS: no page elsewhere may ask. Only who is refused is slowed down; `lobby.py`
and `connection.py` drop who floods, stalls or sends rubbish before that costs the pictures anything.
"""

from __future__ import annotations

import asyncio
import html
import json
import secrets
from base64 import b64encode
from contextlib import nullcontext
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from occlufix_vcam.control.connection import STALLED_S, Throttle
from occlufix_vcam.control.sessions import Session, Sessions, SignedOut
from occlufix_vcam.core import deadline
from occlufix_vcam.core.state import ControlAddress
from occlufix_vcam.language import words_for

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_BODY = 64 * 1024
#: A photograph is longer than any other body.
PHOTOGRAPH_PATH, LONGEST_PHOTOGRAPH = "/v1/face-photograph", 20 * 1024 * 1024
REFUSED_A_SECOND = 5.0  # at once; any more wait

#: How a page comes by its session: what these need they carry themselves.
LINK_PATH, PROOF_PATH = "/open", "/resume"
#: What the page's cookie opens: files that hold no personal data.
PAGE_FILES = ("/", "/page/")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The style of a page that refuses: who is refused gets no file of ours.
STYLE = (
    "main{max-width:38rem;margin:12vh auto;padding:0 1.2rem;font:1.05rem/1.5 system-ui,sans-serif}code{font-size:1.1em}"
)
_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
STYLED = POLICY.replace("style-src 'self'", f"style-src 'sha256-{_STYLE_HASH}'")
SECURITY_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
USED = "this link was already used or has expired"
MISSING = "the token or the page's session is missing"
WRONG = "the token or the page's session is wrong, or that of an earlier run"
HINT = "open the page with `occlufix-vcam preview`; programs read the token from control.json"


class Guard:
    """Lets a request through only with token or session, our own Host, no foreign Origin, a bounded body, in time."""

    def __init__(self, app: ASGIApp, address: ControlAddress, sessions: Sessions) -> None:
        self._app = app
        self._token = f"Bearer {address.token}".encode()
        self._sessions = sessions
        hosts = {f"127.0.0.1:{address.port}", f"localhost:{address.port}"}
        self._hosts = {host.encode() for host in hosts}
        self._origins = {f"http://{host}".encode() for host in hosts}
        self._refused = Throttle(REFUSED_A_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send, self._refused)
        refusal = self._refusal(scope)
        if refusal is None:
            await asyncio.sleep(scope["state"]["pace"].delay())
            body = await _read_body(receive, LONGEST_PHOTOGRAPH if scope["path"] == PHOTOGRAPH_PATH else LONGEST_BODY)
            if isinstance(body, bytes):
                await self._serve(scope, _replay(body, receive), answer)
                return
            refusal = body
        await answer.refuse(*refusal, page=_refusal_page(refusal[1], scope) if _is_a_browser(scope) else None)

    def is_known(self, head: bytes) -> bool:
        """Whether the request with this head would be let in; a proof has yet to be looked at."""
        scope = _read_head(head)
        return self._refusal(scope) is None and scope["path"] != PROOF_PATH

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        named = dict(headers)
        if len([name for name, _ in headers if name == b"host"]) != 1 or named[b"host"] not in self._hosts:
            return 403, "the request names another host"
        if b"origin" in named and named[b"origin"] not in self._origins:
            return 403, "requests from other origins are refused"
        if scope["path"] == PROOF_PATH:
            return None
        if scope["path"] == LINK_PATH:
            keys = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])
            return None if self._sessions.expects(keys[0]) else (401, USED)
        if b"authorization" in named:
            right = secrets.compare_digest(named[b"authorization"], self._token) or self._session(scope)
            return None if right else (401, WRONG)
        if _is_page_file(scope) and self._sessions.know_cookie(named.get(b"cookie", b"")):
            # A cookie knows no ports: what another server on this machine shows may try to ride on it.
            riding = named.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
            return (403, "requests from other sites are refused") if riding else None
        return 401, MISSING

    def _session(self, scope: Scope) -> Session | None:
        told = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        return self._sessions.know(told.removeprefix("Bearer "))

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """A page's request ends with its session, also a stream that would go on for ever."""
        told = dict(scope["headers"]).get(deadline.HEADER.lower().encode())
        deadline.serve(None if told is None else told.decode("latin-1"))
        session, task = self._session(scope), asyncio.current_task()
        try:
            deadline.check()
            with session.request(task) if session and task else nullcontext():
                await self._app(scope, receive, answer.send)
        except deadline.TooLate as late:
            await answer.refuse(408, late.message)
        except SignedOut:
            if not answer.started:
                await answer.refuse(401, "this page was signed out")


def _read_head(head: bytes) -> Scope:
    """What `_refusal` looks at. It need not be exact: the HTTP server reads the head again, and decides by that."""
    first, *lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, target, *_ = [*first.split(b" "), b"", b""]
    path, _, query = target.partition(b"?")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return {
        "method": method.decode("latin-1"),
        "path": unquote(path.decode("latin-1")),
        "query_string": query,
        "headers": headers,
    }


def _is_page_file(scope: Scope) -> bool:
    root, folder = PAGE_FILES
    path: str = scope["path"]
    return path == root or path.startswith(folder)


class _Answer:
    """Sends with the headers that every answer has. A refused client waits, and must connect again."""

    def __init__(self, send: Send, refused: Throttle) -> None:
        self._send, self._refused = send, refused
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = {name for name, _ in message["headers"]}
            ours = [header for header in SECURITY_HEADERS if header[0] not in given]
            if message["status"] in (401, 403):
                await asyncio.sleep(self._refused.delay())
            if message["status"] in (401, 403, 408, 413):
                ours.append((b"connection", b"close"))
            message = {**message, "headers": [*message["headers"], *ours]}
        await self._send(message)

    async def refuse(self, status: int, told: str, page: bytes | None = None) -> None:
        """Says why as JSON, or with a `page` where a person looks on."""
        if page is not None:
            body, kind, more = page, b"text/html; charset=utf-8", [(b"content-security-policy", STYLED.encode())]
        else:
            body = json.dumps({"detail": {"message": told, "hint": HINT}}).encode()
            kind, more = b"application/json", []
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _is_a_browser(scope: Scope) -> bool:
    """Whether a person looks at the answer."""
    return b"text/html" in dict(scope["headers"]).get(b"accept", b"") and scope["method"] == "GET"


def _refusal_page(told: str, scope: Scope) -> bytes:
    """What happened and how to get in, in the browser's language."""
    accepted = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
    words = words_for(accepted.split(","))
    kind = "used" if told == USED else "missing" if told in (MISSING, WRONG) else ""
    title = words(f"lost.{kind}") if kind else words("lost.denied")
    text = words(f"lost.{kind}text") if kind else told
    return (
        f"<!doctype html><html lang={words.language}><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<meta name=color-scheme content='light dark'><title>OccluFix Camera</title><style>{STYLE}</style>"
        f"<main><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        "<p><code>occlufix-vcam preview</code></p></main>"
    ).encode()


async def _read_body(receive: Receive, longest: int) -> bytes | tuple[int, str]:
    """The whole body, or why not: how long a chunked one is shows only while it comes."""
    body = bytearray()
    try:
        async with asyncio.timeout(STALLED_S):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > longest or message["type"] != "http.request":
                    return 413, f"the body is longer than {longest} bytes"
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return 408, f"the body did not arrive within {STALLED_S:.0f} s"


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then goes on with the connection's own messages."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
