"""Paints a hole with patches of what surrounds it, for single pictures, for which there is time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engines.contract import HIDDEN, Image

#: Where patches lie: y x width + x of their middles.
Places = NDArray[np.int64]
Levels = NDArray[np.float32]

#: Side of a patch, and where its pixels lie from its middle.
PATCH = 7
_HALF = PATCH // 2
_OFFSETS = tuple(itertools.product(range(-_HALF, _HALF + 1), repeat=2))
_SQUARE = np.ones((PATCH, PATCH), np.uint8)
#: The coarsest of the image's halvings has at least this many pixels a side.
COARSEST = 90
#: How often, at the coarsest and at the finest level, patches are sought and the hole is painted from them.
ROUNDS = 10, 2
#: A search tries the patches that its neighbours at these distances found, and random ones this far from the best
#: so far, as shares of the image's side.
STEPS, RADII = (4, 1), (0.3, 0.1, 0.03, 0.01)
#: A patch counts by its difference, relative to this share of all differences, in percent.
USUAL = 75
#: So far away, as a share of the image's side, a patch counts as if it differed by so many levels more.
FAR, FAR_LEVELS = 0.5, 24.0
#: A patch counts so many times less with each pixel that it is farther from what is known.
NEARER = 1.2


def completed(image: Image, hole: Image, source: Image) -> Image:
    """`image` (h x w x 3 uint8) with its `hole` (255) painted in patches of where `source` is 255.

    What the hole holds is the first guess. The same input gives the same result. Source: Y. Wexler, E. Shechtman,
    M. Irani, "Space-Time Completion of Video", 2007; the search: C. Barnes et al., "PatchMatch", 2009.
    """
    levels = list(_halvings(image, hole, source))
    rng, rounds = np.random.default_rng(0), np.linspace(*ROUNDS, len(levels)).round().astype(int)
    painted, found = levels[-1][0], None
    for (picture, gap, allowed), count in zip(reversed(levels), rounds, strict=True):
        larger = cv2.resize(painted, gap.shape[::-1], interpolation=cv2.INTER_LINEAR)
        painted = np.where(gap[..., None] > 0, larger, picture)
        search = _Search(picture, gap, allowed, rng)
        if not search.is_possible:
            continue
        search.begin(found)
        for _ in range(count):
            search.improve(painted)
            painted = search.vote(painted)
        found = search.offsets()
    return np.asarray(painted, np.uint8)


def _halvings(image: Image, hole: Image, source: Image) -> Iterator[tuple[Image, Image, Image]]:
    while True:
        yield image, hole, source
        size = image.shape[1] // 2, image.shape[0] // 2
        if min(size) < COARSEST:
            return
        image, share, whole = (
            np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
            for plane in (image, hole, source)
        )
        hole = np.where(share > 0, np.uint8(HIDDEN), np.uint8(0))
        source = np.where(whole == HIDDEN, np.uint8(HIDDEN), np.uint8(0))


class _Search:
    """The search, at one level, for the patch that is most like each patch that touches the hole."""

    def __init__(self, image: Image, hole: Image, source: Image, rng: np.random.Generator) -> None:
        self._rng, self._hole = rng, hole > 0
        self._height, self._width = hole.shape
        inside = np.zeros_like(hole)
        inside[_HALF:-_HALF, _HALF:-_HALF] = HIDDEN
        clean = cv2.erode(cv2.subtract(source, hole), _SQUARE)
        self._allowed = cv2.bitwise_and(clean, inside).ravel() > 0
        self._sources = np.flatnonzero(self._allowed)
        self._targets = np.flatnonzero(cv2.bitwise_and(cv2.dilate(hole, _SQUARE), inside))
        self._numbers = np.full(hole.size, -1)
        self._numbers[self._targets] = np.arange(len(self._targets))
        depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3).ravel()[self._targets]
        self._nearness = np.power(np.float32(NEARER), -depth).astype(np.float32)
        self._image, self._patches = image, _patches(image)

    @property
    def is_possible(self) -> bool:
        return len(self._sources) > 0 and len(self._targets) > 0

    def begin(self, coarse: NDArray[np.int64] | None) -> None:
        """Takes the offsets of a level half as large, random places where there are none."""
        self._best = self._rng.choice(self._sources, len(self._targets))
        if coarse is None:
            return
        y, x = np.divmod(self._targets, self._width)
        rows, columns = (np.minimum(at // 2, end - 1) for at, end in zip((y, x), coarse.shape[:2], strict=True))
        there = self._targets + 2 * (coarse[rows, columns] @ np.array([self._width, 1]))
        places = np.clip(there, 0, self._hole.size - 1)
        known = coarse[rows, columns].any(axis=1) & self._allowed[places]
        self._best[known] = places[known]

    def offsets(self) -> NDArray[np.int64]:
        """How far, down and to the right, each patch's best one is; 0 where none was sought."""
        found = np.zeros((self._hole.size, 2), np.int64)
        found[self._targets] = np.stack(np.divmod(self._best, self._width), axis=1)
        found[self._targets] -= np.stack(np.divmod(self._targets, self._width), axis=1)
        return found.reshape(self._height, self._width, 2)

    def improve(self, painted: Image) -> None:
        """Looks for patches that are more like those of `painted`."""
        self._here = _patches(painted)[self._targets].astype(np.float32)
        self._cost = self._costs(np.arange(len(self._targets)), self._best)
        for step in STEPS:
            for shift in (-step * self._width, -step, step, step * self._width):
                beside = self._numbers[np.clip(self._targets - shift, 0, self._hole.size - 1)]
                self._try(np.where(beside >= 0, self._best[beside] + shift, -1))
        for radius in RADII:
            reach = max(round(radius * max(self._height, self._width)), 1)
            down, right = self._rng.integers(-reach, reach + 1, (2, len(self._targets)))
            self._try(self._best + down * self._width + right)

    def vote(self, painted: Image) -> Image:
        """`painted` with each pixel of the hole as the patches that cover it have it, on average."""
        usual = np.percentile(self._cost, USUAL) + 1
        weight = (np.exp(-self._cost / usual * 3) * self._nearness).astype(np.float32) + np.float32(1e-6)
        colours = self._image.reshape(-1, 3).astype(np.float32)
        total = np.zeros((self._hole.size, 4), np.float32)
        for down, right in _OFFSETS:
            shift = down * self._width + right
            total[self._targets + shift, :3] += colours[self._best + shift] * weight[:, None]
            total[self._targets + shift, 3] += weight
        mean = (total[:, :3] / np.maximum(total[:, 3:], 1e-9)).reshape(painted.shape)
        voted = self._hole & (total[:, 3] > 0).reshape(self._hole.shape)
        return np.where(voted[..., None], np.round(mean), painted).astype(np.uint8)

    def _try(self, places: Places) -> None:
        """Keeps those of the `places` that are allowed and more alike."""
        inside = (places >= 0) & (places < self._hole.size)
        which = np.flatnonzero(inside & self._allowed[np.where(inside, places, 0)] & (places != self._best))
        cost = self._costs(which, places[which])
        better = cost < self._cost[which]
        self._best[which[better]], self._cost[which[better]] = places[which[better]], cost[better]

    def _costs(self, which: NDArray[np.int64], places: Places) -> Levels:
        difference = self._patches[places] - self._here[which]
        down, right = np.subtract(np.divmod(places, self._width), np.divmod(self._targets[which], self._width))
        far = (down**2 + right**2) * np.float32((FAR_LEVELS / (FAR * self._width)) ** 2 * difference.shape[1])
        return np.asarray(np.einsum("ij,ij->i", difference, difference) + far, np.float32)


def _patches(image: Image) -> Image:
    """The patch around each pixel, a row each; the image is mirrored at its edges."""
    padded = np.pad(image, ((_HALF, _HALF), (_HALF, _HALF), (0, 0)), mode="reflect")
    windows = sliding_window_view(padded, (PATCH, PATCH), axis=(0, 1))
    return windows.reshape(image.shape[0] * image.shape[1], -1)
