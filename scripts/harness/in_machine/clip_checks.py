"""Checks with a clip of numbered frames and every reader."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.in_machine.reading import by_ffmpeg, by_v4l2_ctl, first_with_number, opencv, proved
from scripts.harness.in_machine.scene import (
    CLIP_PICTURES,
    LOOPBACK,
    PATIENCE_S,
    PICTURES,
    SIZE,
    Scene,
    captures,
    run,
)


def it_is_listed_by_its_whole_name(scene: Scene) -> dict[str, Any]:
    seconds = scene.start(scene.clip)
    assert Path("/sys/class/video4linux/video10/name").read_text().strip() == OWN_LABEL
    assert OWN_LABEL in run("v4l2-ctl", "--list-devices")
    scene.until(lambda status: status["state"] == "idle", "the idle state")
    return {"seconds until listed": seconds, "sinks": scene.status()["sinks"]}


def v4l2_ctl_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    return proved(by_v4l2_ctl(60))


def opencv_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    with opencv() as read:
        waited = first_with_number(read)
        return {**proved([read() for _ in range(PICTURES + 8)]), "seconds to the first picture": waited}


def ffmpeg_reads_numbers_in_order_and_true_colours(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    return proved(by_ffmpeg(60))


def two_readers_at_once_are_named_and_the_last_one_closes_the_camera(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    command = ["v4l2-ctl", "-d", LOOPBACK, "--stream-mmap=4", "--stream-count=100000"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as other, opencv() as read:
        try:
            first_with_number(read)
            scene.until(lambda status: status["viewers"] == 2, "both readers")
            readers = scene.status()["readers"]
            assert any(name.startswith("v4l2-ctl") for name in readers), readers
            proved([read() for _ in range(PICTURES + 4)])
        finally:
            other.kill()
    seconds = scene.until(lambda status: not status["camera_open"], "the source to be closed")
    assert scene.status()["readers"] == []
    return {"readers": readers, "seconds until closed": seconds}


def chromium_lists_it_and_reads_numbers_and_true_colours(scene: Scene) -> dict[str, Any]:
    from scripts.harness.readers import browsers, numbered

    if browsers.program("chromium") is None:
        return {"skipped": "NOT PROVED HERE: no chromium-headless-shell"}
    scene.start(scene.clip)
    browsers.WITHIN_S = PATIENCE_S
    kernels = ("--disable-features=WebRtcPipeWireCamera",)  # there is no session to ask here, and it would wait for one
    told = browsers.watch("chromium", dict(os.environ), Path("/run"), label=OWN_LABEL, flags=kernels)
    assert "error" not in told, told
    assert OWN_LABEL in told["label"] and told["size"] == list(SIZE), told
    assert len(told["numbers"]) == PICTURES and min(numbered.steps(told["numbers"], CLIP_PICTURES)) >= 0, told
    for seen, wanted in zip(told["colours"], numbered.COLOURS_RGB.values(), strict=True):
        assert max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 12, told["colours"]
    return {"cameras": told["cameras"], "milliseconds": told["milliseconds"]}


def the_node_is_free_after_the_end(scene: Scene) -> dict[str, Any]:
    scene.start(scene.clip)
    code = scene.end(signal.SIGTERM)
    assert code == 0 and not captures(LOOPBACK)
    return {"exit code": code}
