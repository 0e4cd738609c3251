"""Which sinks the settings open, and what is said where one, or a network's threshold, is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines import manifest
from engines.errors import ModelCorrupt
from engines.manifest import Model, ModelFile
from occlufix_vcam import assembly
from occlufix_vcam.assembly import open_embedder, open_sinks
from occlufix_vcam.core.errors import SinkUnavailable, Trouble
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.inference import EngineSet
from tests.harness.sinks import FakeSink, frame_of

SIZE, RATE = (64, 48), 30.0


class Shelf:
    """Sinks by name as `open_sink` gives them: a fake, or an error to raise."""

    def __init__(self, **sinks: FakeSink | Exception) -> None:
        self._sinks = sinks

    def open_sink(
        self, name: str, *, size: tuple[int, int], rate: float, path: Path | None = None, **options: bool
    ) -> FakeSink:
        found = self._sinks[name]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def on_linux(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    return lambda **sinks: monkeypatch.setattr(assembly, "open_sink", Shelf(**sinks).open_sink)


KERNEL, PIPEWIRE = SinkUnavailable("no module", "setup"), SinkUnavailable("no session", "log in")


def test_auto_opens_every_virtual_camera_that_is_there(on_linux) -> None:
    kernel, pipewire = FakeSink("kernel"), FakeSink("pipewire")
    on_linux(v4l2=kernel, pipewire=pipewire)
    open_sinks(Settings(), SIZE, RATE).send(frame_of(SIZE))
    assert (kernel.sent, pipewire.sent) == (1, 1)


@pytest.mark.parametrize("there", ["v4l2", "pipewire"])
def test_auto_is_content_with_one(on_linux, there: str) -> None:
    on_linux(**{"v4l2": KERNEL, "pipewire": PIPEWIRE, there: FakeSink(there)})
    sinks = open_sinks(Settings(), SIZE, RATE)
    assert sinks.name == there
    ((absent, why),) = sinks.left_out.items()
    assert absent != there and why in (Trouble("no module", "setup"), Trouble("no session", "log in"))


def test_where_none_is_there_every_reason_is_said(on_linux) -> None:
    on_linux(v4l2=KERNEL, pipewire=PIPEWIRE)
    with pytest.raises(SinkUnavailable, match="no module; no session") as caught:
        open_sinks(Settings(), SIZE, RATE)
    assert caught.value.hint == "setup"


def test_both_are_opened_by_name_and_then_both_must_open(on_linux) -> None:
    kernel = FakeSink("kernel")
    on_linux(v4l2=kernel, pipewire=PIPEWIRE)
    with pytest.raises(SinkUnavailable, match="no session"):
        open_sinks(Settings().but(sinks=("v4l2", "pipewire")), SIZE, RATE)
    assert kernel.closed == 1


def test_a_recording_goes_beside_them(on_linux) -> None:
    on_linux(v4l2=KERNEL, pipewire=FakeSink("pipewire"), recorder=FakeSink("call.mp4"))
    assert open_sinks(Settings().but(record="call.mp4"), SIZE, RATE).name == "pipewire, call.mp4"


def test_starting_and_ending_a_recording_leaves_the_virtual_camera_open(on_linux) -> None:
    camera, film = FakeSink("pipewire"), FakeSink("call.mp4")
    on_linux(v4l2=KERNEL, pipewire=camera, recorder=film)
    plain, recording = Settings(), Settings().but(record="call.mp4")
    sinks = open_sinks(plain, SIZE, RATE)
    for settings in (recording, plain):
        sinks = open_sinks(settings, SIZE, RATE, sinks.release())
        sinks.send(frame_of(SIZE))
    assert (camera.closed, camera.sent) == (0, 2)
    assert (film.closed, film.sent) == (1, 1)


def test_a_recording_of_another_quality_is_another_file(on_linux) -> None:
    camera, film = FakeSink("pipewire"), FakeSink("call.mp4")
    on_linux(v4l2=KERNEL, pipewire=camera, recorder=film)
    recording = Settings().but(record="call.mp4")
    sinks = open_sinks(recording, SIZE, RATE)
    sinks = open_sinks(recording.but(record_quality="low"), SIZE, RATE, sinks.release())
    assert (camera.closed, film.closed) == (0, 1)


def test_a_recording_that_does_not_open_keeps_no_camera_from_starting(on_linux) -> None:
    camera = FakeSink("pipewire")
    on_linux(v4l2=KERNEL, pipewire=camera, recorder=SinkUnavailable("the disk is full"))
    sinks = open_sinks(Settings().but(record="call.mp4"), SIZE, RATE)
    assert sinks.name == "pipewire" and sinks.left_out["recorder call.mp4"].what == "the disk is full"


def test_a_sink_that_is_named_no_longer_is_closed(on_linux) -> None:
    kernel, pipewire = FakeSink("kernel"), FakeSink("pipewire")
    on_linux(v4l2=kernel, pipewire=pipewire)
    kept = open_sinks(Settings(), SIZE, RATE).release()
    assert open_sinks(Settings().but(sinks=("pipewire",)), SIZE, RATE, kept).name == "pipewire"
    assert (kernel.closed, pipewire.closed) == (1, 0)


def test_a_network_without_a_threshold_recognises_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold for one person belongs to the network: without it no track gets a name."""
    model = Model("embed", {"fp32": ModelFile(Path("embed.fp32.onnx"), "0")}, metrics={"whole_equal_error": 0.1})
    monkeypatch.setattr(manifest, "find_model", lambda name: model)
    with pytest.raises(ModelCorrupt, match="cosine") as caught:
        open_embedder(EngineSet(Settings()))
    assert "export embed --figures" in caught.value.hint
