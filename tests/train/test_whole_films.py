"""Films of things that reach beyond the template: what is marked is what was put there, and all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.data.face_set import DataError
from train.evaluation.films.lossless import frames_of
from train.evaluation.films.things import ArmScript
from train.evaluation.films.whole import QUICK, SCRIPTS, WholeFilm, make_film
from train.evaluation.films.whole_figures import whole_figures

FRAMES = 20


@pytest.fixture(scope="module", params=QUICK, ids=lambda script: script.name)
def film(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> WholeFilm:
    return make_film(data, replace(request.param, frames=FRAMES), tmp_path_factory.mktemp("film"))


def test_only_what_is_marked_is_covered_and_it_reaches_beyond_the_template(film: WholeFilm):
    truth, covered, alpha = (list(frames_of(path)) for path in (film.truth, film.covered, film.alpha))
    assert len(truth) == len(covered) == len(alpha) == FRAMES and min(truth[0].shape[:2]) == 480
    for a, b, marked in zip(truth, covered, alpha, strict=True):
        assert not ((a != b).any(axis=2) & (marked[..., 0] == 0)).any()
    assert (alpha[FRAMES // 2] > 127).mean() > 0.01


def test_the_covered_film_shows_all_of_the_thing_and_the_truth_nothing(film: WholeFilm):
    nothing, perfect = whole_figures(film.measured(film.covered)), whole_figures(film.measured(film.truth))
    assert nothing["left"] == 1 and nothing["cut"] == 0
    assert perfect["left"] < 0.01 and perfect["halo"] == 0


def test_an_arm_leaves_at_the_edge_and_comes_after_the_face_was_seen(data: Path, tmp_path: Path):
    film = make_film(data, replace(QUICK[0], frames=FRAMES), tmp_path)
    alpha = [picture[..., 0] for picture in frames_of(film.alpha)]
    assert not alpha[0].any() and not alpha[FRAMES // 4].any() and not alpha[-1].any()
    edges = [np.concatenate([one[0], one[-1], one[:, 0], one[:, -1]]) for one in alpha[FRAMES // 2 : FRAMES // 2 + 4]]
    assert all(edge.max() > 200 for edge in edges)


def test_choices_and_the_end_have_other_people_and_other_things():
    dev, end = SCRIPTS["dev"], SCRIPTS["eval"]
    assert not {one.clip for one in dev} & {one.clip for one in end}
    assert not {one.thing for one in dev} & {one.thing for one in end}
    assert {one.lines for one in dev} == {one.lines for one in end} == {480, 720, 1080}
    assert [sum(isinstance(one.thing, ArmScript) for one in scripts) for scripts in (dev, end)] == [5, 5]


def test_a_hand_or_clip_that_is_missing_is_named(data: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no_such_clip"):
        make_film(data, replace(QUICK[0], clip="no_such_clip"), tmp_path)
    with pytest.raises(DataError, match="no hand no_such_hand"):
        make_film(data, replace(QUICK[0], thing=ArmScript("no_such_hand", (0, 1), 0), frames=2), tmp_path)
