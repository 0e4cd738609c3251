"""Figures over the whole of a thing that hides a face, in the frame's own pixels.

Only frames in which the thing hides some of the face count: beside a face it is to be left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from engines.contract import CROP_PX, Affine, Image
from train.data.product_mask import face_area
from train.evaluation.metrics import psnr, sharpness

#: From these weights on a pixel belongs to the thing, and is touched by its soft edge.
SOLID, TOUCHED = 128, 8
#: A thing is seen where it differs by this much from the truth; it is left where less than half of that is changed.
SEEN = 24
#: Width of the rim around the thing, and how far from it nothing is to change, in frame pixels.
RIM_PX, FAR_PX = 6, 8
#: Between these shares left, a thing is cut.
CUT = (0.08, 0.92)
#: A thing hides a face from this share of the face's area on.
HIDES = 0.04
#: Sharpness is measured this far inside the thing, in frame pixels: its outline is no detail of the face.
_INSIDE_PX = 5


@dataclass(frozen=True, eq=False)
class MeasuredFrame:
    """One frame: the truth, the truth with the thing in front, its weights (0..255), and what was made of it.

    `to_crop` takes frame pixels to the face template.
    """

    truth: Image
    covered: Image
    alpha: Image
    made: Image
    to_crop: Affine


def whole_figures(frames: Iterable[MeasuredFrame]) -> dict[str, float]:
    """Means over the frames in which the thing hides the face; NaN where there is none. `touched` is of all frames.

    `left` is the share of the thing that still shows, where it can be told from the truth; `psnr` (dB) over the whole
    thing; `halo` the mean error in its rim, in grey levels; `sharp` the Laplacian inside the face against the truth's;
    `cut` the share of frames in which some of the thing is left and some is not; `touched` the share of changed pixels
    that are far from it.
    """
    rows: list[dict[str, float]] = []
    changed = far = 0
    for frame in frames:
        differs = cv2.absdiff(frame.made, frame.covered).max(axis=2) > 0
        changed += int(differs.sum())
        far += int((differs & (_grown(_from(frame.alpha, TOUCHED), FAR_PX) == 0)).sum())
        if _hidden_share(frame) >= HIDES:
            rows.append(_of_frame(frame))
    names = ("left", "psnr", "halo", "sharp")
    means = {name: float(np.mean([row[name] for row in rows])) if rows else float("nan") for name in names}
    lefts = np.array([row["left"] for row in rows])
    means["cut"] = float(((lefts > CUT[0]) & (lefts < CUT[1])).mean()) if rows else float("nan")
    return means | {"touched": far / changed if changed else 0.0}


def _of_frame(frame: MeasuredFrame) -> dict[str, float]:
    thing = _from(frame.alpha, SOLID)
    rim = cv2.subtract(_grown(thing, RIM_PX), thing) > 0
    seen = (cv2.absdiff(frame.covered, frame.truth).max(axis=2) >= SEEN) & (thing > 0)
    kept = cv2.absdiff(frame.made, frame.covered).max(axis=2) < SEEN / 2
    inside = cv2.bitwise_and(cv2.erode(thing, _disc(_INSIDE_PX)), _face(frame))
    return {
        "left": float((kept & seen).sum() / max(seen.sum(), 1)),
        "psnr": psnr(frame.made, frame.truth, thing),
        "halo": float(cv2.absdiff(frame.made, frame.truth)[rim].mean()) if rim.any() else 0.0,
        "sharp": sharpness(frame.made, inside) / max(sharpness(frame.truth, inside), 1e-3),
    }


def _hidden_share(frame: MeasuredFrame) -> float:
    alpha = cv2.warpAffine(frame.alpha, frame.to_crop, (CROP_PX, CROP_PX))
    hidden = cv2.bitwise_and(_from(alpha, SOLID), face_area())
    return cv2.countNonZero(hidden) / cv2.countNonZero(face_area())


def _face(frame: MeasuredFrame) -> Image:
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(face_area(), frame.to_crop, frame.alpha.shape[::-1], flags=flags), np.uint8)


def _from(alpha: Image, least: int) -> Image:
    """255 where the weight is at least `least`."""
    return np.asarray(cv2.compare(alpha, least, cv2.CMP_GE), np.uint8)


def _grown(thing: Image, reach_px: int) -> Image:
    return np.asarray(cv2.dilate(thing, _disc(reach_px)), np.uint8)


def _disc(reach_px: int) -> Image:
    side = 2 * reach_px + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
