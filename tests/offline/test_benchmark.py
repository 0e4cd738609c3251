"""The benchmark runs the product's own pipeline on faces that it hid, and its figures add up."""

from __future__ import annotations

from itertools import count

import cv2
import numpy as np
import pytest

import engines
from engines.base import TensorSpec
from engines.contract import CLOSE_UP_SIZE, CROP_PX, TEMPLATE
from occlufix_vcam.core.errors import ConfigError
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.offline import benchmark
from occlufix_vcam.offline.benchmark import SIZE, Bench, as_text, draw_mask, fit, repeated


class StandIn:
    """Stands in for each network: a face in the middle, its lower half hidden, restored as its negative."""

    backend, device, precision = "stand-in", "none", "none"
    inputs = (TensorSpec("face", (1, CROP_PX, CROP_PX, 3), "uint8"),)
    outputs = passed_over = ()
    sees_faces = True

    def __init__(self, model: str) -> None:
        self._model = model

    def run(self, feeds):
        if self._model == "faces":
            return self._maps(feeds["frame"].shape[1:3])
        if self._model == "hidden":
            mask = np.zeros((1, CROP_PX, CROP_PX, 1), np.uint8)
            mask[:, 130:230, 60:196] = 255
            return {"hidden": mask}
        if self._model == "embed":
            return {"embedding": np.eye(1, 128, dtype=np.float32)}
        return {"restored": 255 - feeds["face"]}

    def _maps(self, size):
        rows, columns = size[0] // 8, size[1] // 8
        heat = np.zeros((1, rows, columns, 1), np.float32)
        heat[0, rows // 2, columns // 2] = float(self.sees_faces)
        middle = (np.array([columns // 2, rows // 2]) + 0.5) * 8 - 0.5
        scale = 0.45 if tuple(size) == CLOSE_UP_SIZE else 0.3
        points = (TEMPLATE - CROP_PX / 2) * scale + np.array(size[::-1]) / 2 - middle
        boxes = np.broadcast_to(np.array([-40, -40, 40, 40], np.float32), (1, rows, columns, 4))
        landmarks = np.broadcast_to(points.reshape(10).astype(np.float32), (1, rows, columns, 10))
        return {"heat": heat, "boxes": boxes, "landmarks": landmarks}

    def close(self) -> None: ...


class Clocks:
    """Stands in for `time`: each look at the wall clock takes a second, each at the processor's two."""

    def __init__(self) -> None:
        wall, processor = count(), count(step=2)
        self.perf_counter, self.process_time = wall.__next__, processor.__next__


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "load", lambda model, options: StandIn(model))
    picture = np.random.default_rng(0).integers(0, 80, (240, 320, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "person.png"), picture)
    return Settings(source=str(tmp_path / "person.png"))


def test_every_stage_of_every_frame_is_measured(settings):
    bench = Bench(settings, frames=8)
    bench.warm_up(2)
    bench.measure(5)
    bench.measure(3)
    report = bench.report()
    bench.close()
    assert report.frames == 8 and report.faces == 1 and report.restored == 1
    assert set(report.stages) == {
        "find", "align", "hidden", "remember", "restore", "blend", "total", "networks", "rest",
    }  # fmt: skip
    assert {figures["count"] for figures in report.stages.values()} == {8}
    assert min(report.memory_mib) > report.pictures_mib > 0
    assert {facts["backend"] for facts in report.engines.values()} == {"stand-in"}
    text = as_text(report)
    assert all(stage in text for stage in report.stages) and report.environment["processor"] in text


def test_networks_and_rest_add_up_to_the_time_of_a_frame(settings, monkeypatch):
    monkeypatch.setattr(benchmark, "time", Clocks())
    bench = Bench(settings, frames=4)
    bench.warm_up(1)
    bench.measure(4)
    report = bench.report()
    bench.close()
    # Between the looks at a clock lie each network, what is before it, and what follows the last.
    assert report.stages["rest"]["p50_ms"] == report.stages["networks"]["p50_ms"] + 1e3 > 1e3
    assert report.cpu_ms == 2 * report.cpu_rest_ms - 2e3 > 2e3


def test_the_faces_of_the_pictures_are_hidden_before_anything_is_timed(settings):
    bench = Bench(settings, frames=1)
    picture = bench._pictures[0]
    bench.close()
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert (picture == benchmark.MASK_COLOUR).all(axis=2).sum() > 1000


def test_a_source_without_a_face_is_refused(settings, monkeypatch):
    monkeypatch.setattr(StandIn, "sees_faces", False)
    with pytest.raises(ConfigError, match="no face"):
        Bench(settings, frames=1)


def test_without_a_measured_frame_there_is_no_report(settings):
    bench = Bench(settings, frames=1)
    bench.warm_up(1)
    with pytest.raises(ConfigError, match="no frame"):
        bench.report()
    bench.close()


def test_pictures_go_to_and_fro(settings):
    bench = Bench(settings, frames=1)
    bench._pictures = [np.full((72, 128, 3), number, np.uint8) for number in range(4)]
    shown = [int(bench._next_frame().image[0, 0, 0]) for _ in range(8)]
    bench.close()
    assert shown == [0, 1, 2, 3, 2, 1, 0, 1]


@pytest.mark.parametrize("shape", [(480, 640), (1280, 720), (2160, 3840), (64, 65)])
def test_any_picture_fits(shape):
    picture = fit(np.full((*shape, 3), 200, np.uint8))
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    rows, columns = np.nonzero(picture[..., 0])
    scale = min(SIZE[0] / shape[1], SIZE[1] / shape[0])
    assert abs(np.ptp(columns) + 1 - shape[1] * scale) <= 1 and abs(np.ptp(rows) + 1 - shape[0] * scale) <= 1


def test_the_drawn_mask_covers_nose_and_mouth_and_leaves_the_eyes():
    picture = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    draw_mask(picture, TEMPLATE)
    covered = [bool(picture[round(float(y)), round(float(x))].any()) for x, y in TEMPLATE]
    assert covered == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("count", "places"), [(2, [(320, 360), (960, 360)]), (3, [(320, 180), (960, 180), (320, 540)])]
)
def test_one_face_is_shown_several_times(count: int, places):
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[350:370, 630:650] = 200
    shown = repeated(picture, TEMPLATE - TEMPLATE.mean(axis=0) + (640, 360), count)
    spots = cv2.connectedComponentsWithStats((shown[..., 0] > 100).astype(np.uint8))[3][1:]
    assert shown.shape == picture.shape and np.abs(np.sort(spots, axis=0) - np.sort(places, axis=0)).max() < 2
