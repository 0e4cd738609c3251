"""How well the restorer restores, on faces that it never saw: the same holes each time, beside classical inpainting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from engines.contract import Image
from train.data import FaceSet, valid_mask
from train.masks import MaskShape, hand, medical_mask, rectangle
from train.metrics import psnr, sharpness

EVAL_SHAPES = {"mask": medical_mask, "hand": hand, "rectangle": rectangle}
EVAL_SEED = 11
#: One case in so many is shown on the contact sheet.
SHEET_EVERY = 29


def figures(doors: nn.Module, data: Path, out: Path | None) -> dict[str, float]:
    """PSNR in the hole by mask shape, against cv2.inpaint (Telea), and with a reference where there is one."""
    faces = FaceSet(data, "eval")
    found: dict[str, list[float]] = {}
    sheet: list[Image] = []
    for kind, shape in EVAL_SHAPES.items():
        for number, case in enumerate(eval_cases(faces, shape)):
            values, row = judge(doors, case)
            for name, value in values.items():
                found.setdefault(f"{kind}_{name}", []).append(value)
            if number % SHEET_EVERY == 0:
                sheet.append(row)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        half = len(sheet) // 2
        columns = [np.vstack(sheet[:half]), np.vstack(sheet[half : 2 * half])]
        cv2.imwrite(str(out / "restore.png"), np.hstack(columns))
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    gains = {f"{kind}_gain_over_telea": means[f"{kind}_psnr"] - means[f"{kind}_telea"] for kind in EVAL_SHAPES}
    return means | gains


def eval_cases(faces: FaceSet, shape: MaskShape) -> Iterator[dict[str, Image]]:
    """Each face with a hole of a shape, the same ones each time; a reference where the person has another picture."""
    rng = np.random.default_rng(EVAL_SEED)
    for index, row in enumerate(faces.rows):
        case = {"face": faces.image(index), "hole": shape(row.landmarks, rng), "valid": valid_mask(row)}
        other = faces.sibling(index, rng)
        if not (case["hole"] & case["valid"]).any():
            continue
        if other is not None:
            case |= {"reference": faces.image(other), "reference_mask": valid_mask(faces.rows[other])}
        yield case


def judge(doors: nn.Module, case: Mapping[str, Image]) -> tuple[dict[str, float], Image]:
    """The figures of one case, and its row of the contact sheet: hole, Telea, ours, reference, with it, truth."""
    face, hole = case["face"], case["hole"]
    region = hole & case["valid"]
    hollow = np.where(hole[:, :, None] > 0, 0, face)
    telea = cv2.inpaint(hollow, hole, 5, cv2.INPAINT_TELEA)
    restored = restore(doors, face, hole)
    figures = {
        "psnr": psnr(restored, face, region),
        "telea": psnr(telea, face, region),
        "sharpness": sharpness(restored, region) / max(sharpness(face, region), 1e-3),
    }
    reference = helped = np.zeros_like(face)
    if "reference" in case:
        reference = case["reference"]
        helped = restore(doors, face, hole, reference, case["reference_mask"])
        figures["psnr_with_reference"] = psnr(helped, face, region)
        figures["psnr_without_reference"] = figures["psnr"]
    return figures, np.hstack([hollow, telea, restored, reference, helped, face])


@torch.no_grad()
def restore(
    doors: nn.Module, face: Image, hole: Image, reference: Image | None = None, there: Image | None = None
) -> Image:
    """One picture through the uint8 doors."""
    if reference is None or there is None:
        reference, there = np.zeros_like(face), np.zeros_like(hole)
    feeds = (face[None], hole[None, :, :, None], reference[None], there[None, :, :, None])
    return doors(*(torch.from_numpy(np.ascontiguousarray(feed)) for feed in feeds))[0].numpy()
