"""Films with a known truth: what is put in front is what is marked, and the figures say what they should."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.data.face_set import DataError
from train.evaluation import video
from train.evaluation.films import recognised
from train.evaluation.films.recognised import named, worn_scenes
from train.evaluation.restoration.meter import RestorationMeter
from train.evaluation.video import COMES, GONE, Film, FilmScript, film_figures, make_film


@pytest.fixture(scope="module")
def film(data: Path) -> Film:
    return make_film(data, FilmScript("liveportrait_d18", 20, "hand"))


@pytest.fixture(scope="module")
def meter(data: Path) -> RestorationMeter:
    return RestorationMeter(data / "weights", 2, quick=True)


@pytest.fixture(scope="module")
def perfect(film: Film, meter: RestorationMeter) -> dict[str, float]:
    """The figures of the truth itself."""
    return film_figures(film, film.truth, meter)


def test_only_what_is_marked_is_covered(film: Film):
    assert len(film.covered) == len(film.truth) == video.FRAMES
    for number in (0, COMES - 1, COMES + 6, 60, GONE):
        changed = (film.covered[number] != film.truth[number]).any(axis=2)
        assert not (changed & (film.alpha[number] == 0)).any()
        assert not changed.any() or COMES <= number < GONE
    assert (film.covered[60] != film.truth[60]).any()


def test_the_thing_comes_in_front_of_the_face_and_goes(film: Film):
    shares = [
        video._share(video._hole(video._crop(alpha, matrix, cv2.BORDER_CONSTANT)))
        for alpha, matrix in zip(film.alpha, film.to_crop, strict=True)
    ]
    assert max(shares[:COMES] + shares[GONE:]) == 0
    assert min(shares[45:95]) > 0.1


def test_the_truth_is_judged_perfect_and_the_cover_is_not(
    film: Film, meter: RestorationMeter, perfect: dict[str, float]
):
    nothing = film_figures(film, film.covered, meter)
    assert perfect["psnr"] > 60 and perfect["identity"] > 0.999 and perfect["pd_mobilenet"] < 1e-4
    assert perfect["flicker"] == pytest.approx(1.0)
    assert perfect["onset_frames"] == perfect["end_frames"] == 0
    assert nothing["psnr"] < 25 and nothing["identity"] < 0.9 and nothing["pd_mobilenet"] > 0.1
    assert nothing["onset_frames"] > 50


def test_noise_flickers_and_a_late_reaction_is_counted(film: Film, meter: RestorationMeter, perfect: dict[str, float]):
    rng = np.random.default_rng(0)
    noisy = [np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8) for image in film.truth]
    assert film_figures(film, noisy, meter)["flicker"] > 2
    late = [film.covered[number] if number < COMES + 10 else film.truth[number] for number in range(video.FRAMES)]
    assert 3 <= film_figures(film, late, meter)["onset_frames"] - perfect["onset_frames"] <= 10


def test_a_clip_that_is_missing_or_too_short_is_named(data: Path):
    with pytest.raises(DataError, match="no_such_clip"):
        make_film(data, FilmScript("no_such_clip", 0, "hand"))
    with pytest.raises(DataError, match="has no 130 frames"):
        make_film(data, FilmScript("liveportrait_d18", 200, "hand"))


def test_the_product_itself_is_asked_and_its_error_is_told(film: Film, data: Path):
    short = Film(*(getattr(film, field.name)[:3] for field in dataclasses.fields(Film)))
    scene = FilmScript("liveportrait_d18", 20, "hand")
    made = video.run_product(short, {"OCCLUFIX_MEMORY": "false"}, data, scene)
    assert [picture.shape for picture in made] == [picture.shape for picture in short.truth]
    assert all(np.array_equal(a, b) for a, b in zip(made, short.covered, strict=True))  # nothing is hidden yet
    with pytest.raises(DataError, match=r"process` failed: .*restorer"):
        video.run_product(short, {"OCCLUFIX_RESTORER": "wizardry"}, data, scene)


def test_who_enrolled_is_known_in_a_mask_and_another_one_is_not(data: Path):
    scene, other = list(worn_scenes(data))[1:3]
    assert named(data, scene, scene) == ["somebody"]
    assert named(data, scene, other) == []


def test_who_cannot_enrol_counts_apart(data: Path, monkeypatch: pytest.MonkeyPatch):
    answers = iter([["somebody"], [], None, ["somebody"], [], []])
    monkeypatch.setattr(recognised, "named", lambda *scenes: next(answers))
    found = recognised.evaluate_recognition(data, 3).figures
    assert found["recognition_people"] == 3 and found["recognition_enrolled"] == 2
    assert found["recognition_within_a_second"] == 0.5 and found["recognition_strangers"] == 1
