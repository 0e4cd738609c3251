"""Training of `embed`: a small network that tells whose face it is, also when a part of the face is hidden.

A third-party network teaches it: that one sees the whole face, ours what is left of it. Beside meeting the teacher's
vector, a picture has to be nearer to its own person than to every other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from engines.contract import CROP_PX
from train.config import Recipe
from train.data.face_set import DataError
from train.hardware import autocast, bare, check_finite, descend, detached
from train.networks.unet import Residual, conv
from train.task import ModelIO, Sample
from train.tasks.embed_data import CACHE, EmbedSamples, Teacher

VECTOR = 128
#: Width at 1/4, 1/8, 1/16 of INPUT_PX.
WIDTHS = (32, 64, 128)
INPUT_PX = CROP_PX // 2
#: A person's own vector has to be nearer than the others' by this cosine, which counts so many times.
MARGIN, SHARPNESS = 0.15, 24.0
METRIC_WEIGHT = 0.06
#: How fast the mean and the covariance of the vectors follow the batches.
FOLLOW = 0.01
#: Directions that vary by less than this are not stretched any further.
LEAST_SPREAD = 1e-3


class EmbedNet(nn.Module):
    """BGR in 0..1 at INPUT_PX, hidden pixels emptied, and where they are (NCHW), to vectors of any length."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            *(conv(4, a, kernel=8, stride=4), Residual(a)),
            *(conv(a, b, stride=2), Residual(b), Residual(b)),
            *(conv(b, c, stride=2), Residual(c), Residual(c), conv(c, 2 * c, kernel=1)),
        )
        cells = INPUT_PX // 16
        #: Faces are aligned: each place of the face has its own say in each feature.
        self.place = nn.Parameter(torch.ones(1, 2 * c, cells, cells))
        self.head = nn.Linear(2 * c, VECTOR)
        #: Of the unit vectors seen in training.
        self.register_buffer("mean", torch.zeros(VECTOR))
        self.register_buffer("covariance", torch.eye(VECTOR) / VECTOR)

    @torch.no_grad()
    def observe(self, vectors: Tensor) -> None:
        """Follows how the unit vectors of a batch are spread."""
        apart = vectors.detach() - self.mean
        self.mean.lerp_(vectors.detach().mean(0), FOLLOW)
        self.covariance.lerp_(apart.T @ apart / len(apart), FOLLOW)

    def forward(self, face: Tensor, hole: Tensor) -> Tensor:
        known = 1 - hole
        features = self.body(torch.cat(((face * 2 - 1) * known, hole), dim=1))
        return self.head((features * self.place).mean((2, 3)))


class EmbedExport(nn.Module):
    """The contract's form of the network: `face` uint8 BGR and `mask` (255 = hidden), NHWC, to a unit vector.

    What all faces have in common is taken off, and what varies little between them counts more, so that strangers are
    further apart: half of a whitening. Source: H. Jegou and O. Chum, "Negative evidences and co-occurences in image
    retrieval: the benefit of PCA and whitening", ECCV 2012.
    """

    def __init__(self, network: EmbedNet) -> None:
        super().__init__()
        self.network = network
        self.spread = nn.Linear(VECTOR, VECTOR)
        variances, directions = torch.linalg.eigh(network.covariance.double().cpu())
        scales = (variances.clamp_min(0).sqrt() + LEAST_SPREAD).rsqrt()
        weight = (directions * scales) @ directions.T
        self.spread.weight.data = weight.to(network.mean)
        self.spread.bias.data = -(weight @ network.mean.double().cpu()).to(network.mean)
        self.spread.requires_grad_(False)

    def forward(self, face: Tensor, mask: Tensor) -> Tensor:
        dtype = self.network.head.weight.dtype
        # uint8 is cast first and transposed after: TensorRT's parser refuses a UInt8 transpose.
        face_nchw = face.to(dtype).permute(0, 3, 1, 2) * (1 / 255)
        hole = (mask.to(dtype) * (1 / 255)).permute(0, 3, 1, 2)
        # What is hidden must not shine into its neighbours: it is emptied before the picture is halved.
        known = F.avg_pool2d(1 - hole, 2)
        halved = F.avg_pool2d(face_nchw * (1 - hole), 2) / known.clamp(min=0.25)
        vector = unit_length(self.network(halved, (known < 0.5).to(dtype)).float())
        return unit_length(self.spread(vector.to(self.spread.weight.dtype)).float())


def unit_length(vectors: Tensor) -> Tensor:
    """Rows of length 1, in plain operators that every engine has."""
    return vectors / vectors.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)


def exported(file: Path) -> EmbedNet:
    """The network of an exported FP32 file, frozen: what the restorer's `identity` loss looks through.

    The file has batch norm worked into the convolutions, so here it only adds their bias. Raises DataError.
    """
    try:
        weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(file)).graph.initializer}
    except Exception as error:  # what protobuf raises for a broken file has no common class
        raise DataError(f"the identity loss needs {file}, as `export embed` writes it: {error}") from error
    network = EmbedNet().eval().requires_grad_(False)
    try:
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(_from_folded(weights, f"network.{name}")))
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{file} is no `embed` of this program: {str(error).splitlines()[0]}") from error
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.0  # mean 0 and variance 1, as they began: nothing is left to scale
    return network


def _from_folded(weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A parameter by its name in training; a batch norm's from the convolution before it."""
    if name in weights:
        return weights[name].copy()
    norm, _, kind = name.rpartition(".")
    convolution = norm.removesuffix("1") + "0.weight_bias"
    return weights[convolution].copy() if kind == "bias" else np.ones_like(weights[convolution])


class EmbedTask:
    """Distance to the teacher's vector, and a softmax over all people of the training set."""

    name = "embed"

    def __init__(self, recipe: Recipe, data: Path, teacher: Teacher | None = None, cache: Path = CACHE) -> None:
        self._recipe = recipe
        self._data = data
        self._teacher, self._cache = teacher, cache
        self._lessons: EmbedSamples | None = None
        self.modules = {"network": EmbedNet()}
        self.optimizers = {
            "network": torch.optim.AdamW(self.modules["network"].parameters(), recipe.learning_rate, weight_decay=5e-3)
        }

    def sample(self, rng: np.random.Generator) -> Sample:
        """HWC uint8 BGR `face`, HW uint8 `mask`, `vector`, and `person`."""
        lesson = self._taught().random(rng, self._recipe.size_px)
        return {"face": lesson.face, "mask": lesson.mask, "vector": lesson.vector, "person": np.array(lesson.person)}

    def train_step(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        network = self.modules["network"]
        face = (batch["face"].permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        hole = (batch["mask"][:, None] > 127).float()
        with autocast(self._recipe):
            vectors = network(face, hole)
        vectors = F.normalize(vectors.float(), dim=1)
        bare(network).observe(vectors)
        people = torch.from_numpy(self._taught().people).to(vectors.device)
        terms = {
            "distance": (1 - (vectors * batch["vector"]).sum(1)).mean(),
            "metric": metric(vectors, people, batch["person"]),
        }
        check_finite(terms)
        descend(terms["distance"] + METRIC_WEIGHT * terms["metric"], self.optimizers["network"], network)
        return detached(terms)

    def model_io(self, network: nn.Module) -> ModelIO:
        shape = (1, CROP_PX, CROP_PX)
        inputs = {"face": (*shape, 3), "mask": (*shape, 1)}
        return ModelIO(EmbedExport(network), inputs, {"embedding": (1, VECTOR)}, {name: {0: "n"} for name in inputs})

    def _taught(self) -> EmbedSamples:
        if self._lessons is None:
            self._lessons = EmbedSamples(self._data, self._teacher, self._cache)
        return self._lessons


def metric(vectors: Tensor, people: Tensor, person: Tensor) -> Tensor:
    """Cross-entropy of "whose is it" over unit vectors of `people`.

    Source: H. Wang et al., "CosFace: Large Margin Cosine Loss", CVPR 2018; here the classes' vectors are the teacher's.
    """
    cosines = vectors @ people.T
    own = F.one_hot(person, len(people)).to(cosines.dtype)
    return F.cross_entropy(SHARPNESS * (cosines - MARGIN * own), person)
