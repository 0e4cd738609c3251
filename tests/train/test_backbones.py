"""Networks that pictures are measured with: their formula, and that only the official files are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from train.data.face_set import DataError, FaceSet
from train.networks import backbones
from train.networks.inception import Inception


def test_the_distance_of_features_by_hand() -> None:
    a, b = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    a[:, 0], b[:, 0] = 3.0, 5.0  # the same direction: no distance, whatever the length
    b[0, :, 0, 0] = torch.tensor([0.0, 7.0])  # at right angles: 2
    everywhere, corner = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    corner[..., :2, :2] = 1
    whole, part = backbones.feature_distance([a, a], [b, a], [everywhere, corner])
    assert whole == pytest.approx(2 / 4 / 2) and part == pytest.approx(2 / 2)  # the mean over two layers
    heads = [torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)] * 2
    (weighted,) = backbones.feature_distance([a, a], [b, a], [corner], heads)
    assert weighted == pytest.approx(0.5 + 0.25)  # summed over the layers, weighted by channel


def test_lpips_of_random_weights_is_nothing_for_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {"0": (64, 3, 11, 11), "3": (192, 64, 5, 5), "6": (384, 192, 3, 3), "8": (256, 384, 3, 3)}
    shapes["10"] = (256, 256, 3, 3)
    alexnet = {f"features.{name}.weight": torch.randn(shape) * 0.05 for name, shape in shapes.items()}
    alexnet |= {f"features.{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    heads = {f"lin{n}.model.1.weight": torch.rand(1, s[0], 1, 1) for n, s in enumerate(shapes.values())}
    assert backbones.lpips(tmp_path) is None
    torch.save(alexnet, tmp_path / "alexnet-owt-7be5be79.pth")
    torch.save(heads, tmp_path / "alex.pth")
    monkeypatch.setattr(backbones, "OFFICIAL", {name: ("", "") for name in backbones.OFFICIAL})
    network = backbones.lpips(tmp_path)
    assert network is not None
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    seen, region = network(pictures), torch.ones(2, 1, 96, 96)
    assert [x.shape[1] for x in seen] == [64, 192, 384, 256, 256]
    (same,) = backbones.feature_distance(seen, seen, [region], network.heads)
    (other,) = backbones.feature_distance(seen, [x.flip(0) for x in seen], [region], network.heads)
    assert same == pytest.approx(0, abs=1e-6) and (other > 0).all()


@pytest.mark.parametrize("name", backbones.OFFICIAL)
def test_a_file_that_only_bears_the_name_is_refused(tmp_path: Path, name: str) -> None:
    torch.save({}, tmp_path / name)
    with pytest.raises(DataError, match="not the official file"):
        backbones.read_official(tmp_path / name)


def test_inception_has_the_size_that_is_known_of_it() -> None:
    network = Inception().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_850_960
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2048)


def test_missing_and_broken_networks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        backbones.squeezenet(tmp_path, 1)
    (tmp_path / "mobilefacenet_y1_128d.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="not a readable network"):
        backbones.Embedding(tmp_path, 1)


def test_one_person_is_more_alike_than_two(data: Path) -> None:
    faces, embed = FaceSet(data, "eval"), backbones.Embedding(data / "weights", 1)
    people = list(faces.people.values())[:6]
    rows = [faces.rows[index] for members in people for index in members[:2]]
    pictures = np.stack([faces.image(index) for members in people for index in members[:2]])
    vectors = embed(pictures, [row.landmarks for row in rows]).reshape(6, 2, -1)
    same = (vectors[:, 0] * vectors[:, 1]).sum(axis=1)
    others = (vectors[:, 0] * np.roll(vectors[:, 1], 1, axis=0)).sum(axis=1)
    assert same.mean() > 0.45 and others.mean() < 0.25
