"""Each figure against a case computed manually, or against a third party's implementation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from engines.contract import CROP_PX, Image
from train.evaluation import metrics

EVERYWHERE = np.full((CROP_PX, CROP_PX), 255, np.uint8)


def picture(seed: int, blur: float = 0.0) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (CROP_PX, CROP_PX, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise


def test_psnr_counts_only_its_region() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    region = np.zeros((4, 4), np.uint8)
    assert np.isnan(metrics.psnr(black, grey, region))
    region[:2] = 1
    half = np.where(region[..., None] > 0, grey, 200).astype(np.uint8)
    assert metrics.psnr(half, black, region) == pytest.approx(20 * np.log10(255 / 16))


def test_ssim_is_that_of_scikit_image() -> None:
    truth = picture(1, blur=2)
    made = cv2.add(truth, picture(2) // 12)
    _, expected = structural_similarity(
        truth, made, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    found = metrics.ssim_map(made, truth)
    assert np.abs(found - expected.mean(axis=2)).max() < 1e-3
    assert metrics.ssim_map(truth, truth) == pytest.approx(np.ones_like(found), abs=1e-4)


def test_sharpness_and_energy_of_a_single_bright_pixel() -> None:
    image, region = np.zeros((9, 9, 3), np.uint8), np.full((9, 9), 255, np.uint8)
    image[4, 4] = 10  # Laplacian: -40 there, 10 at its four neighbours
    assert metrics.sharpness(image, region) == pytest.approx(80 / 81)
    assert metrics.laplacian_energy(image, region) == pytest.approx((1600 + 4 * 100) / 81)
    assert np.isnan(metrics.sharpness(image, np.zeros_like(region)))
    assert metrics.laplacian_energy(picture(1), EVERYWHERE) > 10 * metrics.laplacian_energy(picture(1, 2), EVERYWHERE)


def test_seam_is_the_step_that_the_photograph_does_not_have() -> None:
    truth, hole = np.full((CROP_PX, CROP_PX, 3), 100, np.uint8), np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[100:150, 80:120] = 255
    lighter = np.where(hole[..., None] > 0, 107, truth).astype(np.uint8)
    assert metrics.seam(lighter, truth, hole, EVERYWHERE) == pytest.approx(7)
    assert metrics.seam(truth, truth, hole, EVERYWHERE) == 0
    inside = truth.copy()
    inside[110:140, 90:110] = 0  # far from the rim
    assert metrics.seam(inside, truth, hole, EVERYWHERE) == 0
    only_left = np.zeros_like(hole)
    only_left[:, :100] = 255
    smudged = lighter.copy()
    smudged[:, 110:] = 0
    assert metrics.seam(smudged, truth, hole, only_left) == pytest.approx(7), "smeared edges count in no figure"
    assert np.isnan(metrics.seam(lighter, truth, np.zeros_like(hole), EVERYWHERE))


def test_seam_strength_asks_for_steps_as_strong_as_the_photographs() -> None:
    rng = np.random.default_rng(3)
    truth, grainy = (rng.integers(90, 111, (CROP_PX, CROP_PX, 3), dtype=np.uint8) for _ in range(2))
    hole = np.zeros((CROP_PX, CROP_PX), np.uint8)
    hole[60:190, 60:190] = 255

    def filled(inside: np.ndarray | int) -> float:
        made = np.where(hole[..., None] > 0, inside, truth).astype(np.uint8)
        return metrics.seam_strength(made, truth, hole, EVERYWHERE)

    assert filled(truth) == 0
    assert filled(grainy) < 0.6  # of no less grain, and no pixel is the same
    assert filled(100) > 1.0  # a smudge
    assert filled(grainy + 15) > 7  # an edge
    assert np.isnan(metrics.seam_strength(truth, truth, np.zeros_like(hole), EVERYWHERE))


def test_kernel_distance_by_hand() -> None:
    made, real = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    # k(0,1) = 1, k(2,3) = 343; between: k(0,2), k(0,3) = 1, k(1,2) = 27, k(1,3) = 64
    assert metrics.kernel_distance(made, real) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)
    rng = np.random.default_rng(0)
    near, far = (metrics.kernel_distance(rng.normal(0, 1, (200, 8)), rng.normal(at, 1, (200, 8))) for at in (0, 1))
    assert abs(near) < 0.2 < 1 < far
    assert np.isnan(metrics.kernel_distance(made[:1], real))


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(1)
    whitened = np.linalg.qr(rng.normal(size=(400, 3)) - 0)[0]
    whitened -= whitened.mean(axis=0)
    factors = np.linalg.cholesky(np.cov(whitened, rowvar=False))
    unit = whitened @ np.linalg.inv(factors).T  # covariance 1, mean 0
    assert metrics.frechet_distance(unit, unit) == pytest.approx(0, abs=1e-9)
    moved = unit * np.array([2.0, 1.0, 1.0]) + np.array([0.0, 3.0, 0.0])
    assert metrics.frechet_distance(moved, unit) == pytest.approx(9 + (2 - 1) ** 2)  # |shift|^2 + (s1 - s2)^2
    few = rng.normal(size=(5, 40))  # fewer pictures than features
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-9)
