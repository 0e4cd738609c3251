"""Who is let in over a real socket, what a page's cookie is good for, and what comes too late."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest

from occlufix_vcam.control.connection import BURST, LONGEST_DELAY_S, Throttle
from occlufix_vcam.control.routes import OneAtATime
from occlufix_vcam.core import deadline
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.control import Served, serving, session_in
from tests.harness.fakes import WAIT_S


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon that does not slow down whom it refuses."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("occlufix_vcam.control.guard.REFUSED_A_SECOND", 10_000.0)
        with serving(Daemon(Settings()), tmp_path_factory.mktemp("state")) as served:
            yield served


def sign(key: str, told: str) -> str:
    return hmac.new(key.encode(), told.encode(), hashlib.sha256).hexdigest()


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


def test_the_page_that_a_link_opens_holds_its_session_and_a_cookie_for_its_files_alone(served: Served) -> None:
    opened = served.http.get(served.ask("POST", "/v1/links").json()["path"])
    served.http.cookies.clear()
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    assert opened.status_code == 200 and opened.headers["referrer-policy"] == "no-referrer"
    assert opened.headers["cache-control"] == "no-store"
    given = session_in(opened.text)
    assert set(given) == {"session", "id", "key"} and given["session"] not in cookie and given["key"] not in cookie


def test_a_page_that_was_let_in_looks_and_switches(served: Served) -> None:
    page = served.let_in()
    assert served.http.get("/v1/status", headers=page.headers).status_code == 200
    assert served.http.post("/v1/toggle", headers=page.headers).status_code == 200
    assert served.http.get("/v1/page-key", headers=page.headers).json() == {"key": page.key}
    assert served.ask(path="/v1/page-key").status_code == 403


NOT_FOR_A_COOKIE = ["/v1/status", "/v1/snapshot", "/v1/preview", "/v1/events", "/v1/page-key", "/v1/settings"]


@pytest.mark.parametrize("path", NOT_FOR_A_COOKIE)
def test_a_cookie_alone_opens_nothing_but_the_pages_own_files(served: Served, path: str) -> None:
    page = served.let_in()
    origin = {"Cookie": page.cookie, "Origin": served.address.url, "Sec-Fetch-Site": "same-origin"}
    assert served.http.get("/", headers=origin).headers["content-type"].startswith("text/html")
    assert page.secret not in served.http.get("/", headers=origin).text
    assert served.http.get("/page/app.js", headers=origin).status_code == 200
    assert served.http.get(path, headers=origin).status_code == 401


def test_another_server_that_the_browser_visits_gets_nothing_that_opens_anything(served: Served) -> None:
    """A browser sends 127.0.0.1's cookies to all of its ports."""
    taken: list[str] = []

    class Taking(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            taken.extend(self.headers.get_all("Cookie", []) + self.headers.get_all("Authorization", []))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    opened = served.http.get(served.ask("POST", "/v1/links").json()["path"])
    with http.server.HTTPServer(("127.0.0.1", 0), Taking) as other:
        visit = threading.Thread(target=other.handle_request)
        visit.start()
        served.http.get(f"http://127.0.0.1:{other.server_port}/")  # with the cookies of the page, as a browser has them
        visit.join()
    served.http.cookies.clear()
    given = session_in(opened.text)
    assert taken and given["session"] not in " ".join(taken) and given["key"] not in " ".join(taken)
    secret = taken[0].partition("=")[2]
    for headers in ({"Cookie": taken[0]}, {"Authorization": f"Bearer {secret}"}):
        for path in NOT_FOR_A_COOKIE:
            assert served.http.get(path, headers=headers).status_code == 401
        assert served.http.post("/v1/toggle", headers={**headers, "Origin": served.address.url}).status_code == 401


@pytest.mark.parametrize("changed", [{"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"}])
def test_nobody_rides_on_the_cookie(served: Served, changed: dict[str, str]) -> None:
    assert served.http.get("/", headers={"Cookie": served.let_in().cookie, **changed}).status_code == 403


def test_a_page_comes_back_with_a_proof_over_the_daemons_challenge(served: Served) -> None:
    page = served.let_in()
    asked = f"{served.address.port} {served.http.get('/resume').json()['challenge']}"
    told = {"id": page.id, "challenge": asked.partition(" ")[2], "proof": sign(page.key, asked)}
    back = served.http.post("/resume", json=told).json()
    assert back["proof"] == sign(page.key, f"daemon {asked}") and back["key"] != page.key
    headers = {"Authorization": f"Bearer {back['session']}"}
    assert served.http.get("/v1/status", headers=headers).status_code == 200
    assert served.http.get("/v1/status", headers=page.headers).status_code == 401
    assert served.http.post("/resume", json=told).status_code == 401


def test_pages_that_are_signed_out_see_and_do_nothing_more(served: Served) -> None:
    served.ask("POST", "/v1/sign-out")
    page, other = served.let_in(), served.let_in()
    with served.http.stream("GET", "/v1/events", headers=other.headers) as stream:
        parts = stream.iter_raw()
        assert next(parts)
        answer = served.http.post("/v1/sign-out", headers=page.headers)
        assert answer.json() == {"signed_out": 1}
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in parts:
                pass
    assert served.http.get("/v1/status", headers=other.headers).status_code == 401
    assert served.http.get("/v1/status", headers=page.headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/v1/status", "/v1/snapshot", "/v1/preview", "/v1/events", "/v1/page-key"]
)
def test_nothing_is_shown_to_who_was_not_let_in(served: Served, path: str) -> None:
    answer = served.http.get(path)
    assert answer.status_code == 401 and "occlufix-vcam preview" in answer.json()["detail"]["hint"]


# ---- deadlines ----


@pytest.mark.parametrize(("late", "status"), [(1.0, 408), (-60.0, 200)])
def test_what_is_come_to_after_its_deadline_is_not_carried_out(served: Served, late: float, status: int) -> None:
    enabled = served.daemon.settings.enabled
    told = {deadline.HEADER: str(time.time() - late)}
    answer = served.ask("POST", "/v1/toggle", headers=told, json={"enabled": not enabled})
    assert answer.status_code == status
    assert served.daemon.settings.enabled is (enabled if status == 408 else not enabled)


def test_nor_is_what_waited_for_its_turn_that_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(time=clock))
    begun, goes_on, done = threading.Event(), threading.Event(), []

    def long_work() -> None:
        begun.set()
        assert goes_on.wait(WAIT_S)

    async def two() -> list[object]:
        in_turn = OneAtATime()
        deadline.serve(str(clock.now + 5))
        tasks = [asyncio.create_task(in_turn(work)) for work in (long_work, lambda: done.append("too late"))]
        await asyncio.to_thread(begun.wait, WAIT_S)
        clock.now += 60
        goes_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second = asyncio.run(two())
    assert first is None and isinstance(second, deadline.TooLate) and done == []


@pytest.mark.parametrize("told", ["", "soon", "nan", "inf"])
def test_a_deadline_that_names_no_time_sets_none(served: Served, told: str) -> None:
    assert served.ask(headers={deadline.HEADER: told}).status_code == 200


def test_a_person_who_was_not_let_in_reads_what_to_do(served: Served) -> None:
    answer = served.http.get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 401 and "occlufix-vcam preview" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_a_link_that_was_used_says_so(served: Served) -> None:
    answer = served.http.get("/open", params={"key": "used"})
    assert answer.status_code == 401 and "already used" in answer.json()["detail"]["message"]


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
    monkeypatch.setattr("occlufix_vcam.control.lobby.HEAD_S", 0.05)
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
