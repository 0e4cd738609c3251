"""A peer's published examples: our restorers in its holes, beside its own results, on its own pictures.

MI-GAN (A. Sargsyan et al., "MI-GAN: A Simple Baseline for Image Inpainting on Mobile Devices", ICCV 2023) hides 60 to
90 % of a face. Its pictures, masks and results are brought to the template together, so what it shows is resampled
once as the truth is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from engines.contract import CROP_PX, TEMPLATE, Affine, Image, similarity
from train.data.face_set import DataError
from train.data.labels import YuNet
from train.evaluation.report import sheet
from train.evaluation.restoration import critic
from train.evaluation.restoration.cases import EvalCase
from train.evaluation.restoration.meter import RestorationMeter, chosen_means
from train.evaluation.restoration.methods import restore
from train.onnx_runner import Runner

FOLDER = Path("peers") / "migan"
PEER = "MI-GAN"
SHOWN = ("psnr", "pd_mobilenet", "identity", "sharpness")


def peer_figures(
    runners: Mapping[str, Runner], data: Path, threads: int, out: Path | None = None
) -> dict[str, dict[str, float]]:
    """Mean figures in the hole of each restorer and of the peer; a sheet side by side into `out`.

    `critic_auc` is of fewer cases than it needs to mean anything alone: the restorers' compare with the peer's only.
    Raises DataError for a picture without a face.
    """
    examples = peer_examples(data)
    cases = [case for case, _ in examples]
    made = {name: [restore(run, case.face, case.hole) for case in cases] for name, run in runners.items()}
    shown = made | {PEER: [result for _, result in examples]}
    measured = RestorationMeter(data / "weights", threads, quick=True)(cases, shown)
    if out is not None:
        rows = [
            [case.hollow, *(_inside(case, pictures[row]) for pictures in shown.values()), case.face]
            for row, case in enumerate(cases)
        ]
        sheet(out / "restore_peer.png", rows, ["hidden", *shown, "truth"])
    figures = {}
    for name, found in measured.items():
        holes = [one.hole_features["critic_auc"] for one in found if one is not None]
        auc = critic.critic_auc(*(np.stack(side) for side in zip(*holes, strict=True)), fewest=len(cases))
        figures[name] = {"cases": float(len(cases)), **chosen_means(found, SHOWN), "critic_auc": auc}
    return figures


def peer_examples(data: Path) -> list[tuple[EvalCase, Image]]:
    """The peer's pictures as cases, and what it made of each, all in the template (256x256). Raises DataError."""
    yunet = YuNet(data)
    return [_example(path, yunet) for path in sorted((data / FOLDER).glob("*.image.webp"))]


def _example(path: Path, yunet: YuNet) -> tuple[EvalCase, Image]:
    stem = path.name.removesuffix(".image.webp")
    truth, result = (cv2.imread(str(path.with_name(f"{stem}.{kind}.webp"))) for kind in ("image", "migan"))
    mask = cv2.imread(str(path.with_name(f"{stem}.mask.png")), cv2.IMREAD_GRAYSCALE)
    if truth is None or result is None or mask is None:
        raise DataError(f"{path} lacks its mask or its result, or one of the three is no picture")
    finds = yunet(truth)
    if not finds:
        raise DataError(f"{path} shows no face that can be aligned")
    landmarks = finds[0].landmarks
    matrix = similarity(landmarks, TEMPLATE)
    hole, valid = (_aligned(plane, matrix, cv2.INTER_NEAREST) for plane in (255 - mask, np.full_like(mask, 255)))
    case = EvalCase(_aligned(truth, matrix), hole, valid, landmarks @ matrix[:, :2].T + matrix[:, 2])
    return case, _aligned(result, matrix)


def _aligned(picture: Image, matrix: Affine, flags: int = cv2.INTER_LINEAR) -> Image:
    return np.asarray(cv2.warpAffine(picture, matrix, (CROP_PX, CROP_PX), flags=flags), np.uint8)


def _inside(case: EvalCase, picture: Image) -> Image:
    return np.where(case.hole[:, :, None] > 0, picture, case.face).astype(np.uint8)
