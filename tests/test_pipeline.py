"""The pipeline restores what is hidden, passes everything else as the very same frame, and keeps the books."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from engines.contract import CROP_PX, TEMPLATE, TEMPLATE_PART, WIDE_PX, Image
from occlufix_vcam.core.frame import Crop, FaceTrack, Frame, HiddenCrop, Patch
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.pipeline import FrameSummary, Pipeline
from occlufix_vcam.stages.memory import NoMemory
from occlufix_vcam.stages.presence.gate import FaceGate
from occlufix_vcam.stages.scene.memory import SceneMemory

STAGES = ["find", "align", "hidden", "remember", "restore", "blend", "total"]


class Finder:
    """Finds the faces that the test put there."""

    def __init__(self, faces: Sequence[FaceTrack]) -> None:
        self.faces = faces

    def __call__(self, frame: Frame) -> Sequence[FaceTrack]:
        return self.faces

    def reset(self) -> None: ...


class Seer:
    """Sees the lower half hidden on the tracks that the test names."""

    def __init__(self, hidden_tracks: Sequence[int]) -> None:
        self.hidden_tracks = hidden_tracks
        self.forgotten: set[int] = set()

    def __call__(self, crop: Crop) -> HiddenCrop:
        mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
        if crop.face.track_id not in self.hidden_tracks:
            return HiddenCrop.of_template(crop, mask, 0.0)
        mask[130:230, 60:196] = 255
        return HiddenCrop.of_template(crop, mask, 0.4)

    def forget(self, track_ids) -> None:
        self.forgotten |= set(track_ids)


class Negative:
    """Restores by inverting; leaves faces that the test names as they are."""

    def __init__(self, unsure: Sequence[int] = ()) -> None:
        self.unsure = unsure
        self.forgotten: set[int] = set()

    def __call__(self, hidden: HiddenCrop, reference: object) -> Patch | None:
        if hidden.crop.face.track_id in self.unsure:
            return None
        return Patch.of_hidden(hidden, 255 - hidden.crop.image)

    def forget(self, track_ids) -> None:
        self.forgotten |= set(track_ids)


def face(track_id: int, x: float) -> FaceTrack:
    return FaceTrack(track_id, TEMPLATE + np.float32((x, 100)), 0.9)


def frame(index: int = 7) -> Frame:
    noise = np.random.default_rng(1).integers(0, 80, (12, 32, 3), dtype=np.uint8)
    image: Image = cv2.resize(noise, (1280, 480))
    image.flags.writeable = False
    return Frame(image, index, 12.5)


def pipeline(finder: Finder, seer: Seer, telemetry: Telemetry | None = None) -> Pipeline:
    return Pipeline(finder, seer, NoMemory(), Negative(), telemetry or Telemetry())


@pytest.mark.parametrize("faces", [[], [face(1, 100)], [face(1, 100), face(2, 600)]])
def test_a_frame_with_nothing_hidden_passes_as_it_is(faces):
    restore_faces = pipeline(Finder(faces), Seer([]))
    given = frame()
    result, summary = restore_faces(given)
    assert result is given
    assert summary == FrameSummary(len(faces), 0, 0.0)


def test_only_the_hidden_face_is_restored():
    restore_faces = pipeline(Finder([face(1, 100), face(2, 600)]), Seer([2]))
    given = frame()
    result, summary = restore_faces(given)
    assert (result.index, result.captured_at) == (given.index, given.captured_at)
    changed = (result.image != given.image).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 660 and columns.max() < 796 and rows.min() >= 230 and rows.max() < 330
    assert changed[240:320, 670:786].all()
    assert summary == FrameSummary(2, 1, 0.4)


def test_hidden_faces_that_are_left_alone_are_counted_by_reason():
    aside = face(1, 100)
    aside.landmarks[2, 0] += 60
    parts = Finder([aside, face(2, 600)]), Seer([1]), NoMemory(), Negative(), Telemetry()
    result, summary = Pipeline(*parts, gate=FaceGate())(frame())
    assert summary == FrameSummary(2, 0, 0.0, left={"turned": 1}) and result.restored_from is None


def test_four_faces_at_once():
    restore_faces = pipeline(Finder([face(n, 300 * n) for n in range(4)]), Seer(range(4)))
    given = frame()
    result, summary = restore_faces(given)
    changed = (result.image != given.image).any(axis=2)
    assert all(changed[240:320, 300 * n + 70 : 300 * n + 186].all() for n in range(4))
    assert summary.restored == 4


def test_landmarks_that_span_no_face_do_not_stop_the_others():
    nowhere = FaceTrack(5, np.full((5, 2), np.nan, np.float32), 0.9)
    restore_faces = pipeline(Finder([nowhere, face(1, 100)]), Seer([1, 5]))
    _, summary = restore_faces(frame())
    assert summary.restored == 1


def test_lost_tracks_are_forgotten():
    finder, seer = Finder([face(1, 100), face(2, 600)]), Seer([])
    restore_faces = pipeline(finder, seer)
    restore_faces(frame())
    assert seer.forgotten == set()
    finder.faces = [face(2, 600)]
    restore_faces(frame())
    assert seer.forgotten == {1}


def test_every_stage_is_timed_and_counted():
    telemetry = Telemetry()
    restore_faces = pipeline(Finder([face(1, 100), face(2, 600)]), Seer([2]), telemetry)
    for index in range(3):
        restore_faces(frame(index))
    figures = telemetry.percentiles()
    assert list(figures) == STAGES
    assert {stage["count"] for stage in figures.values()} == {3}
    assert figures["total"]["p50_ms"] >= figures["blend"]["p50_ms"]
    assert telemetry.counts() == {"faces": 6, "restored": 3}


class Acquaintance(NoMemory):
    """Knows the first track."""

    def name(self, track_id: int) -> str:
        return "Ada" if track_id == 1 else ""


def test_the_summary_names_who_is_recognised():
    finder = Finder([face(1, 100), face(2, 600)])
    _, summary = Pipeline(finder, Seer([2]), Acquaintance(), Negative(), Telemetry())(frame())
    assert summary.people == ("Ada",)


def test_the_segmenter_is_told_to_hurry():
    seer = Seer([1])
    hurried = pipeline(Finder([face(1, 100)]), seer)
    hurried.hurries = True
    hurried(frame())
    assert seer.hurries


@pytest.mark.parametrize("strength", [0, 40, 100])
def test_strength_is_the_share_of_the_restored_picture(strength: int):
    restore_faces = pipeline(Finder([face(1, 100)]), Seer([1]))
    given = frame()
    whole = restore_faces(given)[0].image.astype(float)
    restore_faces.strength = strength
    result, summary = restore_faces(given)
    wanted = given.image + (whole - given.image) * strength / 100
    assert np.abs(result.image - wanted).max() <= 0.5
    assert summary.restored == 1 and (result is given) == (strength == 0)


@pytest.mark.parametrize("corner", ["bottom-left", "bottom-right", "top-left", "top-right"])
def test_the_mark_is_in_its_corner(corner):
    given = frame()
    marked = Pipeline(Finder([face(1, 100)]), Seer([1]), NoMemory(), Negative(), Telemetry(), mark=corner)(given)[0]
    bare = pipeline(Finder([face(1, 100)]), Seer([1]))(given)[0]
    rows, columns = np.nonzero((marked.image != bare.image).any(axis=2))
    assert (rows.mean() < 100) == corner.startswith("top") and (columns.mean() < 200) == corner.endswith("left")


class ClosableMemory(NoMemory):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_closing_ends_the_memory():
    memory = ClosableMemory()
    Pipeline(Finder([]), Seer([]), memory, Negative(), Telemetry()).close()
    assert memory.closed


class WideSeer(Seer):
    """From a frame on sees a thing hidden that hangs out of the template to the left."""

    def __init__(self, since: int) -> None:
        super().__init__([])
        self.since, self.frames = since, 0

    def __call__(self, crop: Crop) -> HiddenCrop:
        self.frames += 1
        wide = np.zeros((WIDE_PX, WIDE_PX), np.uint8)
        if self.frames > self.since:
            wide[260:310, 20:240] = 255
        return HiddenCrop(crop, np.ascontiguousarray(wide[TEMPLATE_PART]), 0.2 if wide.any() else 0.0, wide)


def test_what_the_scene_showed_before_is_seen_again_beyond_the_template():
    plain = frame().image
    arm = (slice(320, 350), slice(180, 240))
    restore_faces = Pipeline(
        Finder([face(1, 200)]), WideSeer(since=40), NoMemory(), Negative(), Telemetry(), scene=SceneMemory()
    )
    for number in range(45):
        image = plain.copy()
        if number >= 40:
            image[arm] = 255
        result, _ = restore_faces(Frame(image, number, number / 30))
    assert (image[arm] == 255).all()
    assert cv2.absdiff(result.image[arm], plain[arm]).mean() < 2
