"""The virtual camera, on a pyvirtualcam that is played: which one is taken, what is sent, what is said if none is."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from engines.installing import install_extra
from occlufix_vcam.core.errors import SinkUnavailable
from occlufix_vcam.sinks import virtual_camera as virtual_camera_module
from occlufix_vcam.sinks.opening import open_sink
from occlufix_vcam.sinks.virtual_camera import VirtualCamera, find_virtual_cameras
from occlufix_vcam.system import v4l2
from occlufix_vcam.system.linux import LinuxMachine
from tests.harness.sinks import FakePyvirtualcam, PixelFormat, frame_of


def loopback(index: int, name: str, **changes: bool) -> v4l2.VideoNode:
    facts = {"loopback": True, "captures": False, "accepts": True, **changes}
    return v4l2.VideoNode(index, f"/dev/video{index}", name, **facts)


OURS, OTHER = loopback(9, v4l2.OWN_LABEL), loopback(4, "Dummy video device")


def on_linux(monkeypatch: pytest.MonkeyPatch, *nodes: v4l2.VideoNode) -> FakePyvirtualcam:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(v4l2, "video_nodes", lambda virtual_only=False: list(nodes))
    return FakePyvirtualcam({"v4l2loopback": [node.path for node in nodes]})


def on_windows(monkeypatch: pytest.MonkeyPatch, **devices: list[str]) -> FakePyvirtualcam:
    monkeypatch.setattr(sys, "platform", "win32")
    return FakePyvirtualcam({"obs": [], "unitycapture": [], **devices})


def open_camera(module: FakePyvirtualcam, target: str = "auto", size: tuple[int, int] = (64, 48)) -> VirtualCamera:
    return VirtualCamera(target, size=size, rate=30, pyvirtualcam=module)


def test_the_device_with_our_label_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OTHER, OURS)
    assert open_camera(module).name == "/dev/video9 (v4l2loopback)"
    assert module.opened[0].fps == 30


def test_another_loopback_device_is_taken_where_ours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = v4l2.VideoNode(0, "/dev/video0", "Webcam", loopback=False, captures=True, accepts=False)
    assert "video4" in open_camera(on_linux(monkeypatch, webcam, OTHER)).name


def test_the_next_is_tried_where_one_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OURS, OTHER)
    module.devices["v4l2loopback"].remove(OURS.path)
    assert "video4" in open_camera(module).name


@pytest.mark.parametrize("target", ["/dev/video4", "dummy video device"])
def test_a_device_by_path_or_name(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    assert "video4" in open_camera(on_linux(monkeypatch, OTHER, OURS), target).name


def test_a_device_that_is_not_there_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkUnavailable, match=r"/dev/video5: there is no such.*there are: /dev/video9"):
        open_camera(on_linux(monkeypatch, OURS), "/dev/video5")


def test_without_the_kernel_module_it_says_how_to_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinuxMachine, "can_load", True)
    with pytest.raises(SinkUnavailable, match="v4l2loopback is not loaded") as caught:
        open_camera(on_linux(monkeypatch))
    assert "occlufix-vcam setup" in caught.value.hint


def test_every_reason_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = loopback(9, v4l2.OWN_LABEL, accepts=False)
    module = on_linux(monkeypatch, loopback(3, "locked", accessible=False), held, OTHER)
    module.devices["v4l2loopback"].clear()
    with pytest.raises(SinkUnavailable) as caught:
        open_camera(module)
    for part in ("video9: /dev/video9 could not", "video3: no permission", "video4: /dev/video4 could not be opened"):
        assert part in caught.value.message
    assert "\n" not in caught.value.message and caught.value.hint


def test_what_is_wrong_is_listed_for_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, loopback(3, "locked", accessible=False), OURS)
    found = find_virtual_cameras(module)
    assert [(one.path, bool(one.problem), bool(one.hint)) for one in found] == [
        ("/dev/video9", False, False),
        ("/dev/video3", True, True),
    ]
    assert not module.opened


def test_on_windows_unity_capture_is_preferred_to_obs(monkeypatch: pytest.MonkeyPatch) -> None:
    both = on_windows(monkeypatch, obs=["OBS Virtual Camera"], unitycapture=["Unity Video Capture"])
    assert open_camera(both).name == "Unity Video Capture (unitycapture)"
    only_obs = on_windows(monkeypatch, obs=["OBS Virtual Camera"])
    assert open_camera(only_obs).name == "OBS Virtual Camera (obs)"
    assert open_camera(both, "obs virtual camera").name == "OBS Virtual Camera (obs)"


def test_on_windows_without_any_it_lists_both(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_windows(monkeypatch)
    with pytest.raises(SinkUnavailable, match=r"Unity Video Capture: .*; OBS Virtual Camera: ") as caught:
        open_camera(module)
    assert "Unity Capture" in caught.value.hint
    assert [one.backend for one in find_virtual_cameras(module)] == ["unitycapture", "obs"]


def test_without_pyvirtualcam_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkUnavailable) as caught:
        open_sink("pyvirtualcam", size=(64, 48), rate=30)
    assert install_extra("virtualcam") in caught.value.hint
    assert find_virtual_cameras()[0].problem


def test_a_frame_of_its_size_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OURS)
    frame = frame_of((64, 48), level=77)
    open_camera(module).send(frame)
    assert np.array_equal(module.opened[0].sent[0], frame.image)


def test_frames_of_other_sizes_get_bars_and_odd_sizes_are_made_even(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OURS)
    camera = open_camera(module, size=(63, 47))
    assert camera.size == (64, 48)
    camera.send(frame_of((20, 48)))
    sent = module.opened[0].sent[0]
    assert sent[:, 22:42].min() == 200 and not sent[:, :22].any() and not sent[:, 42:].any()


def test_a_backend_without_bgr_gets_i420(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OURS)
    module.formats = (PixelFormat.I420,)
    frame = frame_of((64, 48), level=90)
    open_camera(module).send(frame)
    back = cv2.cvtColor(module.opened[0].sent[0], cv2.COLOR_YUV2BGR_I420)
    assert np.abs(back.astype(int) - 90).max() <= 2


def test_a_camera_that_stops_is_sink_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = on_linux(monkeypatch, OURS)
    camera = open_camera(module)
    module.opened[0].broken = True
    with pytest.raises(SinkUnavailable, match="stopped: write failed"):
        camera.send(frame_of((64, 48)))
    camera.close()
    assert module.opened[0].closed == 1


def test_the_real_pyvirtualcam_has_what_is_used_here() -> None:
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    assert pyvirtualcam.PixelFormat.BGR and pyvirtualcam.PixelFormat.I420 and pyvirtualcam.camera.BACKENDS
    for one in find_virtual_cameras():
        assert one.backend in (*pyvirtualcam.camera.BACKENDS, "v4l2loopback")
    assert virtual_camera_module._import_pyvirtualcam() is pyvirtualcam
