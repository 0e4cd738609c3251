"""Figures of merit: on uint8 BGR pictures, always inside a region; and distances between sets of features.

A region is a mask, 0 where nothing counts. Where nothing at all counts, a figure is NaN.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import Image

Floats = NDArray[np.float64]

#: Peak value, and the two constants of SSIM.
_PEAK = 255.0
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def psnr(made: Image, truth: Image, region: Image) -> float:
    """Peak signal-to-noise ratio in dB."""
    inside = region > 0
    if not inside.any():
        return float("nan")
    error = (made[inside].astype(np.float32) - truth[inside].astype(np.float32)) ** 2
    return float(10 * np.log10(_PEAK**2 / max(float(error.mean()), 1e-6)))


def ssim_map(made: Image, truth: Image) -> NDArray[np.float32]:
    """Structural similarity at each pixel, HxW, mean over the channels: 11x11 Gaussian window of sigma 1.5.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    a, b = made.astype(np.float32), truth.astype(np.float32)
    mean_a, mean_b = _windowed(a), _windowed(b)
    both = mean_a * mean_b
    squares_a, squares_b = mean_a * mean_a, mean_b * mean_b
    variances = _windowed(a * a) - squares_a + _windowed(b * b) - squares_b
    covariance = _windowed(a * b) - both
    similar = (2 * both + _C1) * (2 * covariance + _C2) / ((squares_a + squares_b + _C1) * (variances + _C2))
    return similar.mean(axis=2)


def mean_inside(values: NDArray[np.float32], region: Image) -> float:
    """Mean of a map over a region."""
    inside = region > 0
    return float(values[inside].mean()) if inside.any() else float("nan")


def seam(made: Image, truth: Image, hole: Image, valid: Image) -> float:
    """How much the step across the hole's rim differs from the photograph's own there, in uint8 steps.

    The step is the mean absolute difference, over the channels, of two neighbouring pixels of which one is in the hole;
    the figure is the mean of the absolute differences of that step, over all such pairs where the photograph is real.
    """
    made_steps, truth_steps = _steps_across(made, hole, valid), _steps_across(truth, hole, valid)
    return float(np.abs(made_steps - truth_steps).mean()) if made_steps.size else float("nan")


def seam_strength(made: Image, truth: Image, hole: Image, valid: Image) -> float:
    """How much the mean step across the hole's rim differs from the photograph's own mean step there, in uint8 steps.

    A rim that can be seen has steps that are too high, a smudged one too low. Unlike `seam` it does not ask for the
    grain of just this photograph, which nothing can know.
    """
    made_steps, truth_steps = _steps_across(made, hole, valid), _steps_across(truth, hole, valid)
    return abs(float(made_steps.mean() - truth_steps.mean())) if made_steps.size else float("nan")


def _steps_across(image: Image, hole: Image, valid: Image) -> Floats:
    """Absolute differences of neighbours of which one is in the hole, mean over the channels; real pixels only."""
    steps = []
    for axis in (0, 1):
        rim = (np.diff((hole > 0).astype(np.int8), axis=axis) != 0) & (_both(valid > 0, axis))
        steps.append(np.abs(np.diff(image.astype(np.int16), axis=axis)).mean(axis=2)[rim])
    return np.concatenate(steps)


def sharpness(image: Image, region: Image) -> float:
    """Mean absolute Laplacian of the luma: low means blurred."""
    return mean_inside(np.abs(_laplacian(image)), region)


def laplacian_energy(image: Image, region: Image) -> float:
    """Mean square Laplacian of the luma: low means blurred, and coarse edges count more than in `sharpness`."""
    return mean_inside(_laplacian(image) ** 2, region)


def kernel_distance(made: Floats, real: Floats) -> float:
    """KID: unbiased squared maximum mean discrepancy of two sets of features (n x d), kernel (x.y/d + 1)^3.

    Source: M. Binkowski et al., "Demystifying MMD GANs", 2018. May be a little below 0 for equal distributions.
    """
    if min(len(made), len(real)) < 2:
        return float("nan")

    def kernel(a: Floats, b: Floats) -> Floats:
        return (a @ b.T / a.shape[1] + 1) ** 3

    own = 0.0
    for features in (made, real):
        products = kernel(features, features)
        own += float((products.sum() - np.trace(products)) / (len(features) * (len(features) - 1)))
    return own - 2 * float(kernel(made, real).mean())


def frechet_distance(made: Floats, real: Floats) -> float:
    """FID: squared Frechet distance of the Gaussians with the mean and covariance of two sets of features (n x d).

    Source: M. Heusel et al., "GANs trained by a two time-scale update rule", 2017. The trace of the root of the two
    covariances' product is the nuclear norm of the product of their factors, exact also where n is less than d.
    """
    if min(len(made), len(real)) < 2:
        return float("nan")
    a, b = ((features - features.mean(axis=0)) / np.sqrt(len(features) - 1) for features in (made, real))
    shift = made.mean(axis=0) - real.mean(axis=0)
    shared = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return float(shift @ shift) + float((a * a).sum() + (b * b).sum()) - 2 * shared


def _windowed(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


def _both(flags: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Where a flag and the next one along `axis` are both set."""
    return flags[1:] & flags[:-1] if axis == 0 else flags[:, 1:] & flags[:, :-1]


def _laplacian(image: Image) -> NDArray[np.float32]:
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)
