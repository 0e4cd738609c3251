"""What the restorer is served: a face behind something real, and a mask as the segmenter gives it.

In the product the surroundings of a hole are not clean: the thing's rim, its shadow, an arm that is left in the picture
lie beside a mask that is nearly right. A sample shows just that, and the same face, in the same light, before the same
camera, without the thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, HIDDEN, Image, Points
from train.data.product_mask import (
    FACE_REACH,
    GROWTH_PX,
    LEAST_COVERAGE,
    covered_share,
    disc,
    face_area,
    grown,
    without_specks,
)
from train.data.shipped_segmenter import ShippedSegmenter
from train.occlusion.camera import CameraSetting
from train.occlusion.compositing import FaceGeometry, Layer, composite
from train.occlusion.masks import much, random_mask
from train.occlusion.occluders import OCCLUDERS, random_names
from train.occlusion.photo_cutouts import Cutouts

#: How many samples show the thing itself; the others are holes of any shape in clean faces, as of a mask that is given.
SERVED_SHARE = 0.75
#: How many of those have the shipped segmenter's own answer, which costs as much as all the rest of a sample.
SEGMENTED_SHARE = 0.2
#: How often a hand, or a thing that hands hold, is a photograph of both, where there are any.
REAL_HAND_CHANCE, REAL_HELD_CHANCE = 0.85, 0.6
HELD = ("cup", "phone")

#: The segmenter's errors, as measured on 259 composites: its outline is off by 1.0 px from mask to mask and waves by
#: 1.5 px along it; in 35 % of the masks something lies more than 6 px outside of it (half of them 140 px or more in
#: all, a tenth 1,100), in 20 % as much is too much. The growth varies more than that, for other segmenters. Over 159
#: composites both then leave 3.8 % of a thing out of the hole (a tenth of the masks 8.5 and 8.9 % or more), and hide 29
#: and 30 % of its area too much.
OFF_PX, WAVES_PX, MOST_GROWTH_PX = 1.8, 1.5, 8.0
BITES_CHANCE, EXTRA_CHANCE, MISSED_THIN_CHANCE = 0.45, 0.2, 0.1
#: Typical radius of a bite, and the spread of its logarithm.
BITE_PX, BITE_SPREAD = 11.0, 0.7
SHIFT_PX = 0.7

#: What differs by more levels than this from the clean face shows the thing, its shadow, or what JPEG smeared of it.
VISIBLE_LEVELS = 4


@dataclass(frozen=True, slots=True)
class ServedView:
    """A face as the restorer is served it, and as it is; 256x256 uint8.

    `hole` is 255 where the restorer is to paint, `clean` where `shown` shows the face itself. What lies outside of both
    shows the thing: the network sees it, and no loss may ask for it.
    """

    shown: Image
    truth: Image
    hole: Image
    clean: Image


class ServedViews:
    """Covers faces with the things of the split `train`; the same generator state gives the same view.

    Without occluders in the data folder, every view is a hole in a clean face. In the share `much_hidden` of them the
    hole leaves little of a clean face.
    """

    def __init__(self, data: Path, much_hidden: float = 0.0) -> None:
        self._much_hidden = much_hidden
        self._cutouts = Cutouts(data, "train") if (data / "occluders" / "train").is_dir() else None
        self.segmenter = ShippedSegmenter()

    def draw(self, face: Image, landmarks: Points, rng: np.random.Generator) -> ServedView:
        """`face` covered, or with a hole; where too little of it would be hidden to be restored, with a hole too."""
        camera = CameraSetting(rng)
        truth = camera(face)
        if self._much_hidden and rng.random() < self._much_hidden:
            return _clean_view(truth, much(landmarks, rng))
        if self._cutouts is not None and rng.random() < SERVED_SHARE:
            covered, mask = self._covered(self._cutouts, face, landmarks, rng)
            shown = camera(covered)
            segmented = rng.random() < SEGMENTED_SHARE
            seen = self.segmenter.mask(shown) if segmented else mistaken(mask, rng)
            seen = without_specks(seen) & face_area(FACE_REACH)
            if covered_share(seen) >= LEAST_COVERAGE:
                hole = grown(seen) if segmented else unevenly_grown(seen, rng)
                return ServedView(shown, truth, hole, alike(shown, truth))
        return _clean_view(truth, random_mask(landmarks, rng))

    def _covered(
        self, cutouts: Cutouts, face: Image, landmarks: Points, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        """The face with one or two things before it, and the mask of what they hide."""
        scene, mask = FaceGeometry(CROP_PX, landmarks, face), np.zeros((CROP_PX, CROP_PX), np.uint8)
        for layer in self._things(cutouts, scene, rng):
            face = composite(face, layer, scene, rng, mask)
        return face, mask

    def _things(self, cutouts: Cutouts, scene: FaceGeometry, rng: np.random.Generator) -> Iterator[Layer]:
        for name in random_names(rng):
            if name not in OCCLUDERS:  # what is worn is the face's own
                continue
            hands = cutouts.photographed
            real = rng.random() if hands else 1.0
            if hands and name == "hand" and real < REAL_HAND_CHANCE:
                yield from hands.hand(scene, rng)
            elif hands and name in HELD and real < REAL_HELD_CHANCE:
                yield from hands.holding(scene, rng)
            else:
                yield from OCCLUDERS[name][0](cutouts, scene, rng)


def _clean_view(face: Image, hole: Image) -> ServedView:
    return ServedView(face, face, hole, np.full_like(face[..., 0], 255))


def mistaken(mask: Image, rng: np.random.Generator) -> Image:
    """A mask with a segmenter's mistakes: shifted, thin parts missed, bites out of it, something taken for hidden."""
    shift = np.float32([[1, 0, rng.normal(0, SHIFT_PX)], [0, 1, rng.normal(0, SHIFT_PX)]])
    mask = cv2.warpAffine(mask, shift, (CROP_PX, CROP_PX), flags=cv2.INTER_NEAREST)
    if rng.random() < MISSED_THIN_CHANCE:
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc(int(rng.integers(3, 8))))
    for chance, value in ((BITES_CHANCE, 0), (EXTRA_CHANCE, HIDDEN)):
        if rng.random() < chance:
            _blotch(mask, value, rng)
    return mask


def _blotch(mask: Image, value: int, rng: np.random.Generator) -> None:
    """Sets, in place, one or two or three spots on the outline of a mask."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return
    outline = np.concatenate(outlines)[:, 0]
    for _ in range(int(rng.integers(1, 4))):
        centre = outline[rng.integers(len(outline))] + rng.normal(0, 3, 2)
        long = float(np.clip(BITE_PX * np.exp(rng.normal(0, BITE_SPREAD)), 3, 45))
        box = tuple(map(float, centre)), (2 * long, 2 * long * rng.uniform(0.4, 1.0)), rng.uniform(0, 180)
        cv2.ellipse(mask, box, value, -1)


def unevenly_grown(mask: Image, rng: np.random.Generator) -> Image:
    """A mask grown as the product does it, from an outline that is a little off and waves."""
    mean_px = rng.normal(GROWTH_PX, OFF_PX)
    waves = rng.normal(mean_px, WAVES_PX, (16, 16)).astype(np.float32)
    growth = cv2.resize(waves, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC)
    growth = cv2.min(cv2.max(growth, 0.0), MOST_GROWTH_PX)
    away = cv2.distanceTransform(cv2.bitwise_not(mask), cv2.DIST_L2, 3)
    return cv2.compare(away, growth, cv2.CMP_LE)


def alike(shown: Image, truth: Image) -> Image:
    """255 where two pictures show the same, a pixel or more away from where they do not."""
    same = cv2.inRange(cv2.absdiff(shown, truth), (0, 0, 0), (VISIBLE_LEVELS,) * 3)
    return cv2.erode(same, np.ones((3, 3), np.uint8))
