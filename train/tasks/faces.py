"""The face finder's training: one small fully convolutional network that finds faces and reads their landmarks.

It looks at whole frames and, a second time, at each face close up (engines/faces_maps.py says how), so it is trained
on both. Each cell of the stride-8 map says whether a face's middle lies in it (focal loss, source: Zhou et al.,
"Objects as points", 2019) and where that face's box and landmarks are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import SEARCH_SIZE, TEMPLATE, Points, similarity
from engines.faces_maps import STRIDE, TEMPLATE_BOX
from train.config import Recipe
from train.data.labels import Labels
from train.hardware import autocast, check_finite, descend, detached
from train.task import ModelIO, Sample
from train.tasks.faces_data import TrainingPictures

WEIGHTS = {"heat": 1.0, "box": 0.5, "landmarks": 15.0}
#: Faces of this size and larger count in full for the landmarks, smaller ones less: there a pixel is a large share.
FULL_SIZE_PX = 90.0
#: How far round a face's middle cells answer for it: sigma in shares of the face's size, and at least, in cells.
SPREAD, LEAST_SPREAD = 0.09, 0.75
#: Cells with less than this share of the peak do not have to know the face's box and landmarks.
ANSWERS_FROM = 0.25
_TEMPLATE_SIZE = float(np.sqrt(np.prod(TEMPLATE_BOX[2:] - TEMPLATE_BOX[:2])))


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class FacesNetwork(nn.Module):
    """uint8 NHWC BGR pictures, sides multiples of 32, to `heat` logits, `boxes` and `landmarks`, each NCHW at 1/8.

    Boxes and landmarks are pixels relative to the cell's middle. All of a cell's are scaled by one size that the
    cell reads first, so that small and large faces are the same task.
    """

    def __init__(self, widths: tuple[int, int, int, int, int] = (16, 24, 48, 96, 128)) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.to_quarter = nn.Sequential(_conv(3, a, 2), _conv(a, b, 2), _Residual(b))
        self.to_eighth = nn.Sequential(_conv(b, c, 2), _Residual(c))
        self.to_sixteenth = nn.Sequential(_conv(c, d, 2), _Residual(d), _Residual(d))
        self.to_thirty_second = nn.Sequential(_conv(d, e, 2), _Residual(e))
        self.widen_sixteenth = _conv(e, d, kernel=1)
        self.join_sixteenth = _conv(d, d)
        self.widen_eighth = _conv(d, c, kernel=1)
        self.join_eighth = nn.Sequential(_Residual(c), _conv(c, c))
        self.head = nn.Conv2d(c, 16, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            self.head.bias.zero_()
            self.head.bias[0] = -4.0
            self.head.bias[6:] = torch.from_numpy(((TEMPLATE - TEMPLATE.mean(axis=0)) / _TEMPLATE_SIZE).reshape(-1))

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # uint8 is cast first and transposed after: TensorRT's parser refuses a UInt8 transpose.
        x = frame.to(self.head.weight.dtype).permute(0, 3, 1, 2) * (1 / 64) - 2
        eighth = self.to_eighth(self.to_quarter(x))
        sixteenth = self.to_sixteenth(eighth)
        above = F.interpolate(self.widen_sixteenth(self.to_thirty_second(sixteenth)), scale_factor=2.0, mode="nearest")
        sixteenth = self.join_sixteenth(sixteenth + above)
        above = F.interpolate(self.widen_eighth(sixteenth), scale_factor=2.0, mode="nearest")
        y = self.head(self.join_eighth(eighth + above)).float()
        size = torch.exp(y[:, 1:2].clamp(-3, 3)) * 64
        return y[:, :1], y[:, 2:6] * size, y[:, 6:] * size


class FacesExport(nn.Module):
    """The network as the product runs it: maps NHWC float32, `heat` as a probability."""

    def __init__(self, network: FacesNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heat, boxes, landmarks = self.network(frame)
        return torch.sigmoid(heat).permute(0, 2, 3, 1), boxes.permute(0, 2, 3, 1), landmarks.permute(0, 2, 3, 1)


class FacesTask:
    """Finds faces and their landmarks. See train/task.py for what each method is for."""

    name = "faces"

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data
        self._network = FacesNetwork()
        self._pictures = TrainingPictures(data, recipe.size_px)
        self.modules: Mapping[str, nn.Module] = {"network": self._network}
        self.optimizers = {
            "network": torch.optim.AdamW(self._network.parameters(), lr=recipe.learning_rate, weight_decay=1e-3)
        }

    def sample(self, rng: np.random.Generator) -> Sample:
        image, labels = self._pictures.draw(rng)
        return {"frame": image, **targets(labels, self._recipe.size_px)}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        with autocast(self._recipe):
            heat, boxes, landmarks = self._network(batch["frame"])
        losses = {
            "heat": heat_loss(heat, batch["heat"], batch["counts"]),
            "box": distance_loss(boxes, batch["boxes"], batch["box_share"]),
            "landmarks": distance_loss(landmarks, batch["landmarks"], batch["share"]),
        }
        check_finite(losses)
        descend(sum(WEIGHTS[name] * loss for name, loss in losses.items()), self.optimizers["network"], self._network)
        return detached(losses)

    def model_io(self, network: nn.Module) -> ModelIO:
        height, width = SEARCH_SIZE
        cells = (1, height // STRIDE, width // STRIDE)
        return ModelIO(
            module=FacesExport(network),
            inputs={"frame": (1, height, width, 3)},
            outputs={"heat": (*cells, 1), "boxes": (*cells, 4), "landmarks": (*cells, 10)},
            dynamic={"frame": {0: "batch", 1: "height", 2: "width"}},
        )


def targets(labels: Labels, side: int) -> Sample:
    """What the maps should say, NCHW without N: heat, what counts, and boxes and landmarks with each cell's share.

    A cell's share of a face is already divided by the face's size in pixels and by its number of cells, so that
    sums over the map are distances in face sizes, summed over faces.
    """
    cells = side // STRIDE
    middles = (np.mgrid[:cells, :cells][::-1].astype(np.float32) + 0.5) * STRIDE - 0.5  # 2 x cells x cells: x, y
    heat = np.zeros((cells, cells), np.float32)
    counts = np.ones((cells, cells), np.float32)
    boxes, landmarks = np.zeros((4, cells, cells), np.float32), np.zeros((10, cells, cells), np.float32)
    share, box_share = np.zeros((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
    for x0, y0, x1, y1 in labels.ignored:
        inside = (middles[0] >= x0) & (middles[0] <= x1) & (middles[1] >= y0) & (middles[1] <= y1)
        counts[inside] = 0
    for points, box, drawn in zip(labels.landmarks, labels.boxes, labels.drawn, strict=True):
        middle, size = points.mean(axis=0), _size(points, box, bool(drawn))
        sigma = max(LEAST_SPREAD, SPREAD * size / STRIDE) * STRIDE
        distance = ((middles - middle[:, None, None]) ** 2).sum(axis=0)
        near = np.exp(-distance / (2 * sigma**2))
        if near.max() < 0.3:
            continue  # the middle lies outside of the picture
        near[np.unravel_index(near.argmax(), near.shape)] = 1
        own = near > heat  # where two faces meet, the nearer one answers
        heat[own] = near[own]
        answers = own & (near >= ANSWERS_FROM)
        counts[near >= 0.1] = 1
        landmarks[:, answers] = points.reshape(10, 1) - np.tile(middles[:, answers], (5, 1))
        boxes[:, answers] = box[:, None] - np.tile(middles[:, answers], (2, 1))
        weight = near[answers] / (near[answers].sum() * size)
        share[answers] = weight * min(size / FULL_SIZE_PX, 1.0)
        box_share[answers] = weight if drawn else 0
    return {
        "heat": heat[None],
        "counts": counts[None],
        "boxes": boxes,
        "landmarks": landmarks,
        "share": share[None],
        "box_share": box_share[None],
    }


def _size(points: Points, box: Points, drawn: bool) -> float:
    """A face's size in pixels: its box's, or its template's where no box was drawn."""
    if drawn:
        return float(np.sqrt(np.prod(box[2:] - box[:2])))
    matrix = similarity(TEMPLATE, points)
    return float(np.hypot(matrix[0, 0], matrix[1, 0])) * _TEMPLATE_SIZE


def heat_loss(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Focal loss per face; cells near a middle are forgiven by how near they are."""
    logits = logits.clamp(-12, 12)
    probability = torch.sigmoid(logits)
    positive = (target == 1).float()
    hit = positive * (1 - probability) ** 2 * F.softplus(-logits)
    false = (1 - positive) * (1 - target) ** 4 * probability**2 * F.softplus(logits)
    return ((hit + false) * counts).sum() / positive.sum().clamp(min=1)


def distance_loss(predicted: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Mean distance along an axis, in shares of the face's size, over faces."""
    faces = (share > 0).flatten(1).any(dim=1).sum().clamp(min=1)
    return ((predicted - target).abs() * share).sum() / (predicted.shape[1] * faces)
