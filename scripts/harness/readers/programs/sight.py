"""Finds the demo's picture in a screenshot, wherever and however large a program shows it, and compares pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from engines.contract import Image
from scripts.harness.readers import numbered
from scripts.harness.readers.programs.films import Films

#: Keypoints that have to agree on one place and scale.
_AGREEING = 15
#: Where restoring changed a frame by more than this, in grey levels, there was the mask.
_CHANGED = 60
#: Mean difference outside the mask that scaling, YUV and a codec may make, in grey levels.
_ALIKE = 14.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A frame of the film as found in a screenshot.

    The differences are means of absolute grey levels (0 to 255): to the restored frame outside the mask (`around`) and
    where the mask was (`restored`), and to the bare frame where the mask was (`bare`).
    """

    number: int
    scale: float
    corner: tuple[int, int]
    mirrored: bool
    around: float
    restored: float
    bare: float

    @property
    def is_restored(self) -> bool:
        return self.around <= _ALIKE and self.restored < self.bare / 2

    def told(self) -> dict[str, Any]:
        return asdict(self)


def find(shot: Image, films: Films) -> Sighting | None:
    """The frame that a screenshot (HxWx3, BGR) shows, as it is or mirrored; None if it shows none with its number."""
    for mirrored in (False, True):
        seen = shot[:, ::-1].copy() if mirrored else shot
        place = _place(seen, films.restored[0])
        if place is not None and (found := _compare(seen, place, films, mirrored=mirrored)) is not None:
            return found
    return None


def _place(shot: Image, picture: Image) -> Image | None:
    """Similarity (2x3) from the picture to the screenshot, by SIFT keypoints and RANSAC; None if too few agree."""
    sift, matcher = cv2.SIFT.create(), cv2.BFMatcher()
    (ours, of_ours), (theirs, of_theirs) = (sift.detectAndCompute(image, None) for image in (picture, shot))
    if len(ours) < _AGREEING or len(theirs) < _AGREEING:
        return None
    pairs = [pair for pair in matcher.knnMatch(of_ours, of_theirs, k=2) if len(pair) == 2]
    good = [best for best, second in pairs if best.distance < 0.75 * second.distance]
    if len(good) < _AGREEING:
        return None
    source = np.float32([ours[match.queryIdx].pt for match in good])
    target = np.float32([theirs[match.trainIdx].pt for match in good])
    place, agreeing = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=2.0)
    return place if place is not None and agreeing.sum() >= _AGREEING else None


def _compare(shot: Image, place: Image, films: Films, *, mirrored: bool) -> Sighting | None:
    height, width = films.restored[0].shape[:2]
    seen = cv2.warpAffine(shot, place, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    number = numbered.read(cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY))
    if number is None or number >= len(films.restored):
        return None
    bare, restored = films.bare[number], films.restored[number]
    mask = cv2.absdiff(bare, restored).max(axis=2) > _CHANGED
    to_restored, to_bare = (cv2.absdiff(seen, frame).mean(axis=2) for frame in (restored, bare))
    return Sighting(
        number,
        scale=round(float(np.hypot(place[0, 0], place[1, 0])), 3),
        corner=(round(place[0, 2]), round(place[1, 2])),
        mirrored=mirrored,
        around=round(float(to_restored[~mask].mean()), 1),
        restored=round(float(to_restored[mask].mean()), 1),
        bare=round(float(to_bare[mask].mean()), 1),
    )
