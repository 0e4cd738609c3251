"""Who opened the control page: links that work once, sessions, and how a page comes back to the next daemon.

A session is a secret in the page's memory that travels in a header. A cookie goes to every port of 127.0.0.1, so the
page's cookie opens nothing but the page's own files. A page that is still open when the next daemon listens on the same
port proves with its key, over a challenge of that daemon, that it was let in. The key is not sent, and each proof gives
a new session with a new key. All of it runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from occlufix_vcam.core.state import ControlAddress, PageKey, StateFolder

log = logging.getLogger(__name__)

LINK_S = 60.0  # for which a link waits to be opened
CHALLENGE_S = 30.0  # for which a challenge waits for its proof
KEY_S = 12 * 3600.0  # after which a key that was not renewed is of no use
MOST_SESSIONS = 32


@dataclass(frozen=True, slots=True)
class Link:
    """Where the page opens once; `file` leads there, where one was asked for."""

    path: str
    file: Path | None
    ends: float


class SignedOut(Exception):
    """The session ended while a request of it was under way."""


@dataclass(slots=True, eq=False)
class Session:
    """A page that is let in. Requests that are under way end with it."""

    page: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _requests: set[asyncio.Task[Any]] = field(default_factory=set)
    _ended: bool = False

    @contextmanager
    def request(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """The time in which `task` works for this page. Raises SignedOut if the page signs out before `task` ends."""
        self._requests.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ended or task not in self._requests:
                raise  # the server closes
            task.uncancel()
            raise SignedOut from None
        finally:
            self._requests.discard(task)

    def end(self) -> None:
        self._ended = True
        for request in self._requests:
            request.cancel()


@dataclass(frozen=True, slots=True)
class Admission:
    """What a page that is let in keeps in its memory."""

    session: Session
    key: str
    #: The daemon's own proof that it knows the page's key, too; "" for a link.
    proof: str = ""


class Sessions:
    """Links, sessions and page keys. Only the keys outlive the daemon, in the state folder."""

    def __init__(
        self, address: ControlAddress, state: StateFolder | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`state` keeps keys and link files; without it neither is written."""
        self.cookie = f"occlufix_{address.port}"
        self._address, self._state, self._clock = address, state, clock
        self._boot_secret = secrets.token_bytes(32)
        self._links: dict[str, Link] = {}
        self._sessions: dict[str, Session] = {}
        self._keys = state.read_page_keys() if state else {}
        self._proven: dict[str, float] = {}  # challenges that were used, until they are too old anyhow

    # ---- links ----

    def make_link(self, filed: bool = False) -> Link:
        """The link that opens the page, once and within LINK_S; with `filed`, also a file that leads there."""
        self.drop_old_links()
        while len(self._links) >= MOST_SESSIONS:
            self._drop_link(next(iter(self._links)))
        key = secrets.token_urlsafe(32)
        path = f"/open?key={key}"
        file = self._state.write_link(f"{self._address.url}{path}") if filed and self._state else None
        self._links[key] = Link(path, file, self._clock() + LINK_S)
        return self._links[key]

    def expects(self, key: str) -> bool:
        """Whether a link with this key still opens the page."""
        link = self._links.get(key)
        return link is not None and link.ends > self._clock()

    def open(self, key: str) -> Admission | None:
        """Lets the page in that opened a link; None where the link was used, is too old or never was."""
        expected = self.expects(key)
        self._drop_link(key)
        return self._admit(Session(secrets.token_urlsafe(16))) if expected else None

    def drop_old_links(self) -> None:
        for key in [key for key in self._links if not self.expects(key)]:
            self._drop_link(key)

    def _drop_link(self, key: str) -> None:
        link = self._links.pop(key, None)
        if link is not None and link.file is not None:
            link.file.unlink(missing_ok=True)

    # ---- sessions ----

    def know(self, secret: str) -> Session | None:
        return self._sessions.get(secret)

    def know_cookie(self, cookies: bytes) -> bool:
        """Whether a request's cookies hold that of a page."""
        try:
            morsel = SimpleCookie(cookies.decode("latin-1")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and any(morsel.value == session.cookie for session in self._sessions.values())

    def key_of(self, session: Session) -> str:
        key = self._keys.get(session.page)
        return key.key if key is not None and key.ends > self._clock() else self._new_key(session)

    def sign_out_others(self, kept: Session | None) -> int:
        """Ends every other session, key and link; returns how many pages that were. None: all of them."""
        others = {page for page in self._keys if kept is None or page != kept.page}
        for session in [session for session in self._sessions.values() if session is not kept]:
            others.add(session.page)
            self._end(session)
        for key in list(self._links):
            self._drop_link(key)
        self._keys = {page: key for page, key in self._keys.items() if page not in others}
        self._keep_keys()
        return len(others)

    def close(self) -> None:
        """Ends what ends with the daemon; the keys stay."""
        for key in list(self._links):
            self._drop_link(key)

    def _admit(self, session: Session, proof: str = "") -> Admission:
        while len(self._sessions) >= MOST_SESSIONS:
            oldest = next(iter(self._sessions.values()))
            self._end(oldest)
            self._keys.pop(oldest.page, None)
        self._sessions[session.secret] = session
        return Admission(session, self._new_key(session), proof)

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.secret, None)
        session.end()

    # ---- coming back ----

    def challenge(self) -> str:
        """What a page proves its key over: good once and for CHALLENGE_S. Nothing of it is kept until it is used."""
        told = f"{self._clock():.0f}-{secrets.token_urlsafe(16)}"
        return f"{told}.{_sign(self._boot_secret, told)}"

    def resume(self, page: str, challenge: str, proof: str) -> Admission | None:
        """Lets a page in again for HMAC-SHA256(its key, "PORT CHALLENGE") in hex; None where that is not what came.

        Both session and key are new afterwards; what the page has under way goes on.
        """
        if not self._is_open(challenge):
            return None
        key = self._keys.get(page)
        if key is None or key.ends <= self._clock():
            return None
        asked = f"{self._address.port} {challenge}"
        if not hmac.compare_digest(_sign(key.key.encode(), asked).encode(), proof.encode()):
            return None
        self._proven[challenge] = self._clock() + CHALLENGE_S
        session = next((one for one in self._sessions.values() if one.page == page), None) or Session(page)
        self._sessions.pop(session.secret, None)
        session.secret = secrets.token_urlsafe(32)
        return self._admit(session, _sign(key.key.encode(), f"daemon {asked}"))

    def _is_open(self, challenge: str) -> bool:
        now = self._clock()
        self._proven = {used: ends for used, ends in self._proven.items() if ends > now}
        told, _, signature = challenge.rpartition(".")
        ours = hmac.compare_digest(_sign(self._boot_secret, told).encode(), signature.encode())
        return ours and challenge not in self._proven and now - int(told.partition("-")[0]) <= CHALLENGE_S

    def _new_key(self, session: Session) -> str:
        now = self._clock()
        new = PageKey(secrets.token_urlsafe(32), now + KEY_S)
        kept = {page: key for page, key in self._keys.items() if key.ends > now and page != session.page}
        self._keys = dict([*list(kept.items())[1 - MOST_SESSIONS :], (session.page, new)])
        self._keep_keys()
        return new.key

    def _keep_keys(self) -> None:
        if self._state is None:
            return
        try:
            self._state.write_page_keys(self._keys)
        except OSError as error:  # pages are let in all the same, by this daemon
            log.warning("the page's keys can't be kept: %s", error)


def _sign(key: bytes, told: str) -> str:
    return hmac.new(key, told.encode(errors="replace"), hashlib.sha256).hexdigest()
