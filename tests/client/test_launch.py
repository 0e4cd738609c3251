"""What is made of the words with which a daemon ended before it ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from occlufix_vcam.client import launch
from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.client.launch import StartFailed
from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.core.state import StateFolder


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("error: no camera\n  plug one in\n", "no camera", "plug one in"),
        ("a library's warning\nerror: no camera\n", "no camera", "read the log: x.log"),
        ("Traceback ...\nImportError: cv2\n", "Traceback ...", "ImportError: cv2"),
        ("", "the daemon ended with code 3", "read the log: x.log"),
    ],
)
def test_its_last_error_is_passed_on(said: str, message: str, hint: str) -> None:
    error = StartFailed(said, 3, "x.log")
    assert (error.message, error.hint, error.exit_code) == (message, hint, 3)


def test_a_signal_counts_as_our_own_fault() -> None:
    assert StartFailed("", -9, "x.log").exit_code == 1


class Silent:
    """A daemon's process that lives and never answers."""

    returncode = None

    def poll(self) -> None:
        return None


class Answering(ControlClient):
    """A client whose daemon answers, and has sent nothing yet."""

    def __init__(self, state: StateFolder) -> None:
        pass

    def status(self) -> Any:
        return {"state": "starting", "frames": 0}


@pytest.mark.parametrize(
    ("client", "limit", "says"),
    [
        (ControlClient, "ANSWERS_WITHIN_S", "the daemon did not answer within 0 s"),
        (Answering, "FIRST_PICTURE_WITHIN_S", "no frame was sent within 0 s"),
    ],
)
def test_what_it_waits_for_in_vain_is_said(
    client: type[ControlClient], limit: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ControlClient", client)
    monkeypatch.setattr(launch, limit, 0.0)
    with pytest.raises(DeviceError, match=says):
        launch._await_running(Silent(), StateFolder(tmp_path))  # type: ignore[arg-type]
