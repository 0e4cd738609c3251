"""Links, sessions and proofs: what lets a page in, how long, and how it comes back to the next daemon."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from occlufix_vcam.control.sessions import CHALLENGE_S, KEY_S, LINK_S, MOST_SESSIONS, Admission, Sessions
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.state import ControlAddress, StateFolder

PORT = 4711


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    state = StateFolder(tmp_path)
    state.prepare()
    return state


@pytest.fixture
def sessions(state: StateFolder, clock: Clock) -> Sessions:
    return daemon(state, clock)


def daemon(state: StateFolder, clock: Clock, port: int = PORT) -> Sessions:
    """The sessions of a daemon that starts now."""
    return Sessions(ControlAddress(port, "token", 1), state, clock)


def key_of(path: str) -> str:
    return path.removeprefix("/open?key=")


def let_in(sessions: Sessions) -> Admission:
    admission = sessions.open(key_of(sessions.make_link().path))
    assert admission is not None
    return admission


def knows(sessions: Sessions, admission: Admission | None) -> bool:
    return admission is not None and sessions.know(admission.session.secret) is admission.session


def prove(challenge: str, key: str, port: int = PORT) -> str:
    return hmac.new(key.encode(), f"{port} {challenge}".encode(), hashlib.sha256).hexdigest()


def come_back(sessions: Sessions, page: str, key: str) -> Admission | None:
    challenge = sessions.challenge()
    return sessions.resume(page, challenge, prove(challenge, key))


# ---- links ----


def test_a_link_works_once(sessions: Sessions) -> None:
    key = key_of(sessions.make_link().path)
    assert sessions.expects(key) and knows(sessions, sessions.open(key))
    assert not sessions.expects(key) and sessions.open(key) is None and sessions.open("") is None


def test_a_link_grows_old(sessions: Sessions, clock: Clock) -> None:
    key = key_of(sessions.make_link().path)
    clock.now += LINK_S + 1
    assert not sessions.expects(key) and sessions.open(key) is None


def test_links_and_sessions_are_bounded_and_the_oldest_goes_first(sessions: Sessions) -> None:
    first = key_of(sessions.make_link().path)
    opened = [let_in(sessions) for _ in range(MOST_SESSIONS + 1)]
    for _ in range(MOST_SESSIONS):
        sessions.make_link()
    assert sessions.open(first) is None
    assert not knows(sessions, opened[0]) and knows(sessions, opened[-1])
    assert come_back(sessions, opened[0].session.page, opened[0].key) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps rights elsewhere")
def test_a_links_file_is_for_this_user_alone_and_goes_once_it_was_opened(sessions: Sessions) -> None:
    link = sessions.make_link(filed=True)
    assert link.file is not None and stat.S_IMODE(link.file.stat().st_mode) == 0o600
    assert f"http://127.0.0.1:{PORT}{link.path}" in link.file.read_text()
    sessions.open(key_of(link.path))
    assert not link.file.exists()


@pytest.mark.parametrize("end", [lambda sessions: sessions.drop_old_links(), lambda sessions: sessions.close()])
def test_a_links_file_goes_with_the_link(sessions: Sessions, clock: Clock, end: Callable[[Sessions], None]) -> None:
    link = sessions.make_link(filed=True)
    assert link.file is not None and link.file.exists()
    clock.now += LINK_S + 1
    end(sessions)
    assert not link.file.exists()


def test_the_next_daemon_removes_what_a_killed_one_left(state: StateFolder, sessions: Sessions) -> None:
    link = sessions.make_link(filed=True)
    (state.path / "page.key").write_text("one key for every page, for good")
    with state.hold():
        assert link.file is not None and not link.file.exists() and not (state.path / "page.key").exists()


def test_a_folder_that_takes_no_link_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="state directory"):
        StateFolder(tmp_path / "nowhere").write_link("http://127.0.0.1")


# ---- cookies ----


@pytest.mark.parametrize("sent", [b"", b"occlufix_4711=", b"occlufix_4711=wrong", b"\xff\xfe=;;=", b"occlufix_1=x"])
def test_strange_cookies_are_not_known(sessions: Sessions, sent: bytes) -> None:
    let_in(sessions)
    assert not sessions.know_cookie(sent)


def test_a_cookie_is_no_session_and_a_session_no_cookie(sessions: Sessions) -> None:
    session = let_in(sessions).session
    assert sessions.know_cookie(f"theme=dark; {sessions.cookie}={session.cookie}".encode())
    assert sessions.know(session.cookie) is None
    assert not sessions.know_cookie(f"{sessions.cookie}={session.secret}".encode())


# ---- coming back ----


def test_a_page_comes_back_to_the_next_daemon_which_proves_itself(state: StateFolder, clock: Clock) -> None:
    page = let_in(daemon(state, clock))
    following = daemon(state, clock)
    challenge = following.challenge()
    back = following.resume(page.session.page, challenge, prove(challenge, page.key))
    assert knows(following, back) and back is not None
    expected = hmac.new(page.key.encode(), f"daemon {PORT} {challenge}".encode(), hashlib.sha256).hexdigest()
    assert back.proof == expected


def test_a_recorded_proof_is_worth_nothing(state: StateFolder, clock: Clock) -> None:
    page = let_in(daemon(state, clock)).session.page
    key = state.read_page_keys()[page].key
    listener = daemon(state, clock)  # a program that listens between two daemons chooses the challenge
    recorded = listener.challenge(), prove(listener.challenge(), key)
    following = daemon(state, clock)
    assert following.resume(page, *recorded) is None
    challenge = following.challenge()
    assert following.resume(page, challenge, prove(challenge, key)) is not None
    assert following.resume(page, challenge, prove(challenge, key)) is None
    assert following.resume(page, challenge, prove(challenge, state.read_page_keys()[page].key)) is None


def test_the_key_is_renewed_and_the_earlier_one_ends(sessions: Sessions) -> None:
    page = let_in(sessions)
    old_secret, old_key = page.session.secret, page.key
    back = come_back(sessions, page.session.page, old_key)
    assert back is not None and back.key != old_key and knows(sessions, back)
    assert sessions.know(old_secret) is None
    assert come_back(sessions, page.session.page, old_key) is None
    assert come_back(sessions, page.session.page, back.key) is not None


def test_a_key_is_good_for_its_own_page_alone(sessions: Sessions) -> None:
    one, another = let_in(sessions), let_in(sessions)
    assert come_back(sessions, one.session.page, another.key) is None
    assert come_back(sessions, "nobody", one.key) is None


def test_a_key_that_was_not_renewed_ends(state: StateFolder, sessions: Sessions, clock: Clock) -> None:
    page = let_in(sessions)
    clock.now += KEY_S + 1
    assert come_back(daemon(state, clock), page.session.page, page.key) is None


@pytest.mark.parametrize("challenge", ["", "x", ".", "1-abc.0", "\u20ac", "-.0"])
def test_a_challenge_that_is_not_ours_is_refused(sessions: Sessions, challenge: str) -> None:
    page = let_in(sessions)
    assert sessions.resume(page.session.page, challenge, prove(challenge, page.key)) is None


def test_a_challenge_grows_old_and_is_for_this_port(state: StateFolder, sessions: Sessions, clock: Clock) -> None:
    page = let_in(sessions)
    challenge = sessions.challenge()
    assert sessions.resume(page.session.page, challenge, prove(challenge, page.key, port=PORT + 1)) is None
    assert sessions.resume(page.session.page, challenge, "\u20ac") is None
    clock.now += CHALLENGE_S + 2
    assert sessions.resume(page.session.page, challenge, prove(challenge, page.key)) is None


def test_other_pages_are_signed_out_for_good(state: StateFolder, clock: Clock) -> None:
    earlier = let_in(daemon(state, clock))
    sessions = daemon(state, clock)
    kept, other, link = let_in(sessions), let_in(sessions), sessions.make_link()
    assert sessions.sign_out_others(kept.session) == 2
    assert knows(sessions, kept) and not knows(sessions, other) and not sessions.expects(key_of(link.path))
    following = daemon(state, clock)
    for page, comes_back in ((kept, True), (other, False), (earlier, False)):
        assert (come_back(following, page.session.page, page.key) is not None) is comes_back
    assert following.sign_out_others(None) == 1
    assert state.read_page_keys() == {}


def test_keys_are_kept_for_this_user_alone_and_rubbish_is_none(state: StateFolder, sessions: Sessions) -> None:
    let_in(sessions)
    file = state.path / "page-keys.json"
    assert len(json.loads(file.read_text())) == 1
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for rubbish in ("", "[]", "{", '{"a": 1}', '{"a": ["k", "soon"]}', '{"a": null}'):
        file.write_text(rubbish)
        assert state.read_page_keys() == {}


def test_a_page_is_let_in_where_keys_cannot_be_kept(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: StateFolder, keys: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(StateFolder, "write_page_keys", full)
    assert knows(sessions, let_in(sessions))
