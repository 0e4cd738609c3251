"""Sharpness and grain of restored parts: those of the visible face around them, measured in the frame's own pixels.

A restored face has passed through the template's 256 pixels, and the network paints smoother than a camera sees. What
the frame shows of the face is compared, octave by octave, with the same pixels after they passed through the template:
edges are strengthened as far as they lost, and grain replaces what no edge explains. A soft camera stays soft.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.contract import CROP_PX, HIDDEN, Affine, Image
from occlufix_vcam.core.frame import Box, FineDetail, Patch
from occlufix_vcam.stages.geometry import TEMPLATE_CORNERS, box_in_frame, compose, face_area, scale_of, translation

Plane = NDArray[np.float32]

#: Sides of the binomial filters between the octaves: details of 1, 2, 3 and 5 frame pixels.
FILTERS = (3, 3, 5, 9)
#: Crop pixels in a frame pixel below which a linear interpolation is visibly soft.
CUBIC_BELOW = 0.9
#: How much of the coarsest octave's amplitude the shapes of a face have in each: the rest is grain. In the coarsest,
#: which is all shapes, none is added. Measured on pictures that have no grain.
OF_FEATURES = (0.5, 0.33, 0.55, 1.0)
#: Side of the cells, in frame pixels, whose energy is compared, and which share of them counts as calm: there it is
#: grain, not edges. Grain is missing only where typical cells of the painted part have less than calm ones of the skin.
CELL_PX, CALM, TYPICAL = 10, 0.2, 0.3
#: Fewest cells of skin from which grain is measured, and how far their colour may be from the skin's, relatively.
FEWEST_CELLS, MOST_OFF_TONE = 12, 0.35
#: Edges are strengthened at most by this factor; grain has at most this many grey levels in an octave.
MOST_GAIN, MOST_GRAIN = 2.5, 7.0
#: A smaller change is not worth its time.
LEAST_GAIN, LEAST_GRAIN = 0.03, 0.25
#: A face is measured in about this many pixels of the frame, in a strip around this column of the crop.
MEASURED_PIXELS, STRIP_AT = 40_000, 92
#: Side of the sample of noise that is weighed, in frame pixels; rounds of weighing.
SAMPLE_PX, _ROUNDS = 96, 12
#: Remembered detail is finer than this, in crop pixels.
FINE_PX = 1.5
#: Share of the grain that remembered detail brings along; interpolation costs the rest.
REMEMBERED_GRAIN = 0.45
#: Seconds between two measurements of a face, and the share of the newest one.
MEASURE_EVERY_S, NEWEST = 0.5, 0.4
#: Grain textures: pixels in a crop pixel.
TEXTURES = (0.5, 1.0, 2.0, 4.0)
_TO_BOX = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(slots=True)
class _Measured:
    """Gain of edges and weight of the noise, by octave, and when they were measured."""

    gain: Plane
    grain: Plane
    at: float


class Detail:
    """Gives restored parts the sharpness and grain of the face around them. Used by one thread."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Measured] = {}

    def __call__(self, frame: Image, patch: Patch, restored: Image, box: Box, at: float) -> None:
        """Sharpens `restored`, in place: what `box` of the `frame` shows instead of the thing."""
        found = self._measured(frame, patch, at)
        if found is None and patch.fine is None:
            return
        to_crop = compose(patch.crop.to_crop, translation(box[0], box[1]))
        change, grain = np.zeros((2, *restored.shape[:2]), np.float32)
        if found is not None and (found.gain > 1 + LEAST_GAIN).any():
            _add_octaves(change, _grey(restored), found.gain - 1)
        if found is not None and found.grain.any():
            _add_octaves(grain, _noise(to_crop, box), found.grain)
        if patch.fine is not None:
            _show_remembered(patch.fine, change, grain, restored, to_crop, box)
        change += grain
        cv2.add(restored, cv2.merge([change, change, change]), dst=restored, dtype=cv2.CV_8U)

    def forget(self, track_ids: Iterable[int]) -> None:
        """Forgets lost tracks; unknown ones are ignored."""
        for track_id in track_ids:
            self._tracks.pop(track_id, None)

    def _measured(self, frame: Image, patch: Patch, at: float) -> _Measured | None:
        """Gain and grain of this face; None if too little of it is visible."""
        track_id = patch.crop.face.track_id
        last = self._tracks.get(track_id)
        if last is not None and 0 <= at - last.at < MEASURE_EVERY_S:
            return last
        newest = measure(frame, patch)
        if newest is None:
            return last
        gain, grain = newest
        if last is not None:
            gain, grain = (old + NEWEST * (new - old) for old, new in ((last.gain, gain), (last.grain, grain)))
        self._tracks[track_id] = _Measured(gain, grain, at)
        return self._tracks[track_id]


def _add_octaves(change: Plane, luma: Plane, weights: Plane) -> None:
    """Adds to `change`, in place, the octaves of `luma` by their weights."""
    for weight, octave in zip(weights, _octaves(luma), strict=True):
        cv2.scaleAdd(octave, float(weight), change, dst=change)


def _show_remembered(fine: FineDetail, change: Plane, grain: Plane, restored: Image, to_crop: Affine, box: Box) -> None:
    """Puts remembered detail in place of the restored: into the `change` of luma; it needs less `grain`."""
    luma = warped(fine.luma, compose(fine.matrix, to_crop), box).astype(np.float32) - _grey(restored)
    side = 2 * round(FINE_PX / scale_of(to_crop)) + 1
    remembered = luma - np.asarray(cv2.GaussianBlur(luma, (side, side), 0), np.float32)
    weight = np.float32(1) if fine.weight is None else warped(fine.weight, to_crop, box) * np.float32(1 / HIDDEN)
    change += (remembered - change) * weight
    grain *= 1 - REMEMBERED_GRAIN * weight


def measure(frame: Image, patch: Patch) -> tuple[Plane, Plane] | None:
    """Gain of edges, and weight of the noise, that restored parts of this face need, by octave.

    None if too little of the face is visible.
    """
    x, y, width, height = box = _strip(frame, patch)
    if width < 1 or height < 1:
        return None
    to_crop = compose(patch.crop.to_crop, translation(x, y))
    seen, painted = frame[y : y + height, x : x + width], warped(patch.image, to_crop, box)
    passed = warped(np.asarray(cv2.cvtColor(patch.crop.image, cv2.COLOR_BGR2GRAY), np.uint8), to_crop, box)
    hole, face = (cv2.warpAffine(each, to_crop, box[2:], flags=_TO_BOX) for each in (patch.mask, face_area()))
    visible, inside = _where((face > 127) & (hole == 0)), _where((face > 127) & (hole == 255))
    tone = np.array(cv2.mean(painted, inside)[:3], np.float32)
    skin, of_painted = _skin_cells(seen, visible, tone), _skin_cells(painted, inside, tone)
    if min(np.count_nonzero(skin), np.count_nonzero(of_painted)) < FEWEST_CELLS:
        return None
    greys = _grey(seen), passed.astype(np.float32), _grey(painted)
    ours, passed_on, made = (_octaves(grey) for grey in greys)
    gain = []
    for octave, through in zip(ours, passed_on, strict=True):
        shown = cv2.copyTo(through, visible)
        steeper = float(np.vdot(octave, shown)) / max(float(np.vdot(shown, shown)), 1e-3)
        gain.append(min(max(steeper, 1.0), MOST_GAIN))
    features = _energy(ours[-1], skin, CALM)
    missing = [
        max(_energy(octave, skin, CALM) - share**2 * features, 0) - steeper**2 * _energy(there, of_painted, TYPICAL)
        for octave, there, steeper, share in zip(ours, made, gain, OF_FEATURES, strict=True)
    ]
    energy = np.clip(np.array(missing, np.float32), 0, MOST_GRAIN**2)
    if (energy < LEAST_GRAIN**2).all():
        return np.array(gain, np.float32), np.zeros_like(energy)
    return np.array(gain, np.float32), weights_for(energy, _noise(to_crop, (0, 0, SAMPLE_PX, SAMPLE_PX)))


def _strip(frame: Image, patch: Patch) -> Box:
    """Part of the frame in which a face is measured: down through one eye, cheek and the corner of the mouth.

    In whole cells, as far as it is larger than one: those are averaged several times faster.
    """
    _, _, _, height = box_in_frame(TEMPLATE_CORNERS, patch.crop.to_crop, frame)
    half = MEASURED_PIXELS / 2 / max(height, 1) * scale_of(patch.crop.to_crop)
    left, right = max(STRIP_AT - half, 0), STRIP_AT + half
    corners = np.array([[left, 0], [right, 0], [right, CROP_PX], [left, CROP_PX]], np.float32)
    x, y, width, height = box_in_frame(corners, patch.crop.to_crop, frame)
    return x, y, max(width - width % CELL_PX, min(width, CELL_PX)), max(height - height % CELL_PX, min(height, CELL_PX))


def weights_for(energy: Plane, noise: Plane) -> Plane:
    """Weights with which the octaves of `noise` add up to an image with this `energy` in each octave.

    Octaves overlap, so the weights are found together, in a few rounds.
    """
    parts = np.stack([np.stack(_octaves(octave)) for octave in _octaves(noise)])  # by noise octave, by octave
    shared = np.einsum("kohw,lohw->okl", parts, parts) / noise.size
    weights = np.sqrt(energy / np.maximum(shared.diagonal(axis1=1, axis2=2).diagonal(), 1e-6))
    for _ in range(_ROUNDS):
        made = np.einsum("k,okl,l->o", weights, shared, weights)
        weights = weights * np.sqrt(energy / np.maximum(made, 1e-6)) ** 0.7
    return np.asarray(weights, np.float32)


def warped(image: Image, matrix: Affine, box: Box) -> Image:
    """Part of `image` that fills `box`; `matrix` takes the box's pixels there."""
    flags = (cv2.INTER_CUBIC if scale_of(matrix) < CUBIC_BELOW else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, box[2:], flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _octaves(grey: Plane) -> list[Plane]:
    """Details of `grey`, finest first."""
    octaves = []
    for side in FILTERS:
        coarse = np.asarray(cv2.GaussianBlur(grey, (side, side), 0), np.float32)
        octaves.append(grey - coarse)
        grey = coarse
    return octaves


def _skin_cells(image: Image, where: Image, tone: Plane) -> NDArray[np.bool_]:
    """Cells that lie `where` (255) and have about the skin's `tone`: neither hair nor eyes."""
    size = _cells(where)
    colour = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    off = np.abs(colour - tone).mean(axis=2) / max(float(tone.mean()), 1.0)
    return np.asarray((cv2.resize(where, size, interpolation=cv2.INTER_AREA) > 245) & (off < MOST_OFF_TONE))


def _energy(octave: Plane, cells: NDArray[np.bool_], share: float) -> float:
    """Mean square of an octave that this share of the cells stays below."""
    squares = cv2.resize(octave * octave, _cells(octave), interpolation=cv2.INTER_AREA)
    values = np.sort(squares[cells])
    return float(np.interp(share * (len(values) - 1), np.arange(len(values)), values))  # faster than np.quantile


def _cells(image: NDArray[np.generic]) -> tuple[int, int]:
    """Width and height of `image` in cells."""
    return max(image.shape[1] // CELL_PX, 1), max(image.shape[0] // CELL_PX, 1)


def _noise(to_crop: Affine, box: Box) -> Plane:
    """Noise that sticks to the face, at about the frame's resolution."""
    px = 1 / scale_of(to_crop)
    level = next((scale for scale in TEXTURES if scale >= px), TEXTURES[-1])
    matrix = (to_crop * np.float32(level)).astype(np.float32)
    noise = cv2.warpAffine(_texture(level), matrix, box[2:], flags=_TO_BOX, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(noise, np.float32)


@functools.cache
def _texture(level: float) -> Plane:
    side = round(CROP_PX * level)
    return np.random.default_rng(0).standard_normal((side, side), np.float32)


def _grey(image: Image) -> Plane:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)


def _where(there: NDArray[np.bool_]) -> Image:
    return np.multiply(there, HIDDEN, dtype=np.uint8)
