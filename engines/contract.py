"""Contract between training and product: sizes, colour order, mask sign and face template.

Everything that training and inference must share is defined here and nowhere else. Images are BGR uint8, height x width
x 3; a mask is 255 where the face is hidden.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Points: TypeAlias = NDArray[np.float32]
Affine: TypeAlias = NDArray[np.float32]

CROP_PX = 256
HIDDEN = 255

#: Side of the wide field: the template's scale with hair, neck, shoulders and background around it.
WIDE_PX = 416
#: Template's first pixel in the wide field: x, y. Crop pixel p is wide pixel p + WIDE_OFFSET.
WIDE_OFFSET = (80, 56)
#: Template in an array of the wide field: rows, columns.
TEMPLATE_PART = np.s_[WIDE_OFFSET[1] : WIDE_OFFSET[1] + CROP_PX, WIDE_OFFSET[0] : WIDE_OFFSET[0] + CROP_PX]

#: Eye, eye, nose tip, mouth corner, mouth corner (left to right in the image), in crop pixels.
TEMPLATE: Points = np.array(
    [[89.6, 104.96], [166.4, 104.96], [128.2, 148.7], [96.2, 193.5], [160.0, 193.5]], dtype=np.float32
)
EYE_DISTANCE_PX = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])

#: Input of the `faces` network: the letterboxed frame (height, width), and one face in close-up.
SEARCH_SIZE = (192, 320)
CLOSE_UP_SIZE = (160, 160)

MODEL_NAMES = ("restore", "hidden", "faces", "embed")


def similarity(source: Points, target: Points = TEMPLATE, weights: NDArray[np.floating] | None = None) -> Affine:
    """The 2x3 similarity (scale, rotation, shift, no reflection) that takes `source` nearest to `target`.

    Least squares over n >= 2 points, both nx2, each counted by its weight. Source: S. Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", 1991. Raises ValueError where all source
    points are one point.
    """
    shares = np.full((len(source), 1), 1 / len(source)) if weights is None else (weights / weights.sum())[:, None]
    source_mean, target_mean = (source * shares).sum(axis=0), (target * shares).sum(axis=0)
    a, b = source - source_mean, target - target_mean
    weighted = a * shares
    spread = float((weighted * a).sum())
    if not np.isfinite(spread) or spread < 1e-6:
        raise ValueError("points coincide or are not finite: no similarity fits them")
    cosine = float((weighted * b).sum()) / spread
    sine = float((weighted[:, 0] * b[:, 1] - weighted[:, 1] * b[:, 0]).sum()) / spread
    rotation = np.array([[cosine, -sine], [sine, cosine]], dtype=np.float64)
    shift = target_mean - rotation @ source_mean
    return np.hstack([rotation, shift[:, None]]).astype(np.float32)


def transform_points(points: Points, matrix: Affine) -> Points:
    """Transforms `points` (nx2) by a 2x3 matrix."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
