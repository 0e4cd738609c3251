"""Links, cookies and proofs; and what a page's cookie is good for."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Callable

import httpx
import pytest

from occlufix_vcam.control.guard import BURST, LINK_S, LONGEST_DELAY_S, MOST_SESSIONS, PROOF_S, Sessions, Throttle
from occlufix_vcam.core.state import ControlAddress
from tests.control.conftest import Served
from tests.harness.fakes import WAIT_S

NOW = 1_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(ControlAddress(4711, "token", 1), "page key", clock)


def key_of(link: str) -> str:
    return link.removeprefix("/open?key=")


def cookies(sessions: Sessions, session: str | None) -> bytes:
    return f"theme=dark; {sessions.cookie}={session}".encode()


def prove(nonce: str, port: int = 4711, key: str = "page key") -> str:
    return hmac.new(key.encode(), f"{port} {nonce}".encode(), hashlib.sha256).hexdigest()


def test_a_link_works_once(sessions: Sessions) -> None:
    key = key_of(sessions.make_link())
    assert sessions.know(cookies(sessions, sessions.open(key)))
    assert sessions.open(key) is None and sessions.open("") is None


def test_a_link_grows_old(sessions: Sessions, clock: Clock) -> None:
    key = key_of(sessions.make_link())
    clock.now += LINK_S + 1
    assert sessions.open(key) is None


def test_links_and_sessions_are_bounded_and_the_oldest_goes_first(sessions: Sessions) -> None:
    first = key_of(sessions.make_link())
    opened = [sessions.open(key_of(sessions.make_link())) for _ in range(MOST_SESSIONS + 1)]
    for _ in range(MOST_SESSIONS):
        sessions.make_link()
    assert sessions.open(first) is None
    assert not sessions.know(cookies(sessions, opened[0])) and sessions.know(cookies(sessions, opened[-1]))


@pytest.mark.parametrize("sent", [b"", b"occlufix_4711=", b"occlufix_4711=wrong", b"\xff\xfe=;;=", b"occlufix_1=x"])
def test_strange_cookies_are_not_known(sessions: Sessions, sent: bytes) -> None:
    sessions.open(key_of(sessions.make_link()))
    assert not sessions.know(sent)


def test_a_page_that_was_let_in_once_comes_back_with_a_proof_that_works_once(sessions: Sessions) -> None:
    nonce = f"{round(NOW * 1000)}-abc"
    assert sessions.know(cookies(sessions, sessions.resume(nonce, prove(nonce))))
    assert sessions.resume(nonce, prove(nonce)) is None


@pytest.mark.parametrize(
    ("nonce", "proof"),
    [
        (f"{round((NOW - PROOF_S - 1) * 1000)}-old", prove),
        (f"{round((NOW + PROOF_S + 1) * 1000)}-new", prove),
        (f"{round(NOW * 1000)}-port", lambda nonce: prove(nonce, port=4712)),
        (f"{round(NOW * 1000)}-key", lambda nonce: prove(nonce, key="another")),
        (f"{round(NOW * 1000)}-none", lambda nonce: ""),
        (f"{round(NOW * 1000)}-strange", lambda nonce: "\u20ac"),
        ("", prove),
        ("no number", prove),
    ],
)
def test_no_other_proof_will_do(sessions: Sessions, nonce: str, proof: Callable[[str], str]) -> None:
    assert sessions.resume(nonce, proof(nonce)) is None


def test_who_asks_too_often_waits_and_never_for_long() -> None:
    clock = Clock()
    throttle = Throttle(rate=10, clock=clock)
    assert [throttle.delay() for _ in range(BURST)] == [0.0] * BURST
    assert 0 < throttle.delay() < throttle.delay() < 1
    for _ in range(100):
        throttle.delay()
    assert throttle.delay() == LONGEST_DELAY_S
    clock.now += 10
    assert throttle.delay() == 0.0


def test_the_cookie_is_for_this_page_alone(served: Served) -> None:
    opened = served.http.get(served.ask("POST", "/v1/links").json()["path"])
    served.http.cookies.clear()
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert opened.headers["location"] == "/" and opened.headers["referrer-policy"] == "no-referrer"


def test_a_page_that_was_let_in_looks_and_switches(served: Served) -> None:
    page = {**served.let_in(), "Sec-Fetch-Site": "same-origin"}
    assert served.http.get("/", headers=page).headers["content-type"].startswith("text/html")
    assert served.http.get("/v1/status", headers=page).status_code == 200
    assert served.http.post("/v1/toggle", headers=page).status_code == 200


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("POST", {"Origin": None}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),
        ("GET", {"Sec-Fetch-Site": "same-site"}),
        ("GET", {"Sec-Fetch-Site": "cross-site"}),
        ("GET", {"Host": "example.org"}),
    ],
)
def test_nobody_rides_on_the_cookie(served: Served, method: str, changed: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**served.let_in(), **changed}.items() if value is not None}
    path = "/v1/toggle" if method == "POST" else "/v1/status"
    assert served.http.request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/v1/status", "/v1/snapshot", "/v1/preview", "/v1/events", "/v1/page-key"]
)
def test_nothing_is_shown_to_who_was_not_let_in(served: Served, path: str) -> None:
    answer = served.http.get(path)
    assert answer.status_code == 401 and "occlufix-vcam preview" in answer.json()["detail"]["hint"]


def test_a_person_who_was_not_let_in_reads_what_to_do(served: Served) -> None:
    answer = served.http.get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 401 and "occlufix-vcam preview" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_a_link_that_was_used_says_so(served: Served) -> None:
    answer = served.http.get("/open", params={"key": "used"})
    assert answer.status_code == 401 and "used already" in answer.json()["detail"]["message"]


@pytest.mark.parametrize("path", ["/", "/v1/status", "/nowhere"])
def test_every_answer_forbids_what_the_page_does_not_need(served: Served, path: str) -> None:
    answer = served.ask(path=path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff" * 500,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/toggle HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"A" * 100_000,
    ],
)
def test_rubbish_is_refused_and_others_are_served(served: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.address.port), timeout=WAIT_S) as rubbish:
        try:
            rubbish.sendall(sent)
            answer = rubbish.recv(1024)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.split()[1] in (b"400", b"403")
    assert served.ask().status_code == 200


def test_who_says_nothing_or_half_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occlufix_vcam.control.guard.STALLED_S", 0.05)
    head = f"POST /v1/toggle HTTP/1.1\r\nHost: 127.0.0.1:{served.address.port}\r\n"
    half = f"{head}Authorization: Bearer {served.address.token}\r\nContent-Length: 10\r\n\r\n{{".encode()
    for sent, told in ((b"", b""), (half, b"HTTP/1.1 408")):
        with socket.create_connection(("127.0.0.1", served.address.port), timeout=WAIT_S) as silent:
            silent.sendall(sent)
            answer = b""
            try:
                while part := silent.recv(4096):
                    answer += part
            except ConnectionError:
                pass
        assert answer.startswith(told) and bool(answer) == bool(told)


def test_the_token_of_an_earlier_run_is_refused(served: Served) -> None:
    answer = httpx.get(f"{served.address.url}/v1/status", headers={"Authorization": "Bearer old"}, trust_env=False)
    assert answer.status_code == 401 and "earlier run" in answer.json()["detail"]["message"]
