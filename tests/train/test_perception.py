"""Backbones: SqueezeNet tells a picture from noise, VGG16's arithmetic is torchvision's, another file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import losses
from train.data.face_set import DataError
from train.networks import backbones
from train.networks.perception import SqueezeNetFeatures, Vgg16Features, load_backbone


def test_squeezenet_features_know_a_picture_from_noise(data: Path) -> None:
    features = load_backbone("squeezenet", data)
    picture = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).clone()
    near, far = picture * 0.95, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    hole = torch.ones(1, 1, 64, 64)
    truth = features(picture)
    assert losses.perceptual(features(near), truth, hole) < 0.3 * losses.perceptual(features(far), truth, hole)
    assert losses.style(features(near), truth, hole) < 0.3 * losses.style(features(far), truth, hole)


def test_squeezenet_features_are_those_of_its_file(data: Path) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8)
    network, file = load_backbone("squeezenet", data), backbones.squeezenet(data / "weights", 1)
    wanted = dict(zip(file.layers, file(pictures), strict=True))
    made = network(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    for layer, features in zip(network.LAYERS, made, strict=True):
        assert features.shape == wanted[layer].shape
        assert (features - wanted[layer]).abs().mean() < 0.02 * wanted[layer].abs().mean()


def torchvision_vgg16() -> nn.Sequential:
    """The convolutional part as torchvision defines it, with random weights: its state dict has the official names."""
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    width = 3
    for item in (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512):
        if item == "pool":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(width, int(item), 3, padding=1), nn.ReLU()]
            width = int(item)
    return nn.Sequential(*layers)


@pytest.fixture
def vgg16_file(tmp_path: Path) -> Path:
    file = tmp_path / Vgg16Features.FILE
    torch.save({f"features.{name}": value for name, value in torchvision_vgg16().state_dict().items()}, file)
    return file


def test_vgg16_computes_what_torchvision_does(vgg16_file: Path) -> None:
    picture_bgr = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    seen: list[Tensor] = []
    x = (picture_bgr.flip(1) - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    for number, layer in enumerate(torchvision_vgg16()):
        x = layer(x)
        if number in (3, 8, 15, 22):  # relu1_2, relu2_2, relu3_3, relu4_3
            seen.append(x)
    features = Vgg16Features(vgg16_file, sha256_start=None)(picture_bgr)
    assert [feature.shape for feature in features] == [feature.shape for feature in seen]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features, seen, strict=True))


def test_another_file_is_not_taken_for_vgg16(vgg16_file: Path) -> None:
    with pytest.raises(DataError, match="SHA-256 differs"):
        Vgg16Features(vgg16_file)


def test_the_choice_of_backbone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert isinstance(load_backbone("auto", data), SqueezeNetFeatures)
    with pytest.raises(DataError, match="put torchvision's official"):
        load_backbone("vgg16", tmp_path)
    with pytest.raises(DataError, match="--data"):
        load_backbone("squeezenet", tmp_path)
    with pytest.raises(DataError, match="no backbone `vgg19`; there are: auto, vgg16, squeezenet"):
        load_backbone("vgg19", data)


def test_vgg16_is_found_where_torch_downloads_to(
    vgg16_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    vgg16_file.rename(tmp_path / "checkpoints" / vgg16_file.name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DataError, match="SHA-256 differs"):  # found, and seen to be none
        load_backbone("auto", tmp_path / "data")


def test_gradients_reach_the_picture(data: Path) -> None:
    features = load_backbone("squeezenet", data)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.no_grad():
        truth = features(picture.detach() * 0.5)
    hole = torch.ones(1, 1, 64, 64)
    seen = features(picture)
    (losses.perceptual(seen, truth, hole) + losses.style(seen, truth, hole)).backward()
    assert F.max_pool2d(picture.grad.abs(), 8).gt(0).all()
