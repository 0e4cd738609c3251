"""Video nodes, on a made-up /sys: this machine need have none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from occlufix_vcam.system import v4l2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="video nodes are Linux'")


def add_node(sysfs: Path, index: int, name: str, nth: int = 0) -> None:
    (sysfs / f"video{index}").mkdir()
    (sysfs / f"video{index}" / "name").write_text(name + "\n")
    (sysfs / f"video{index}" / "index").write_text(f"{nth}\n")


def test_nodes_say_what_they_are(tmp_path: Path) -> None:
    add_node(tmp_path, 10, "OccluFix Camera")
    add_node(tmp_path, 0, "Webcam")
    add_node(tmp_path, 1, "Webcam", nth=1)
    answers = {
        "/dev/video0": ("uvcvideo", 0x04200001),
        "/dev/video1": ("uvcvideo", 0x04A00000),
        "/dev/video10": ("v4l2 loopback", 0x05200002),
    }
    nodes = v4l2.video_nodes(tmp_path, answers.__getitem__)
    assert nodes == [
        v4l2.VideoNode(0, "/dev/video0", "Webcam", loopback=False, captures=True, accepts=False),
        v4l2.VideoNode(1, "/dev/video1", "Webcam", loopback=False, captures=False, accepts=False),
        v4l2.VideoNode(10, "/dev/video10", "OccluFix Camera", loopback=True, captures=False, accepts=True),
    ]
    assert [node.is_ours for node in nodes] == [False, False, True]


def test_a_node_that_may_not_be_opened_is_guessed_from_sys(tmp_path: Path) -> None:
    sysfs, virtual = tmp_path / "class", tmp_path / "devices/virtual/video4linux"
    sysfs.mkdir()
    virtual.mkdir(parents=True)
    add_node(sysfs, 0, "Webcam")
    add_node(sysfs, 1, "Webcam", nth=1)
    add_node(virtual, 2, "OccluFix Camera")
    (sysfs / "video2").symlink_to(virtual / "video2")

    def refuse(path: str) -> tuple[str, int]:
        raise PermissionError(13, "Permission denied", path)

    nodes = v4l2.video_nodes(sysfs, refuse)
    assert [(node.captures, node.loopback, node.accessible) for node in nodes] == [
        (True, False, False),
        (False, False, False),
        (False, True, False),
    ]


def test_a_camera_is_let_alone_where_only_virtual_ones_are_looked_for(tmp_path: Path) -> None:
    sysfs, virtual = tmp_path / "class", tmp_path / "devices/virtual/video4linux"
    sysfs.mkdir()
    virtual.mkdir(parents=True)
    add_node(sysfs, 0, "Webcam")
    add_node(virtual, 2, "OccluFix Camera")
    (sysfs / "video2").symlink_to(virtual / "video2")
    opened: list[str] = []

    def query(path: str) -> tuple[str, int]:
        opened.append(path)
        return "v4l2 loopback", 0x05200002

    assert [node.path for node in v4l2.video_nodes(sysfs, query, virtual_only=True)] == opened == ["/dev/video2"]


@pytest.mark.parametrize(
    ("told", "place", "exclusive"), [("Y,N,N", 0, True), ("Y,N,N", 1, False), ("1", 0, True), ("N", 0, False)]
)
def test_whether_a_device_is_exclusive_stands_in_the_modules_parameters(
    tmp_path: Path, told: str, place: int, exclusive: bool
) -> None:
    (tmp_path / "exclusive_caps").write_text(told + "\n")
    assert v4l2.is_exclusive(place, tmp_path / "exclusive_caps") is exclusive


def test_without_the_module_or_a_node_nothing_is_known(tmp_path: Path) -> None:
    assert not v4l2.is_exclusive(0, tmp_path / "absent")
    assert v4l2.output_format(str(tmp_path / "absent")) is None
    (tmp_path / "no node").touch()
    assert v4l2.output_format(str(tmp_path / "no node")) is None


def test_without_video_there_are_no_nodes(tmp_path: Path) -> None:
    assert v4l2.video_nodes(tmp_path / "absent") == []


def test_what_is_no_video_node_is_told_by_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        v4l2.query_capabilities(str(tmp_path / "file"))


def test_holders_are_named_and_we_are_none_of_them(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with device.open() as _held_by_ourselves:
        assert v4l2.holders(str(device)) == []
    hold = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", hold, str(device)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline()
        (found,) = v4l2.holders(str(device))
        assert found.startswith("python") and str(holder.pid) in found
        holder.communicate()


def test_links_name_a_device_wherever_it_is_plugged_in(tmp_path: Path) -> None:
    (tmp_path / "video2").touch()
    (tmp_path / "by-id").mkdir()
    link = tmp_path / "by-id" / "usb-Webcam_7-video-index0"
    link.symlink_to(tmp_path / "video2")
    assert v4l2.stable_paths(tmp_path / "by-id") == {str(tmp_path / "video2"): str(link)}
    assert v4l2.stable_paths(tmp_path / "absent") == {}


@pytest.mark.parametrize(("name", "ours"), [("OccluFix Camera", True), ("OccluFix", True), ("OBS", False)])
def test_a_label_that_was_cut_is_still_ours(name: str, ours: bool) -> None:
    assert v4l2.VideoNode(9, "/dev/video9", name, loopback=True, captures=False, accepts=True).is_ours is ours
    assert not v4l2.VideoNode(9, "/dev/video9", name, loopback=False, captures=True, accepts=False).is_ours
