"""Opening a source: which name opens what."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from occlufix_vcam.core.errors import CameraNotFound, DeviceError
from occlufix_vcam.sources import CameraInfo, opening
from occlufix_vcam.sources import camera as camera_module
from occlufix_vcam.sources.clip import Clip
from occlufix_vcam.sources.demo.source import Demo
from occlufix_vcam.sources.opening import open_source
from tests.harness.sources import UNPLUGGED, FakeCapture, grey, write_clip


@pytest.fixture
def no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    # The class's own defaults, bound when it was made.
    monkeypatch.setitem(camera_module.Camera.__init__.__kwdefaults__, "cameras", lambda: [])


@pytest.fixture
def one_camera(monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    capture = FakeCapture().show(grey(5, (320, 240)), UNPLUGGED)
    defaults = camera_module.Camera.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "cameras", lambda: [CameraInfo(3, "Webcam", "/dev/video3")])
    monkeypatch.setitem(defaults, "open_capture", lambda _: capture)
    return capture


@pytest.mark.parametrize("name", ["auto", "camera", "3", "web", "/dev/video3"])
def test_cameras(one_camera: FakeCapture, name: str) -> None:
    source = open_source(name)
    assert source.size == (320, 240) and "Webcam" in source.description
    source.close()


@pytest.mark.parametrize("name", ["auto", "0", "Logitech", "/dev/video0", "/dev/v4l/by-id/usb-webcam"])
def test_without_a_camera_the_error_points_to_the_demo(no_camera: None, name: str) -> None:
    with pytest.raises(CameraNotFound) as caught:
        open_source(name)
    assert "--source demo" in caught.value.hint


def test_a_file_or_folder_is_a_clip_also_where_its_name_is_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "talk.mp4", 2)
    assert isinstance(open_source(str(clip)), Clip)
    (tmp_path / "7").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CameraNotFound, match="holds no pictures"):
        open_source("7")


@pytest.mark.parametrize("name", ["absent.mp4", "no/such/folder", "clip"])
def test_a_clip_that_is_not_there(name: str) -> None:
    with pytest.raises(CameraNotFound, match="there is no clip"):
        open_source(name)


def test_a_clip_in_a_folder_that_is_not_ours_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DeviceError, match="Permission denied"):
        open_source("/somebody/talk.mp4")


def test_the_options_reach_the_demo() -> None:
    source = open_source("demo", width=320, height=200, rate=12)
    assert isinstance(source, Demo) and (source.size, source.rate) == ((320, 200), 12)


def test_cameras_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = CameraInfo(3, "Webcam", "/dev/video3")
    monkeypatch.setattr(camera_module, "find_cameras", lambda: [webcam])
    assert opening.list_cameras() == [webcam]
