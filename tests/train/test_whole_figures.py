"""Figures over whole things, on toy films whose values can be worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from engines.contract import TEMPLATE, Image, similarity
from train.evaluation.films.whole_figures import MeasuredFrame, whole_figures

HEIGHT, WIDTH = 400, 500
#: Where the face is, and an arm over it that leaves at the right edge.
TO_CROP = similarity(TEMPLATE * np.float32(0.8) + np.float32([120, 90]))
ARM = (slice(200, 280), slice(160, WIDTH))


def picture(seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.0)


def frame(made: Image | None = None, arm: bool = True) -> MeasuredFrame:
    """The frame with its arm as it is, or as `made`."""
    truth, alpha = picture(), np.zeros((HEIGHT, WIDTH), np.uint8)
    if arm:
        alpha[ARM] = 255
    covered = np.where(alpha[..., None] > 0, np.uint8(230), truth)
    return MeasuredFrame(truth, covered, alpha, covered if made is None else made, TO_CROP)


def filled(columns: slice, beyond_px: int = 0, with_: int | None = None) -> Image:
    """The arm filled with the truth in `columns`; `with_` puts a level there instead, also `beyond_px` around it."""
    made, truth = frame().covered.copy(), picture()
    rows = slice(ARM[0].start - beyond_px, ARM[0].stop + beyond_px)
    made[rows, columns] = truth[rows, columns] if with_ is None else with_
    return made


def test_a_perfect_fill_leaves_nothing():
    figures = whole_figures([frame(picture())] * 3)
    assert figures["left"] == figures["halo"] == figures["cut"] == figures["touched"] == 0
    assert figures["psnr"] > 90 and figures["sharp"] == pytest.approx(1)


def test_a_film_that_was_left_alone_shows_all_of_it_and_cuts_nothing():
    figures = whole_figures([frame()])
    assert figures["left"] == 1 and figures["cut"] == 0 and figures["touched"] == 0
    assert figures["psnr"] < 10


def test_a_fill_that_stops_half_way_is_a_cut():
    half = whole_figures([frame(filled(slice(160, 330)))])
    assert half["left"] == pytest.approx(0.5) and half["cut"] == 1
    both = whole_figures([frame(filled(slice(160, 330))), frame(picture())])
    assert both["left"] == pytest.approx(0.25) and both["cut"] == 0.5


def test_another_colour_is_not_the_thing_but_costs_psnr():
    figures = whole_figures([frame(filled(ARM[1], with_=150))])
    assert figures["left"] == 0 and 9 < figures["psnr"] < 20


def test_a_rim_that_stays_is_a_halo():
    """Half of the rows around the arm are 40 levels too bright, the columns at its end are right."""
    truth = picture()
    made = truth.copy()
    rows = [*range(ARM[0].start - 3, ARM[0].start), *range(ARM[0].stop, ARM[0].stop + 3)]
    made[rows, ARM[1]] = truth[rows, ARM[1]] + 40
    figures = whole_figures([frame(made)])
    assert figures["halo"] == pytest.approx(18, abs=1) and figures["left"] == 0 and figures["psnr"] > 90


def test_a_soft_fill_is_less_sharp_than_the_truth():
    soft = whole_figures([frame(cv2.GaussianBlur(picture(), (0, 0), 2))])
    assert soft["sharp"] < 0.5


def test_changes_far_from_the_thing_are_counted():
    made = picture()
    made[:20, :17] += 1
    changed = (ARM[0].stop - ARM[0].start) * (ARM[1].stop - ARM[1].start)
    assert whole_figures([frame(made)])["touched"] == pytest.approx(340 / (changed + 340), rel=0.02)


def test_a_change_without_a_thing_is_far_and_a_frame_without_one_counts_for_nothing_else():
    made = picture()
    made[0, 0] += 1
    figures = whole_figures([frame(made, arm=False)])
    assert figures["touched"] == 1 and math.isnan(figures["left"]) and math.isnan(figures["cut"])
    assert whole_figures([frame(made, arm=False), frame(picture())])["left"] == 0
