"""The state folder: one daemon at a time, and a killed one leaves nothing in the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.state import NotRunning, StateFolder

HOLD = """
import sys, pathlib
from occlufix_vcam.core.state import StateFolder
state = StateFolder(pathlib.Path(sys.argv[1]))
with state.hold():
    state.publish(1)
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_elsewhere(path: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock until its input ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline().strip() == b"held"
    return holder


def test_a_second_one_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with hold_elsewhere(tmp_path) as holder:
        assert state.held()
        with pytest.raises(ConfigError, match=rf"already running \(process {holder.pid}\)"), state.hold():
            pass
        assert not state.wait_until_free(0.01)
        assert holder.stdin is not None
        holder.stdin.close()
        assert state.wait_until_free(20)
    with pytest.raises(NotRunning):
        state.read_control()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_a_killed_one_held_is_taken_over(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with hold_elsewhere(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not state.held()
        with state.hold():
            with pytest.raises(NotRunning):
                state.read_control()
            assert state.publish(7).port == 7


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state directory"):
        StateFolder(tmp_path / "file" / "state").prepare()


def test_the_environment_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path / "mine"))
    assert StateFolder().path == tmp_path / "mine"
