"""Labels of the faces in a photograph, and steadier landmarks than one run of a detector gives.

The scenes' landmarks are one run of YuNet, whose next run on the same face, a little larger or smaller, is off by 7 %
of the eye distance. The mean of several runs is nearer to the truth: to learn from and to measure by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from engines.contract import Image, Points
from engines.faces_maps import Detection, overlap
from train.data.face_set import DataError

#: Sizes of a photograph at which its landmarks are detected again.
SCALES = (0.5, 0.7, 0.85, 1.0, 1.2)
#: A find is a labelled face where their boxes' intersection over union is at least this.
FOUND_OVERLAP = 0.4


@dataclass(frozen=True, eq=False)
class Labels:
    """The n faces of one picture: landmarks nx5x2, boxes nx4 (x0, y0, x1, y1); and mx4 regions to ignore."""

    landmarks: Points
    boxes: Points
    drawn: np.ndarray  # n bool: the box was drawn by a detector, not made from the landmarks
    ignored: Points


class YuNet:
    """OpenCV's face detector: the source of our labels, and the reference beside our own finder."""

    def __init__(self, data: Path) -> None:
        model = data / "weights" / "yunet_n_dynamic.onnx"
        if not model.is_file():
            raise DataError(f"there is no {model}; give the data folder with --data")
        self._detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.6)

    def __call__(self, image: Image) -> list[Detection]:
        """The faces of `image`, best first."""
        self._detector.setInputSize(image.shape[1::-1])
        rows = self._detector.detect(image)[1]
        return [_find(row) for row in rows] if rows is not None else []

    def steady(self, image: Image, labels: Labels) -> Labels:
        """`labels` of `image` with the mean of their landmarks and of those detected at several sizes."""
        seen = [[points] for points in labels.landmarks]
        for scale in SCALES if seen else ():
            resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            back = np.array(image.shape[1::-1], np.float32) / np.array(resized.shape[1::-1], np.float32)
            finds = self(resized)
            for points, box in zip(seen, labels.boxes, strict=True):
                find = match(finds, box / np.tile(back, 2))
                if find is not None:
                    points.append(find.landmarks * back)
        means = np.array([np.mean(points, axis=0) for points in seen], np.float32).reshape(-1, 5, 2)
        return replace(labels, landmarks=means)


def match(finds: Sequence[Detection], box: Points) -> Detection | None:
    """The one of `finds` that lies on a labelled box, if any does."""
    best = max(finds, key=lambda find: overlap(find.box, box), default=None)
    return best if best is not None and overlap(best.box, box) >= FOUND_OVERLAP else None


def _find(row: np.ndarray) -> Detection:
    """YuNet's row: box x, y, width, height, five landmarks, score."""
    points = row[4:14].reshape(5, 2)
    eyes, mouth = sorted(points[:2].tolist()), sorted(points[3:].tolist())
    box = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(np.float32)
    return Detection(float(row[14]), box, np.array([*eyes, points[2], *mouth], np.float32))
