"""Figures as served and with references: what restorers are given there, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.contract import HIDDEN, Image
from train import cli
from train.data.face_set import FaceRow, FaceSet
from train.evaluation.metrics import psnr
from train.evaluation.report import EvalReport
from train.evaluation.restoration import references, served
from train.evaluation.restoration.cases import EVAL_SHAPES, EvalCase, eval_cases
from train.evaluation.restoration.meter import CaseFigures
from train.occlusion.occluders import Occluders
from train.onnx_runner import Arrays


class PixelJudge:
    """Figures that need no network."""

    def __call__(
        self, cases: Sequence[EvalCase], made: Mapping[str, Sequence[Image | None]]
    ) -> dict[str, list[CaseFigures | None]]:
        return {
            name: [
                None if picture is None else CaseFigures({"psnr": psnr(picture, c.face, c.region)}, {}, {}, True, ())
                for c, picture in zip(cases, pictures, strict=True)
            ]
            for name, pictures in made.items()
        }


class Recorder:
    """A restorer that remembers what it was given and fills holes with the reference, else with grey."""

    def __init__(self) -> None:
        self.given: list[Arrays] = []

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        self.given.append(dict(feeds))
        filled = np.where(feeds["reference_mask"] > 0, feeds["reference"], np.uint8(128))
        return {"restored": np.where(feeds["mask"] > 0, filled, feeds["face"])}


class TwoOfEach:
    """Six faces of two people: grey, each a little lighter than the last; turned more and more."""

    def __init__(self, one: FaceRow, face: Image) -> None:
        self.rows = [
            FaceRow(f"{n}", None, f"p{n % 2}", "made", one.landmarks, one.valid_quad, yaw=0.1 * n) for n in range(6)
        ]
        self.people = {"p0": [0, 2, 4], "p1": [1, 3, 5]}
        self._face = face

    def image(self, index: int) -> Image:
        return np.clip(self._face.astype(int) + 4 * index, 0, 255).astype(np.uint8)

    def sibling(self, index: int, rng: np.random.Generator) -> int | None:
        return (index + 2) % 6


@pytest.fixture
def faces(small_data: Path) -> TwoOfEach:
    known = FaceSet(small_data, "train")
    return TwoOfEach(known.rows[0], known.image(0))


def lower_face_seen(face: Image) -> Image:
    """A segmenter that sees every hole in the same place: never just where the thing is."""
    seen = np.zeros(face.shape[:2], np.uint8)
    seen[130:210, 70:190] = HIDDEN
    return seen


def test_as_served_has_the_thing_in_front_and_a_mask_that_is_not_its_own(faces: TwoOfEach, small_data: Path) -> None:
    occluders = Occluders(small_data, "eval")
    cases = list(served.served_cases(faces, "hand", occluders, lower_face_seen))
    assert len(cases) > 3
    for one in cases:
        assert one.seen.any() and not np.array_equal(one.seen, one.case.hole)
        inside = one.case.hole > 0
        assert (one.covered[inside] != one.case.face[inside]).any(axis=1).mean() > 0.5
        assert one.hole_seen == np.mean(one.seen[one.case.region > 0] > 0)
    again = list(served.served_cases(faces, "hand", occluders, lower_face_seen))
    assert all(np.array_equal(a.covered, b.covered) for a, b in zip(cases, again, strict=True))


def test_the_same_holes_are_judged_clean_and_as_served(faces: TwoOfEach, small_data: Path) -> None:
    run, occluders = Recorder(), Occluders(small_data, "eval")
    table = served.served_figures({"own": run}, faces, occluders, lower_face_seen, PixelJudge(), 3)  # type: ignore[arg-type]
    assert list(table) == list(served.THINGS)
    assert table["hand"]["own"]["cases"] == table["hand"]["own as served"]["cases"] > 0
    assert table["hand"]["own as served"]["hole_seen"] < 1
    kept = served.kept_figures(table, "own")
    assert kept["as_served_hand_psnr"] == table["hand"]["own as served"]["psnr"]
    assert kept["as_served_hand_psnr_clean"] == table["hand"]["own"]["psnr"] > kept["as_served_hand_psnr"]
    masks = {given["mask"].tobytes() for given in run.given}
    assert served.hidden_mask(lower_face_seen(faces.image(0))).tobytes() in masks


def test_the_reference_is_the_picture_with_the_nearest_pose(faces: TwoOfEach) -> None:
    rng = np.random.default_rng(0)
    assert references.nearest_pose(faces, 0, rng) == 2
    assert references.nearest_pose(faces, 5, rng) == 3
    faces.rows[4] = FaceRow("4", None, "alone", "made", faces.rows[0].landmarks, faces.rows[0].valid_quad)
    assert references.nearest_pose(faces, 4, rng) is None


def test_the_same_photograph_and_a_relit_one_are_given_as_references(faces: TwoOfEach) -> None:
    """The photographs differ in their light alone, so that a relit one is nearly the truth."""
    run = Recorder()
    table = references.reference_figures({"own": run}, faces, PixelJudge(), 4)  # type: ignore[arg-type]
    kept = references.kept_figures(table, "own")
    assert kept["mask_self_psnr"] > 90
    assert kept["mask_recalled_psnr"] == pytest.approx(kept["mask_pasted_psnr"], abs=8)
    assert kept["mask_recalled_psnr"] > kept["mask_unaided_psnr"] + 10
    case = next(iter(eval_cases(faces, EVAL_SHAPES["mask"], 1, pick=partial(references.nearest_pose, faces))))
    known = references.recalled(case)
    assert known is not None and case.reference is not None
    inside = (case.region > 0) & (known[1] > 0)
    off = [np.abs(one[inside].astype(int) - case.face[inside]).mean() for one in (known[0], case.reference)]
    assert off[0] < 2 < off[1]


@pytest.mark.parametrize(("arguments", "split"), [((), "eval"), (("--split", "dev"), "dev")])
def test_choices_can_be_made_on_the_dev_set(
    arguments: tuple[str, ...], split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def evaluated(*given: Any, **named: Any) -> EvalReport:
        asked.append(named["split"])
        return EvalReport({}, "")

    monkeypatch.setattr(cli, "load_evaluation", lambda network: evaluated)
    monkeypatch.setattr(cli, "open_runner", lambda *given: None)
    result = CliRunner().invoke(cli.app, ["eval", "restore", *arguments])
    assert result.exit_code == 0 and asked == [split]


@pytest.mark.parametrize("arguments", [("hidden", "--split", "dev"), ("restore", "--split", "train")])
def test_other_splits_and_networks_are_refused(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli.app, ["eval", *arguments]).exit_code == 2
