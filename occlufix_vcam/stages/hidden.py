"""Segments what hides the face: the `hidden` network, smoothed over time, or a mask from the user."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from engines.base import InferenceEngine, Tensor
from engines.contract import CROP_PX, HIDDEN, Image
from occlufix_vcam.core.frame import Crop, HiddenCrop
from occlufix_vcam.stages.geometry import face_area, face_share, warp_mask
from occlufix_vcam.stages.pose import covers_face, turn_of

#: Share of the way to the newest probability in one frame: a hand appears at once and disappears over four frames.
ATTACK, RELEASE = 0.7, 0.3
#: A smaller spot, in crop pixels, is noise of the network and no occluder.
SPECK_PX = 80
#: The mask grows by this much, so that neither the occluder's rim nor the shadow beside it remains.
GROWTH_PX = 6
#: Occluders farther from the face, as a share of its area's axes, stay in the image: an arm, the foot of a cup.
FACE_REACH = 1.4
#: A face that counts as hidden is released at this share of `min_coverage`.
LET_GO = 0.5


class HiddenSegmenter:
    """Runs the network and smooths each track over time, so that no pixel and no face flickers on or off.

    A pixel becomes hidden at probability `on` and known again below `off`. A face whose hidden share stays below
    `min_coverage` gets an empty mask, so that it passes untouched. Used by one thread.
    """

    margin_px = GROWTH_PX

    def __init__(
        self, engine: InferenceEngine, *, on: float = 0.5, off: float = 0.35, min_coverage: float = 0.02
    ) -> None:
        self._engine = engine
        self._on = round(on * 255)
        self._off = round(off * 255)
        self._min_coverage = min_coverage
        self._tracks: dict[int, MaskSmoother] = {}
        reach = 2 * GROWTH_PX + 1
        self._growth = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))

    def __call__(self, crop: Crop) -> HiddenCrop:
        probability = self._engine.run({"face": crop.image[None]})["hidden"].reshape(CROP_PX, CROP_PX)
        track = self._tracks.setdefault(crop.face.track_id, MaskSmoother())
        least = self._min_coverage * (LET_GO if track.covered else 1.0)
        if not covers_face(
            np.greater_equal(probability, self._off).astype(np.uint8), turn_of(crop.face.landmarks), least
        ):
            probability = np.zeros_like(probability)  # it only marks the background beside the far cheek
        seen = track.update(probability, self._on, self._off)
        coverage = face_share(seen)
        track.covered = coverage >= least
        mask = np.zeros((CROP_PX, CROP_PX), np.uint8)
        if not track.covered:
            return HiddenCrop(crop, mask, 0.0)
        cv2.dilate(cv2.bitwise_and(seen, face_area(FACE_REACH)), self._growth, dst=mask)
        return HiddenCrop(crop, mask, coverage)

    def forget(self, track_ids: Iterable[int]) -> None:
        """Forgets lost tracks; unknown ones are ignored."""
        for track_id in track_ids:
            self._tracks.pop(track_id, None)


class GivenMask:
    """Mask in frame pixels (height x width uint8, white = hidden) for every frame and face."""

    margin_px = 0

    def __init__(self, mask: Image) -> None:
        self._mask = mask

    def __call__(self, crop: Crop) -> HiddenCrop:
        mask = warp_mask(self._mask, crop.to_crop, least=128)
        return HiddenCrop(crop, mask, face_share(mask))

    def forget(self, track_ids: Iterable[int]) -> None:
        """Does nothing: no track is remembered."""


class MaskSmoother:
    """Smoothed probability of one face and its mask, both 256x256 uint8 in the template."""

    def __init__(self) -> None:
        self.covered = False
        self._probability: Image | None = None
        self._mask: Image = np.zeros((CROP_PX, CROP_PX), np.uint8)
        self._risen: Image = np.empty_like(self._mask)

    def update(self, probability: Tensor, on: int, off: int) -> Image:
        """Mask after one more frame, valid until the next update; thresholds 0..255."""
        newest = probability.astype(np.uint8, copy=False)
        if self._probability is None:
            self._probability = newest.copy()
        else:
            # The higher of the two mixtures is the fast one where the probability rose, and the slow one where it fell.
            cv2.addWeighted(newest, ATTACK, self._probability, 1 - ATTACK, 0, dst=self._risen)
            cv2.addWeighted(newest, RELEASE, self._probability, 1 - RELEASE, 0, dst=self._probability)
            cv2.max(self._risen, self._probability, dst=self._probability)
        hidden = (self._probability >= on) | ((self._probability >= off) & (self._mask != 0))
        np.multiply(hidden, HIDDEN, out=self._mask, casting="unsafe")
        remove_specks(self._mask)
        return self._mask


def remove_specks(mask: Image) -> None:
    """Clears, in place, hidden spots smaller than SPECK_PX."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    specks = [outline for outline in outlines if cv2.contourArea(outline) < SPECK_PX]
    if specks:
        cv2.drawContours(mask, specks, -1, 0, cv2.FILLED)
