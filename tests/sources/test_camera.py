"""The camera, on a scripted driver: no camera is needed. A real one is tried with the kernel's `vivid` driver."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from engines.installing import install_package
from occlufix_vcam.core.errors import CameraBusy, CameraLost, CameraNotFound, DeviceError
from occlufix_vcam.sources import CameraInfo, SourceOptions
from occlufix_vcam.sources import camera as camera_module
from occlufix_vcam.sources.camera import Camera, choose_camera
from occlufix_vcam.system import v4l2
from tests.harness.sources import BROKEN, MJPG, UNPLUGGED, YUYV, FakeCapture, grey

CAMERAS = [
    CameraInfo(0, "Integrated Webcam", "/dev/video0"),
    CameraInfo(2, "Logitech StreamCam", "/dev/video2"),
]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "_better_format", {})


def open_camera(capture: FakeCapture, **timeouts: float) -> Camera:
    return Camera("0", SourceOptions(), open_capture=lambda _: capture, cameras=lambda: CAMERAS, **timeouts)


def test_size_is_that_of_the_first_picture_not_the_one_announced() -> None:
    camera = open_camera(FakeCapture().show(grey(1, (640, 480))))
    assert camera.size == (640, 480)
    camera.close()


def test_the_newest_picture_wins() -> None:
    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    capture.show(grey(2), grey(3), UNPLUGGED)
    capture.released.wait(5)
    seen = [camera.read(0), camera.read(0)]
    assert [frame.image[0, 0, 0] for frame in seen if frame] == [1, 3]
    assert seen[1] is not None and seen[1].index == 2
    camera.close()


def test_nothing_new_is_none_within_the_timeout() -> None:
    camera = open_camera(FakeCapture().show(grey(1)))
    assert camera.read(0.01) is not None
    assert camera.read(0.01) is None
    camera.close()


def test_unplugged_is_camera_lost_though_the_driver_calls_it_open() -> None:
    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    camera.read(0)
    capture.show(UNPLUGGED)
    with pytest.raises(CameraLost, match="disconnected"):
        camera.read(5)
    assert capture.isOpened() and capture.released.is_set()
    camera.close()


def test_silence_is_camera_lost() -> None:
    camera = open_camera(FakeCapture().show(grey(1)), silence_timeout=0.0)
    camera.read(0)
    with pytest.raises(CameraLost, match="no frame for"):
        camera.read(0.01)
    camera.close()


def test_a_few_broken_pictures_are_passed_over() -> None:
    capture = FakeCapture().show(BROKEN, BROKEN, grey(7))
    camera = open_camera(capture)
    frame = camera.read(1)
    assert frame is not None and frame.image[0, 0, 0] == 7
    camera.close()


def test_nothing_but_broken_pictures_is_camera_lost() -> None:
    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    camera.read(0)
    capture.show(*[BROKEN] * 30)
    with pytest.raises(CameraLost, match="decoded"):
        camera.read(5)


def test_close_does_not_wait_for_a_driver_that_blocks() -> None:
    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    camera.close()
    assert not capture.released.is_set()  # the driver still is in `grab`
    capture.show(UNPLUGGED)
    assert capture.released.wait(5)


def test_pictures_of_another_size_pass_as_they_are_and_grey_becomes_colour() -> None:
    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    camera.read(0)
    capture.show(np.full((30, 41), 9, np.uint8))
    frame = camera.read(5)
    assert frame is not None and frame.image.shape == (30, 41, 3)
    capture.show(UNPLUGGED)


def test_the_rate_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(camera_module.time, "monotonic", lambda: next(ticks) / 15)
    capture = FakeCapture({YUYV: (1280, 720, 30.0)})
    capture.show(*[grey(1)] * 40, UNPLUGGED)
    camera = open_camera(capture)
    capture.released.wait(5)
    assert camera.rate == pytest.approx(15, rel=0.15)  # the clock is also read by others
    camera.close()


@pytest.mark.parametrize(
    ("modes", "format_chosen", "rate"),
    [
        pytest.param({YUYV: (1280, 720, 30.0), MJPG: (1280, 720, 30.0)}, YUYV, 30, id="raw is fast enough"),
        pytest.param({YUYV: (1280, 720, 10.0), MJPG: (1280, 720, 30.0)}, MJPG, 30, id="raw is slower"),
        pytest.param({YUYV: (640, 480, 30.0), MJPG: (1280, 720, 30.0)}, MJPG, 30, id="raw is smaller"),
        pytest.param({YUYV: (1280, 720, 10.0), MJPG: (1280, 720, 10.0)}, YUYV, 10, id="MJPG gains nothing"),
        pytest.param({YUYV: (640, 480, 15.0)}, YUYV, 15, id="there is no MJPG"),
    ],
)
def test_mjpg_is_taken_where_raw_is_slower(
    modes: dict[int, tuple[int, int, float]], format_chosen: int, rate: float
) -> None:
    capture = FakeCapture(modes).show(grey(1))
    camera = open_camera(capture)
    assert (capture.format, camera.rate) == (format_chosen, rate)
    camera.close()


def test_a_camera_that_announces_no_rate_is_taken_at_the_rate_wanted() -> None:
    camera = open_camera(FakeCapture({YUYV: (1280, 720, 0.0)}).show(grey(1)))
    assert camera.rate == 30
    camera.close()


@pytest.mark.parametrize(
    ("target", "index"),
    [("auto", 0), ("camera", 0), ("0", 0), ("2", 2), ("streamcam", 2), ("Integrated Webcam", 0), ("/dev/video2", 2)],
)
def test_cameras_are_chosen_by_index_name_or_path(target: str, index: int) -> None:
    assert choose_camera(target, CAMERAS).index == index


def test_cameras_are_chosen_by_a_link_to_their_path(tmp_path: Path) -> None:
    device, link = tmp_path / "video7", tmp_path / "by-id"
    device.touch()
    link.symlink_to(device)
    assert choose_camera(str(link), [CameraInfo(7, "Webcam", str(device))]).index == 7


@pytest.mark.parametrize("target", ["1", "Sony", "/dev/video77"])
def test_a_camera_that_is_not_there_names_those_that_are(target: str) -> None:
    with pytest.raises(CameraNotFound, match=r"Integrated Webcam.*Logitech StreamCam"):
        choose_camera(target, CAMERAS)


def test_no_camera_at_all_points_to_the_demo() -> None:
    with pytest.raises(CameraNotFound) as caught:
        choose_camera("auto", [])
    assert "--source demo" in caught.value.hint


def test_our_own_virtual_camera_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = v4l2.VideoNode(9, "/dev/video9", v4l2.OWN_LABEL, loopback=True, captures=True, accepts=False)
    monkeypatch.setattr(v4l2, "video_nodes", lambda: [ours])
    with pytest.raises(CameraNotFound, match="own output"):
        choose_camera("/dev/video9", CAMERAS)


@pytest.mark.skipif(sys.platform != "linux", reason="video nodes are Linux'")
def test_only_nodes_that_take_pictures_are_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(index: int, name: str, loopback: bool, captures: bool, accepts: bool) -> v4l2.VideoNode:
        return v4l2.VideoNode(index, f"/dev/video{index}", name, loopback, captures, accepts)

    nodes = [
        node(0, "Webcam", loopback=False, captures=True, accepts=False),
        node(1, "Webcam", loopback=False, captures=False, accepts=False),  # its metadata
        node(2, "OccluFix Camera", loopback=True, captures=True, accepts=False),  # while it is written to
        node(3, "OBS", loopback=True, captures=False, accepts=True),
        node(4, "A phone", loopback=True, captures=True, accepts=False),  # another program feeds it
    ]
    monkeypatch.setattr(v4l2, "video_nodes", lambda: nodes)
    assert [camera.index for camera in camera_module.find_cameras()] == [0, 4]


@pytest.fixture
def on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


def test_on_other_systems_a_library_lists_them(on_macos: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("cv2_enumerate_cameras")
    listed = [CameraInfo(0, "OBS Virtual Camera", ""), CameraInfo(1, "FaceTime HD Camera", "")]
    monkeypatch.setattr(library, "enumerate_cameras", lambda _: listed, raising=False)
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", library)
    found = [(camera.index, camera.name, camera.identity) for camera in camera_module.find_cameras()]
    assert found == [(1, "FaceTime HD Camera", "FaceTime HD Camera")]


def test_without_that_library_it_says_what_to_install(on_macos: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2_enumerate_cameras", None)
    with pytest.raises(DeviceError) as caught:
        camera_module.find_cameras()
    assert install_package("cv2-enumerate-cameras") in caught.value.hint


def test_on_macos_privacy_may_be_the_reason(on_macos: None) -> None:
    with pytest.raises(CameraBusy) as caught:
        open_camera(FakeCapture(opens=False))
    assert "System Settings > Privacy" in caught.value.hint


@pytest.fixture
def device(tmp_path: Path) -> CameraInfo:
    """A plain file in the place of a camera's node."""
    (tmp_path / "video0").touch()
    return CameraInfo(0, "Webcam", str(tmp_path / "video0"))


def open_device(device: CameraInfo, capture: FakeCapture) -> Camera:
    return Camera(
        "0",
        SourceOptions(),
        open_capture=lambda _: capture,
        cameras=lambda: [device],
        first_picture_timeout=0.01,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("opens", [False, True], ids=["refused at once", "refused at the first picture"])
def test_a_busy_camera_names_the_process_that_holds_it(device: CameraInfo, opens: bool) -> None:
    hold = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", hold, device.path]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        capture = FakeCapture(opens=opens)
        with pytest.raises(CameraBusy, match=rf"in use by python.* \({holder.pid}\)"):
            open_device(device, capture)
        capture.show(UNPLUGGED)
        holder.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the video group is Linux'")
def test_no_permission_points_to_the_video_group(device: CameraInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module.os, "access", lambda *_: False)
    with pytest.raises(DeviceError, match="no permission") as caught:
        open_device(device, FakeCapture(opens=False))
    assert "usermod -aG video" in caught.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the node")
def test_a_camera_that_went_away_before_it_was_opened(device: CameraInfo) -> None:
    Path(device.path).unlink()
    with pytest.raises(CameraNotFound, match="is gone"):
        open_device(device, FakeCapture(opens=False))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell")
def test_a_camera_that_sends_nothing_for_no_reason_we_know(device: CameraInfo) -> None:
    with pytest.raises(DeviceError, match="sends no frames"):
        open_device(device, FakeCapture().show(UNPLUGGED))


def test_an_error_of_opencv_in_the_reader_is_camera_lost() -> None:
    class Failing(FakeCapture):
        def retrieve(self) -> tuple[bool, None]:
            raise cv2.error("the driver went mad")

    capture = FakeCapture().show(grey(1))
    camera = open_camera(capture)
    camera.read(0)
    capture.retrieve = Failing().retrieve  # type: ignore[method-assign]
    capture.show(grey(2))
    with pytest.raises(CameraLost, match="went mad"):
        camera.read(5)


class TimedCapture(FakeCapture):
    """Its driver announces one rate and keeps another: `kept`, by pixel format. Its pictures are its own clock."""

    def __init__(self, kept: dict[int, float]) -> None:
        super().__init__({code: (1280, 720, 30.0) for code in kept})
        self.kept, self.now, self.pictures = kept, 100.0, 0
        self.enough = threading.Event()
        self.formats: list[int] = []

    def grab(self) -> bool:
        self.now += 1 / self.kept[self.format]
        self._grabbed = grey(self.pictures % 250)
        self.pictures += 1
        self.formats.append(self.format)
        if self.pictures == 400:
            self.enough.set()
        return not self.released.wait(0) and self.pictures <= 400


@pytest.mark.parametrize(
    ("kept", "format_kept", "tried"),
    [
        pytest.param({YUYV: 30.0, MJPG: 30.0}, YUYV, {YUYV}, id="fast enough"),
        pytest.param({YUYV: 10.0, MJPG: 30.0}, MJPG, {YUYV, MJPG}, id="the other one is faster"),
        pytest.param({YUYV: 10.0, MJPG: 11.0}, YUYV, {YUYV, MJPG}, id="the other one is hardly faster: it is dark"),
        pytest.param({YUYV: 10.0}, YUYV, {YUYV}, id="there is no other one"),
    ],
)
def test_a_rate_that_the_driver_does_not_keep_is_noticed(
    kept: dict[int, float], format_kept: int, tried: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = TimedCapture(kept)
    monkeypatch.setattr(camera_module.time, "monotonic", lambda: capture.now)
    camera = open_camera(capture)
    assert capture.enough.wait(10)
    camera.close()
    assert set(capture.formats) == tried and capture.formats[-1] == format_kept
    assert camera.rate == pytest.approx(kept[format_kept], rel=0.05)
    again = TimedCapture(kept)
    monkeypatch.setattr(camera_module.time, "monotonic", lambda: again.now)
    camera = open_camera(again)
    assert again.enough.wait(10)
    camera.close()
    assert set(again.formats) == {format_kept}, "what was compared once need not be again"


def test_a_camera_that_sends_one_picture_for_ever_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr(camera_module.time, "monotonic", lambda: float(next(seconds)))
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24] = 200
    capture = FakeCapture().show(grey(1), *[picture] * 10)
    camera = open_camera(capture)
    capture.released.wait(5)
    with pytest.raises(CameraLost, match="keeps sending the same frame"):
        for _ in range(3):
            camera.read(0)


def test_a_camera_is_found_again_by_its_own_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    nodes = [v4l2.VideoNode(index, f"/dev/video{index}", "Webcam", False, True, False) for index in (0, 2)]
    monkeypatch.setattr(v4l2, "video_nodes", lambda: nodes)
    monkeypatch.setattr(v4l2, "stable_paths", lambda: {"/dev/video2": "/dev/v4l/by-id/usb-Webcam_7-video-index0"})
    found = camera_module.find_cameras()
    assert [each.identity for each in found] == ["/dev/video0", "/dev/v4l/by-id/usb-Webcam_7-video-index0"]


def test_a_hundred_openings_leave_nothing() -> None:
    threads = set(threading.enumerate())
    for _ in range(100):
        capture = FakeCapture().show(grey(1), UNPLUGGED)
        camera = open_camera(capture)
        with pytest.raises(CameraLost):
            while True:
                camera.read(5)
        camera.close()
        assert capture.released.is_set()
    assert set(threading.enumerate()) <= threads


def test_a_camera_that_is_not_in_the_list_is_found_again_by_its_path(tmp_path: Path) -> None:
    """As a node is for a moment, while it is being plugged in."""
    node = tmp_path / "video0"
    node.touch()
    assert choose_camera(str(node), []).identity == str(node)


def test_every_camera_can_be_found_again() -> None:
    camera = open_camera(FakeCapture().show(grey(1)))
    assert camera.identity == "0"
    camera.close()
