"""What `doctor` says of virtual cameras: the same as `start` and `status`, and nothing bad of our own daemon's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engines.offline import import_offline
from occlufix_vcam.assembly import open_sinks
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.diagnostics import doctor
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.sinks import pipewire as pipewire_module
from occlufix_vcam.system import v4l2
from occlufix_vcam.system.linux import LinuxMachine
from tests.harness.sinks import FakeSink

PIPEWIRE = VirtualCameraInfo("pipewire", "OccluFix Camera in PipeWire", "")


class Kernel:
    """The nodes that v4l2loopback has here, beside a PipeWire that works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: list[v4l2.VideoNode] = []
        self.holders: list[str] = []
        self.exclusive, self.format = False, ((1280, 720), "YU12")
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(LinuxMachine, "can_load", True)
        monkeypatch.setattr(v4l2, "video_nodes", lambda virtual_only=False: self.nodes)
        monkeypatch.setattr(v4l2, "holders", lambda path: self.holders)
        monkeypatch.setattr(v4l2, "is_exclusive", lambda place: self.exclusive)
        monkeypatch.setattr(v4l2, "output_format", lambda path: self.format)
        monkeypatch.setattr(pipewire_module, "find_virtual_cameras", lambda: [PIPEWIRE])
        monkeypatch.setattr(pipewire_module, "PipeWireCamera", lambda target, size, rate: FakeSink("pipewire"))

    def has(self, **changes: bool) -> None:
        facts = {"loopback": True, "captures": False, "accepts": True, **changes}
        self.nodes = [v4l2.VideoNode(9, "/dev/video9", v4l2.OWN_LABEL, **facts)]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def no_module(kernel: Kernel) -> None:
    kernel.nodes = []


def taken(kernel: Kernel) -> None:
    kernel.has(accepts=False, captures=True)
    kernel.holders = ["obs (7)"]


def not_allowed(kernel: Kernel) -> None:
    kernel.has(accessible=False)


def kept_format(kernel: Kernel) -> None:
    kernel.has(captures=True)
    kernel.exclusive, kernel.format = True, ((160, 90), "MJPG")


@pytest.mark.parametrize(
    ("case", "what", "hint"),
    [
        (no_module, "v4l2loopback is not loaded", "occlufix-vcam setup"),
        (taken, "obs (7) uses it", "devices=2"),
        (not_allowed, "no permission", "usermod -aG video"),
        (kept_format, "it keeps the format MJPG 160x90 of an earlier program", "keep_format=0"),
    ],
)
def test_start_and_status_and_doctor_say_the_same(kernel: Kernel, case, what: str, hint: str) -> None:
    case(kernel)
    (told,) = open_sinks(Settings(), (64, 48), 30).left_out.values()  # this is what `start` and `status` print
    (found,) = (finding for finding in doctor._virtual_cameras() if finding.verdict == "warning")
    assert what in told.what and what in found.found
    assert hint in told.hint and told.hint == found.hint


def test_what_works_and_is_wrong_all_the_same_is_a_warning_too(kernel: Kernel) -> None:
    kernel.has(captures=True)
    (found,) = (finding for finding in doctor._virtual_cameras() if finding.verdict == "warning")
    assert "exclusive_caps=1" in found.found and "setup" in found.hint


def test_a_node_that_an_earlier_picture_still_lies_in_is_not_called_badly_loaded(kernel: Kernel) -> None:
    kernel.has(captures=True)
    kernel.exclusive = True
    assert [finding.verdict for finding in doctor._virtual_cameras()] == ["ok", "ok"]


def test_the_node_that_our_own_daemon_has_is_not_called_taken(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(kernel)
    kernel.holders = [f"python3 ({os.getpid()})"]
    monkeypatch.setenv("OCCLUFIX_STATE_DIR", str(tmp_path))
    assert "warning" in [finding.verdict for finding in doctor._virtual_cameras()]
    StateFolder().publish(1)
    assert [finding.verdict for finding in doctor._virtual_cameras()] == ["ok", "ok"]


def test_elsewhere_one_kind_is_enough(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    both = [VirtualCameraInfo("unitycapture", "a", "", "not installed"), VirtualCameraInfo("obs", "b", "")]
    monkeypatch.setattr(doctor, "list_virtual_cameras", lambda: both)
    assert [finding.verdict for finding in doctor._virtual_cameras()] == ["ok"]


def test_doctor_says_that_nothing_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import_offline("onnxruntime")
    (found,) = doctor._network()
    assert (found.what, found.verdict, found.found) == ("network", "ok", "nothing asked for: no library reports home")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    (found,) = doctor._network()
    assert (found.what, found.verdict) == ("network", "error") and "ORT_DISABLE_TELEMETRY" in found.found and found.hint
