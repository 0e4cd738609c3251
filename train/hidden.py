"""Training of `hidden`: a small U-Net that marks what hides a face and leaves the face's own things alone.

It learns from real faces with occluders in front, whose place is known to the pixel. Figures come from other people
with other occluders, and from photographs of people who really wear masks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import CROP_PX, EYE_DISTANCE_PX, HIDDEN, Affine, Image, transform_points
from train.config import Recipe
from train.data import FaceSet, valid_mask
from train.loop import autocast, check_finite, descend
from train.networks import Residual, conv
from train.occluders import OCCLUDERS, WORN, Occluders, random_names
from train.task import Doors, Sample

#: Width at each halving of the picture: 1/2, 1/4, 1/8, 1/16, 1/32.
WIDTHS = (16, 32, 64, 96, 128)
CLEAN_SHARE = 0.25
EVAL_SEED = 23
#: Pixels on the crop by which an outline may be off and still count as met.
BOUNDARY_PX = 3
_EACH_KIND = 40
_MIRROR = [1, 0, 2, 4, 3]


class HiddenUNet(nn.Module):
    """RGB in 0..1, any side / 32, to the logit of "hidden" on a grid of half that side."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = conv(3, a, stride=2)
        self.down1 = nn.Sequential(conv(a, b, stride=2), conv(b, b))
        self.down2 = nn.Sequential(conv(b, c, stride=2), Residual(c))
        self.down3 = nn.Sequential(conv(c, d, stride=2), Residual(d))
        self.down4 = nn.Sequential(conv(d, e, stride=2), Residual(e))
        self.up3, self.up2, self.up1, self.up0 = Join(e, d), Join(d, c), Join(c, b), Join(b, a)
        self.head = nn.Conv2d(a, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        s0 = self.stem(x * 2 - 1)
        s1 = self.down1(s0)
        s2 = self.down2(s1)
        s3 = self.down3(s2)
        y = self.up3(self.down4(s3), s3)
        return self.head(self.up0(self.up1(self.up2(y, s2), s1), s0))


class Join(nn.Module):
    """Doubles the picture and adds the skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = conv(inputs, outputs, kernel=1)
        self.mix = conv(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest") + skip)


class HiddenDoors(nn.Module):
    """The segmenter with the contract's doors: `face` uint8 BGR in, probability x 255 out, NHWC."""

    def __init__(self, network: HiddenUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, face: Tensor) -> Tensor:
        dtype = self.network.head.weight.dtype
        x = face.to(dtype).permute(0, 3, 1, 2).flip(1) / 255
        logits = F.interpolate(self.network(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return (torch.sigmoid(logits) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Example:
    """A crop, the mask of what hides the face in it, and 255 where both mean something."""

    face: Image
    mask: Image
    valid: Image


class HiddenTask:
    """Binary cross-entropy and soft Dice, inside the photographs only."""

    name = "hidden"

    def __init__(self, recipe: Recipe, data: Path) -> None:
        self._recipe = recipe
        self._data = data
        self._maker: Examples | None = None
        self.modules = {"network": HiddenUNet()}
        self.optimizers = {
            "network": torch.optim.AdamW(
                self.modules["network"].parameters(), 2 * recipe.learning_rate, weight_decay=1e-3
            )
        }

    def sample(self, rng: np.random.Generator) -> Sample:
        """HWC uint8 BGR `face` and HW uint8 `hidden` and `valid`."""
        if self._maker is None:
            self._maker = Examples(self._data, "train")
        example = self._maker.random(rng, self._recipe.size_px)
        return {"face": example.face, "hidden": example.mask, "valid": example.valid}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, float]:
        network = self.modules["network"]
        face = (batch["face"].permute(0, 3, 1, 2).flip(1).float() / 255).contiguous(memory_format=torch.channels_last)
        valid = F.avg_pool2d(batch["valid"][:, None].float() / 255, 2)
        truth = F.avg_pool2d(batch["hidden"][:, None].float() / 255, 2)
        with autocast(self._recipe):
            logits = network(face)
        terms = {"bce": masked_bce(logits.float(), truth, valid), "dice": dice(logits.float(), truth, valid)}
        check_finite(terms)
        descend(terms["bce"] + 0.5 * terms["dice"], self.optimizers["network"], network)
        return {name: float(value.detach()) for name, value in terms.items()}

    def evaluate(self, network: nn.Module, out: Path | None) -> dict[str, float]:
        """Composites by kind, faces that nothing hides, and real masks; contact sheets into `out`."""
        doors = HiddenDoors(network).eval()
        examples = Examples(self._data, "eval")
        figures: dict[str, float] = {}
        sheet: list[Image] = []
        for kind in OCCLUDERS:
            results = [(case, see_hidden(doors, case.face)) for case in examples.fixed([kind])]
            figures[f"iou_{kind}"] = float(np.mean([iou(seen, case) for case, seen in results]))
            figures[f"boundary_f_{kind}"] = float(np.mean([boundary_f(seen, case) for case, seen in results]))
            sheet += [overlay(case.face, seen) for case, seen in results[:8]]
        shares = np.array([share for _, share in OCCLUDERS.values()])
        for figure in ("iou", "boundary_f"):
            figures[figure] = float(np.average([figures[f"{figure}_{kind}"] for kind in OCCLUDERS], weights=shares))
        clean = [(case, see_hidden(doors, case.face)) for case in examples.clean()]
        figures["clean_marked"] = float(np.mean([marked(seen, case) for case, seen in clean]))
        figures["clean_faces_over_5_percent"] = float(np.mean([marked(seen, case) > 0.05 for case, seen in clean]))
        for kind in WORN:
            worn = [(case, see_hidden(doors, case.face)) for case in examples.fixed([kind])]
            figures[f"{kind}_marked"] = float(np.mean([marked(seen, case) for case, seen in worn]))
        real = [(case, see_hidden(doors, case.face), known) for case, known in real_masks(self._data)]
        figures["iou_real_silver"] = float(np.mean([iou(seen, case) for case, seen, known in real if known]))
        if out is not None:
            worst = sorted(clean, key=lambda pair: marked(pair[1], pair[0]), reverse=True)
            write_sheet(out / "hidden_composites.png", sheet, columns=8)
            write_sheet(out / "hidden_real.png", [overlay(case.face, seen) for case, seen, _ in real], columns=16)
            write_sheet(out / "hidden_clean_worst.png", [overlay(c.face, s) for c, s in worst[:48]], columns=12)
        return figures

    def doors(self, network: nn.Module) -> Doors:
        shape = (1, CROP_PX, CROP_PX)
        return Doors(HiddenDoors(network), {"face": (*shape, 3)}, {"hidden": (*shape, 1)}, {"face": {0: "n"}})


def masked_bce(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean binary cross-entropy where `valid`."""
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def dice(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """1 - Dice of each picture, averaged; an empty truth costs as much as is marked."""
    seen, truth = torch.sigmoid(logits) * valid, truth * valid
    both = (seen * truth).sum((1, 2, 3))
    smooth = 0.002 * valid[0].numel()
    return (1 - (2 * both + smooth) / (seen.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + smooth)).mean()


# -- examples


class Examples:
    """Faces of a split with its occluders in front."""

    def __init__(self, data: Path, split: Literal["train", "eval"]) -> None:
        self._faces = FaceSet(data, split)
        self._occluders = Occluders(data, split)
        self._cumulated = np.cumsum(self._faces.origin_weights())

    def random(self, rng: np.random.Generator, size: int) -> Example:
        """As the live crop may look: badly aligned, in any light, from any camera; one in four hidden by nothing."""
        index = int(np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1]))
        if rng.random() >= CLEAN_SHARE:
            names = random_names(rng)
        else:
            names = [str(rng.choice(list(WORN)))] if rng.random() < 0.5 else []
        return self._make(index, rng, size, names)

    def fixed(self, names: list[str]) -> Iterator[Example]:
        """The same composites at every call, at 256 px."""
        for number in range(_EACH_KIND):
            rng = np.random.default_rng([EVAL_SEED, number])
            yield self._make(int(rng.integers(len(self._faces))), rng, CROP_PX, names)

    def clean(self) -> Iterator[Example]:
        """The photographs as they are. A few of these people have a hand at their face: the truth says nothing."""
        for index, row in enumerate(self._faces.rows):
            yield Example(self._faces.image(index), np.zeros((CROP_PX, CROP_PX), np.uint8), valid_mask(row))

    def _make(self, index: int, rng: np.random.Generator, size: int, names: list[str]) -> Example:
        row = self._faces.rows[index]
        image, valid, landmarks = self._faces.image(index), valid_mask(row), row.landmarks
        if rng.random() < 0.5:
            image, valid = image[:, ::-1], valid[:, ::-1]
            landmarks = (landmarks[_MIRROR] * (-1, 1) + (CROP_PX - 1, 0)).astype(np.float32)
        matrix = misalignment(rng, size)
        image = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        valid = cv2.warpAffine(valid, matrix, (size, size), flags=cv2.INTER_NEAREST)
        image, mask = self._occluders.occlude(image, transform_points(landmarks, matrix), rng, names)
        return Example(webcam(relight(image, rng), rng), mask, valid)


def misalignment(rng: np.random.Generator, size: int) -> Affine:
    """Crop to picture of `size`, as wrong as the landmarks of a covered face are."""
    matrix = cv2.getRotationMatrix2D((CROP_PX / 2, CROP_PX / 2), rng.normal(0, 4), float(np.exp(rng.normal(0, 0.07))))
    matrix[:, 2] += np.clip(rng.normal(0, 0.06, 2), -0.15, 0.15) * EYE_DISTANCE_PX
    return (matrix * (size / CROP_PX)).astype(np.float32)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Exposure, contrast, colour cast, grey, and a slope of light over the picture."""
    ramp = np.arange(256, dtype=np.float32)[:, None] / 255
    gain = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.06, 3))
    table = (ramp * gain) ** np.exp(rng.normal(0, 0.25)) * rng.uniform(0.75, 1.0) + rng.uniform(0, 0.12)
    image = cv2.LUT(image, np.clip(table * 255, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.06:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.35:
        slope = cv2.resize(rng.uniform(0.6, 1.3, (2, 2)).astype(np.float32), image.shape[1::-1])
        image = cv2.multiply(image, cv2.merge([slope] * 3), dtype=cv2.CV_8U)
    return image


def webcam(image: Image, rng: np.random.Generator) -> Image:
    """Fewer pixels, blur, noise and JPEG, each sometimes."""
    size = image.shape[0]
    if rng.random() < 0.45:
        side = max(16, int(size * rng.uniform(0.3, 0.9)))
        image = cv2.resize(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (size, size))
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6) * size / CROP_PX)
    if rng.random() < 0.4:
        x, y = rng.integers(0, _NOISE_PX - size, 2)
        noise = _noise()[y : y + size, x : x + size]
        image = cv2.scaleAdd(noise, rng.uniform(1, 10), image.astype(np.float32))
        image = cv2.convertScaleAbs(cv2.max(image, 0.0))
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


_NOISE_PX = 512


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Noise is cut from one sheet: drawing it anew for each picture costs more than all the rest."""
    rng = np.random.default_rng(5)
    fine = rng.normal(0, 1, (_NOISE_PX, _NOISE_PX, 3)).astype(np.float32)
    return fine * 0.7 + cv2.GaussianBlur(fine, (0, 0), 1.0) * 1.2


# -- figures


def see_hidden(doors: nn.Module, face: Image) -> Image:
    """256x256 uint8: 255 where the network finds it more likely than not that the face is hidden."""
    with torch.no_grad():
        seen = doors(torch.from_numpy(np.ascontiguousarray(face))[None])[0, :, :, 0].numpy()
    return cv2.compare(seen, 127, cv2.CMP_GT)


def iou(seen: Image, case: Example) -> float:
    """Intersection over union inside the photograph; 1 where there is nothing and nothing is seen."""
    seen, truth = seen & case.valid, case.mask & case.valid
    union = np.count_nonzero(seen | truth)
    return np.count_nonzero(seen & truth) / union if union else 1.0


def boundary_f(seen: Image, case: Example) -> float:
    """F1 of outlines, met within BOUNDARY_PX. Source: F. Perazzi et al., DAVIS, CVPR 2016."""
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BOUNDARY_PX + 1, 2 * BOUNDARY_PX + 1))
    edges = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) for mask in (seen, case.mask)]
    edges = [edge & case.valid for edge in edges]
    met = [np.count_nonzero(a & cv2.dilate(b, around)) for a, b in (edges, edges[::-1])]
    count = sum(np.count_nonzero(edge) for edge in edges)
    return sum(met) / count if count else 1.0


def marked(seen: Image, case: Example) -> float:
    """Share of the face that is marked."""
    face = face_area() & case.valid
    return np.count_nonzero(seen & face) / max(np.count_nonzero(face), 1)


@lru_cache(maxsize=1)
def face_area() -> Image:
    """Where the face lies in the template: hairline to chin, 256x256."""
    area = np.zeros((CROP_PX, CROP_PX), np.uint8)
    cv2.ellipse(area, (128, 132), (78, 104), 0, 0, 360, HIDDEN, -1)
    return area


def real_masks(data: Path) -> Iterator[tuple[Example, bool]]:
    """Photographs of people in masks, and whether there is a rough mask to compare with."""
    folder = data / "occluded_real"
    with (folder / "index.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in sorted(rows, key=lambda row: str(row["file"])):
        image = cv2.imread(str(folder / row["file"]))
        silver = folder / "silver_masks" / (Path(row["file"]).stem + ".png")
        known = silver.is_file()
        mask = cv2.imread(str(silver), cv2.IMREAD_GRAYSCALE) if known else np.zeros((CROP_PX, CROP_PX), np.uint8)
        valid = np.zeros((CROP_PX, CROP_PX), np.uint8)
        cv2.fillConvexPoly(valid, np.round(row["valid_quad"]).astype(np.int32), HIDDEN)
        yield Example(image, cv2.compare(mask, 127, cv2.CMP_GT), valid), known


def overlay(face: Image, seen: Image) -> Image:
    """The crop with what is marked in red and outlined."""
    shown = face.copy()
    shown[seen > 0] = shown[seen > 0] // 2 + np.array([0, 0, 127], np.uint8)
    outline, _ = cv2.findContours(seen, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(shown, outline, -1, (0, 255, 255), 1)


def write_sheet(path: Path, pictures: list[Image], columns: int, side: int = 128) -> None:
    """A contact sheet as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in pictures]
    cells += [np.zeros((side, side, 3), np.uint8)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    cv2.imwrite(str(path), np.vstack(rows))
