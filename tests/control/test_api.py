"""The control API over a real loopback socket: who is let in, and what each endpoint does to the daemon."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.control.api import serve
from occlufix_vcam.control.guard import LONGEST_BODY
from occlufix_vcam.core.settings import Settings, config_path, load_settings
from occlufix_vcam.core.state import NotRunning, StateFolder
from occlufix_vcam.runtime.daemon import Daemon
from tests.harness.control import Served


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Host": "example.org"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_only_our_own_requests_are_let_in(served: Served, headers: dict[str, str | None], status: int) -> None:
    answer = served.ask(headers=headers)
    assert answer.status_code == status
    assert ("frames" in answer.json()) == (status == 200)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_our_own_host_and_origin_are_known_by_both_names(served: Served, host: str) -> None:
    own = f"{host}:{served.address.port}"
    assert served.ask(headers={"Host": own, "Origin": f"http://{own}"}).status_code == 200


def test_a_strange_page_cannot_switch(served: Served) -> None:
    enabled = served.daemon.settings.enabled
    assert served.ask("POST", "/v1/toggle", headers={"Origin": "https://example.org"}).status_code == 403
    assert served.ask("OPTIONS", "/v1/toggle", headers={"Authorization": None}).status_code == 401
    assert served.daemon.settings.enabled is enabled


def test_a_long_body_is_refused_with_and_without_a_length(served: Served) -> None:
    body = b"x" * (LONGEST_BODY + 1)
    assert served.ask("PATCH", "/v1/settings", content=body).status_code == 413
    assert served.ask("PATCH", "/v1/settings", content=iter([body[:50_000], body[50_000:]])).status_code == 413


def test_it_listens_on_the_loopback_alone(served: Served) -> None:
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", served.address.port)) != 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps rights elsewhere")
def test_the_token_is_for_this_user_alone(served: Served) -> None:
    file = served.state.path / "control.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.state.path.stat().st_mode) == 0o700
    assert json.loads(file.read_text())["pid"] == os.getpid()


def test_toggle_sets_changes_and_refuses_nonsense(served: Served) -> None:
    assert served.ask("POST", "/v1/toggle", json={"enabled": False}).json() == {"enabled": False}
    assert served.daemon.settings.enabled is False
    assert served.ask("POST", "/v1/toggle").json() == {"enabled": True}
    assert served.ask("POST", "/v1/toggle", json={"enabled": "perhaps"}).status_code == 422


def test_settings_are_shown_and_the_live_ones_change(served: Served) -> None:
    assert served.ask(path="/v1/settings").json()["on_failure"] == "passthrough"
    assert served.ask("PATCH", "/v1/settings", json={"on_failure": "hold"}).json()["on_failure"] == "hold"
    assert served.daemon.settings.on_failure == "hold"


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"control_port": 640}, 409, "control_port"),
        ({"on_failur": "hold"}, 422, "on_failur"),
        ({"log_level": "loud"}, 422, "log_level"),
    ],
)
def test_a_change_that_cannot_be_is_explained(served: Served, changes: dict, status: int, told: str) -> None:  # type: ignore[type-arg]
    answer = served.ask("PATCH", "/v1/settings", json=changes)
    assert answer.status_code == status
    assert told in answer.json()["detail"]["message"] and answer.json()["detail"]["hint"]


def test_a_change_is_kept_for_the_next_start_on_wish(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCLUFIX_CONFIG", str(tmp_path / "settings.toml"))
    assert served.ask("PATCH", "/v1/settings", json={"rate": 25}).json()["rate"] == 25
    assert not config_path().exists()
    answer = served.ask("PATCH", "/v1/settings?save=true", json={"rate": 24, "control_port": 4711})
    assert (answer.json()["rate"], answer.json()["control_port"]) == (24, 0)
    assert (load_settings().rate, load_settings().control_port) == (24, 4711)


def test_what_is_out_of_range_is_told_with_its_bound(served: Served) -> None:
    answer = served.ask("PATCH", "/v1/settings", json={"rate": 500})
    assert answer.status_code == 422 and "rate = 500" in answer.text and "120" in answer.text


def test_devices_and_the_description_of_all_this_can_be_had(served: Served) -> None:
    assert {"cameras", "virtual_cameras", "backends"} <= set(served.ask(path="/v1/devices").json())
    assert "/v1/toggle" in served.ask(path="/v1/openapi.json").json()["paths"]
    assert len(served.ask(path="/v1/settings/form").json()) == len(Settings.model_fields)


def test_a_daemon_of_another_version_is_named(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ControlClient(served.state) as client:
        assert client.other_version() is None
    monkeypatch.setattr("occlufix_vcam.core.state.__version__", "0.0.9")
    state = StateFolder(tmp_path)
    state.prepare()
    with serve(served.daemon, state), state.hold():
        state.publish(served.address.port)
        with ControlClient(state) as client:
            assert client.other_version() == "0.0.9"
            with pytest.raises(ControlError, match="earlier run"):
                client.status()


def test_control_json_of_an_older_or_newer_version_can_be_read(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.prepare()
    (tmp_path / "control.json").write_text('{"port": 1, "token": "t", "pid": 2}')
    assert state.read_control().version == ""
    (tmp_path / "control.json").write_text('{"port": 1, "token": "t", "pid": 2, "version": "9", "more": 1}')
    assert state.read_control().version == "9"


def test_where_the_port_is_taken_another_one_is_and_is_written_down(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateFolder(tmp_path)
    state.prepare()
    with serve(served.daemon, state, served.address.port) as address:
        assert address.port != served.address.port
        assert state.read_control().port == address.port
    assert f"control_port {served.address.port}" in caplog.text and str(address.port) in caplog.text


def test_the_next_daemon_listens_where_the_last_one_did(served: Served, tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    ports = []
    for _ in range(2):
        state.prepare()
        with serve(served.daemon, state) as address:
            ports.append(address.port)
    assert ports[0] == ports[1]


def test_the_client_speaks_all_of_it(served: Served) -> None:
    with ControlClient(served.state) as client:
        assert client.status()["state"] == "starting"
        assert client.toggle(False) is False and client.toggle() is True
        assert client.settings()["width"] == 1280
        assert client.change_settings({"log_level": "warning"})["log_level"] == "warning"
        with pytest.raises(ControlError, match="control_port"):
            client.change_settings({"control_port": 640})


def test_nobody_is_enrolled_at_first(served: Served) -> None:
    answer = served.ask(path="/v1/enroll").json()
    assert answer["people"] == answer["problems"] == [] and "key" in answer["protection"]
    assert served.ask(path="/v1/enroll/progress").json() == {"enrolment": None}
    refused = served.ask("DELETE", "/v1/enroll/Ann")
    assert refused.status_code == 422 and "no one is enrolled as Ann" in refused.json()["detail"]["message"]


def test_a_name_that_will_not_do_is_explained(served: Served) -> None:
    answer = served.ask("POST", "/v1/enroll", json={"name": " "})
    assert answer.status_code == 422 and "not a valid name" in answer.json()["detail"]["message"]


def test_enrolling_is_started_followed_and_cancelled(served: Served) -> None:
    with ControlClient(served.state) as client:
        assert client.enroll("Ann")["name"] == "Ann"
        again = served.ask("POST", "/v1/enroll", json={"name": "Bob"})
        assert again.status_code == 409 and "Ann is being enrolled" in again.json()["detail"]["message"]
        client.cancel_enrollment()
        status = client.enrollment()
    assert status is not None and status["state"] == "failed" and status["hint"]


def test_stop_reaches_the_daemon(tmp_path: Path) -> None:
    state, daemon = StateFolder(tmp_path), Daemon(Settings())
    with state.hold(), serve(daemon, state), ControlClient(state) as client:
        client.stop()
        assert client.status()["state"] == "stopping"


def test_there_is_nobody_to_talk_to_after_the_end_or_a_kill(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with pytest.raises(NotRunning):
        ControlClient(state)
    state.prepare()
    state.publish(1)  # what a killed daemon leaves behind
    with pytest.raises(NotRunning):
        ControlClient(state)


def test_a_daemon_that_does_not_answer_is_named(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent, state.hold():
        state.publish(silent.getsockname()[1])
        with ControlClient(state, timeout=0.1) as client, pytest.raises(ControlError, match=str(os.getpid())):
            client.status()
