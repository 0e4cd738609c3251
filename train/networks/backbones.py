"""Networks made by others that pictures are measured with: each figure is named after the one that made it.

They lie in `DATA/weights`. The ONNX files there come with the data; the others are official files that a user puts
there himself, told by the beginning of their sha256 (the hexadecimal digits in OFFICIAL):

- alexnet-owt-7be5be79.pth from download.pytorch.org/models, and alex.pth of LPIPS 0.1 (R. Zhang et al., in
  lpips/weights/v0.1 of their repository): the figure `lpips`
- pt_inception-2015-12-05-6726825d.pth from the releases of pytorch-fid: `kid_inception` and `fid_inception`
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.contract import Image, Points, similarity
from engines.offline import import_offline
from train.data.face_set import DataError
from train.networks.inception import Inception
from train.onnx_runner import open_session

onnxruntime = import_offline("onnxruntime")

#: File name in DATA/weights: the beginning of its sha256, and where it comes from.
OFFICIAL = {
    "alexnet-owt-7be5be79.pth": ("7be5be79", "download.pytorch.org/models"),
    "alex.pth": ("df73285e", "lpips/weights/v0.1 of the PerceptualSimilarity repository"),
    "pt_inception-2015-12-05-6726825d.pth": ("6726825d", "the fid_weights release of pytorch-fid"),
}
#: Where the embedding network wants the five landmarks of a face, in its 112x112 pixels (ArcFace's template).
EMBEDDING_TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_EMBEDDING_PX = 112


class OnnxNetwork:
    """A float32 NCHW network run by ONNX Runtime. Raises DataError where its file is missing or broken."""

    def __init__(self, file: Path, threads: int) -> None:
        self._session = open_session(file, threads, "give the data folder that holds it with --data")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pictures: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        return self._session.run(list(outputs), {self._input: np.ascontiguousarray(pictures, np.float32)})


class ImageNetFeatures:
    """Feature maps of an ImageNet network for N pictures HxWx3 uint8 BGR: NCHW float32, one for each layer."""

    def __init__(self, file: Path, layers: Sequence[str], mean: Sequence[float], scale: float, threads: int) -> None:
        self._network = OnnxNetwork(file, threads)
        self.layers = tuple(layers)
        self._mean, self._scale = np.array(mean, np.float32), np.float32(scale)

    def __call__(self, pictures: Image) -> list[Tensor]:
        normed = (pictures.astype(np.float32) - self._mean) * self._scale
        return [torch.from_numpy(x) for x in self._network(normed.transpose(0, 3, 1, 2), self.layers)]


def mobilenet(weights: Path, threads: int) -> ImageNetFeatures:
    """MobileNet v1 (A. Howard et al., 2017): no restorer was trained with it. The last layer is for KID and FID."""
    layers = ("conv2_1_sep", "conv3_1_sep", "conv4_1_sep", "conv5_5_sep", "conv5_6_sep")
    file = weights / "mobilenet_v1_imagenet_to_conv5_6_fp16.onnx"
    return ImageNetFeatures(file, layers, (103.94, 116.78, 123.68), 0.017, threads)


def squeezenet(weights: Path, threads: int) -> ImageNetFeatures:
    """SqueezeNet 1.0 (F. Iandola et al., 2016): the restorer may have been trained to please it."""
    layers = ("conv1", "fire3", "fire5", "fire7", "fire9")
    return ImageNetFeatures(weights / "squeezenet_v1.0_imagenet_fp16.onnx", layers, (104, 117, 123), 1.0, threads)


class Embedding:
    """MobileFaceNet: a unit vector of 128 for a face; the cosine of two says how much they look like one person."""

    def __init__(self, weights: Path, threads: int) -> None:
        self._network = OnnxNetwork(weights / "mobilefacenet_y1_128d.onnx", threads)

    def __call__(self, pictures: Image, landmarks: Sequence[Points]) -> np.ndarray:
        """N x 128 for N pictures with their five landmarks."""
        faces = np.stack([_upright(image, points) for image, points in zip(pictures, landmarks, strict=True)])
        (vectors,) = self._network(faces[..., ::-1].transpose(0, 3, 1, 2), ("embedding",))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class LpipsFeatures:
    """AlexNet's five feature maps and LPIPS's linear heads. Source: R. Zhang et al., LPIPS, CVPR 2018."""

    _CONVOLUTIONS = (("0", 4, 2), ("3", 1, 2), ("6", 1, 1), ("8", 1, 1), ("10", 1, 1))  # name, stride, padding
    _POOL_BEFORE = ("3", "6")

    def __init__(self, alexnet: Path, heads: Path) -> None:
        weights, linear = read_official(alexnet), read_official(heads)
        try:
            self.heads = [linear[f"lin{number}.model.1.weight"].float() for number in range(5)]
            self._layers = [
                (name, weights[f"features.{name}.weight"], weights[f"features.{name}.bias"], stride, padding)
                for name, stride, padding in self._CONVOLUTIONS
            ]
        except KeyError as error:
            raise DataError(f"{alexnet.name} and {heads.name} are not AlexNet and LPIPS: no {error}") from error
        self._shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        self._scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, pictures: Image) -> list[Tensor]:
        rgb = torch.from_numpy(np.ascontiguousarray(pictures[..., ::-1])).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = (rgb - self._shift) / self._scale
        features: list[Tensor] = []
        for name, weight, bias, stride, padding in self._layers:
            if name in self._POOL_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            features.append(x)
        return features


class InceptionFeatures:
    """The 2,048 pooled features that FID and KID are defined with."""

    def __init__(self, file: Path) -> None:
        self._network = Inception().eval()
        try:
            missing, unknown = self._network.load_state_dict(read_official(file), strict=False)
        except RuntimeError as error:
            raise DataError(f"{file} is not the Inception that FID is defined with") from error
        # Older files do not count batches, which nothing here needs.
        if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
            raise DataError(f"{file} is not the Inception that FID is defined with")

    @torch.no_grad()
    def __call__(self, pictures: Image) -> np.ndarray:
        rgb = torch.from_numpy(np.ascontiguousarray(pictures[..., ::-1])).permute(0, 3, 1, 2).float() / 255
        return self._network(rgb).numpy()


def lpips(weights: Path) -> LpipsFeatures | None:
    """LPIPS where both of its files are there, else None. Raises DataError for files that are not the official ones."""
    files = [weights / name for name in ("alexnet-owt-7be5be79.pth", "alex.pth")]
    return LpipsFeatures(*files) if all(file.is_file() for file in files) else None


def inception(weights: Path) -> InceptionFeatures | None:
    """FID's Inception where its file is there, else None."""
    file = weights / "pt_inception-2015-12-05-6726825d.pth"
    return InceptionFeatures(file) if file.is_file() else None


def read_official(file: Path) -> dict[str, Tensor]:
    """The tensors of one of the OFFICIAL files. Raises DataError for any other file of that name."""
    beginning, origin = OFFICIAL[file.name]
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(beginning):
        raise DataError(f"{file} is not the official file (sha256 {found[:8]}, not {beginning}); take it from {origin}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{file} cannot be read safely; take it from {origin}") from error


def feature_distance(
    made: Sequence[Tensor], truth: Sequence[Tensor], regions: Sequence[Tensor], heads: Sequence[Tensor] | None = None
) -> list[np.ndarray]:
    """N distances of feature maps around each of `regions` (N1HW, 1 = counts): LPIPS's formula.

    The squared difference of the vectors of unit length, weighted by channel with `heads` and then summed over the
    layers; without heads every channel weighs 1, and the layers' mean is taken.
    """
    totals = [torch.zeros(len(region)) for region in regions]
    for number, (a, b) in enumerate(zip(made, truth, strict=True)):
        if heads is None:
            lengths = a.square().sum(dim=1, keepdim=True) * b.square().sum(dim=1, keepdim=True)
            apart = 2 - 2 * (a * b).sum(dim=1, keepdim=True) / lengths.sqrt().clamp_min(1e-8)
        else:
            apart = F.conv2d((_unit(a) - _unit(b)) ** 2, heads[number])
        for total, region in zip(totals, regions, strict=True):
            near = F.adaptive_max_pool2d(region, a.shape[-2:])
            total += (apart * near).sum(dim=(1, 2, 3)) / near.sum(dim=(1, 2, 3)).clamp_min(1.0)
    return [(total / (1 if heads else len(made))).numpy() for total in totals]


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _upright(image: Image, landmarks: Points) -> Image:
    matrix = similarity(landmarks, EMBEDDING_TEMPLATE)
    return cv2.warpAffine(image, matrix, (_EMBEDDING_PX, _EMBEDDING_PX))
