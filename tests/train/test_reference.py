"""The copy from the reference: operators that every engine has, a start that changes nothing, and what it learns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engines.backends.nvidia import make_logger
from engines.backends.tensorrt_plan import _parse, _strongly_typed
from engines.contract import CROP_PX
from train import checkpoint, losses
from train.config import RECIPES
from train.export.export import _write_onnx
from train.hardware import TrainingError
from train.networks.reference import ReferenceCopy, closer, light, warped
from train.networks.unet import Attention, RestoreUNet
from train.networks.unet_export import RestoreExport
from train.onnx_runner import onnx_runner
from train.schedule import ScheduleError
from train.task import ModelIO
from train.tasks.restore import RestoreTask

SHIPPED = Path(__file__).parents[2] / "train/weights/restore.safetensors"
SMALL = (8, 8, 16, 16, 16)


class Toy(nn.Module):
    """A picture moved by a flow at a quarter of its size that attention at 16x16 makes: nothing else of a restorer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.attend, self.flow = nn.Conv2d(3, 8, 4, 4), Attention(8), nn.Conv2d(8, 2, 3, padding=1)
        nn.init.normal_(self.attend.answer.weight, 0, 0.5)
        nn.init.normal_(self.flow.weight, 0, 0.05)

    def forward(self, face: Tensor) -> Tensor:
        x = face.to(self.flow.weight.dtype).permute(0, 3, 1, 2) / 255
        moved = warped(x, self.flow(self.attend(self.stem(x))))
        return (moved * 255).round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def smooth(seed: int, side: int, count: int = 1) -> Tensor:
    """NCHW pictures in 0..1 with structure of a few pixels."""
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def as_bytes(picture: Tensor) -> Tensor:
    return (picture * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A folder with the toy's two files, what it is fed, and what torch makes of that."""
    folder, face = tmp_path_factory.mktemp("toys"), as_bytes(smooth(1, 64))
    shape = (1, 64, 64, 3)
    toy = ModelIO(Toy().eval(), {"face": shape}, {"moved": shape}, {"face": {0: "batch"}})
    for precision in ("fp32", "fp16"):
        _write_onnx(toy, precision, folder / f"toy.{precision}.onnx")
    with torch.no_grad():
        return folder, face, toy.module(face)


def by_onnxruntime(file: Path, face: Tensor) -> np.ndarray:
    return onnx_runner(file, 1)({"face": face.numpy()})["moved"]


def by_openvino(file: Path, face: Tensor) -> np.ndarray:
    from engines.offline import import_offline

    if importlib.util.find_spec("openvino") is None:
        pytest.skip("NOT TRIED in OpenVINO: it is not installed")
    compiled = import_offline("openvino").Core().compile_model(str(file), "CPU")
    (moved,) = compiled({"face": face.numpy()}).values()
    return np.asarray(moved)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("run", [by_onnxruntime, by_openvino])
def test_engines_sample_grids_and_attend(
    toys: tuple[Path, Tensor, Tensor], run: Callable[[Path, Tensor], np.ndarray], precision: str
) -> None:
    folder, face, moved = toys
    apart = np.abs(run(folder / f"toy.{precision}.onnx", face).astype(int) - moved.numpy())
    assert (face.int() - moved.int()).abs().float().mean() > 5  # it does move
    assert apart.mean() < 1.0 and apart.max() < 20  # bf16 places a pixel a tenth beside


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_parses_grids_and_attention(toys: tuple[Path, Tensor, Tensor], precision: str) -> None:
    parse(toys[0] / f"toy.{precision}.onnx")


def parse(file: Path) -> None:
    """As a build of an engine does, which needs no GPU. Raises EngineBuildError."""
    library = pytest.importorskip("tensorrt_rtx", reason="NOT PARSED by TensorRT: tensorrt-rtx is not installed")
    logger = make_logger(library)
    network = library.Builder(logger).create_network(_strongly_typed(library))
    _parse(library, network, file, logger)
    assert network.num_outputs == 1


def opened(network: RestoreUNet) -> RestoreUNet:
    """A network that copies with an open gate, from other places."""
    assert network.copy is not None
    nn.init.constant_(network.copy.opening, 0.08)
    for level in (network.copy.coarse, network.copy.middle, network.copy.fine):
        nn.init.normal_(level.head.weight, 0, 0.05)
    return network


def planes(side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Face, hole, reference and where that is valid."""
    hole, valid = torch.zeros(1, 1, side, side), torch.ones(1, 1, side, side)
    hole[..., side // 2 : -side // 4, side // 4 : -side // 4] = 1.0
    valid[..., : side // 8, :] = 0.0
    return smooth(2, side), hole, smooth(3, side), valid


@pytest.mark.parametrize("fine", [True, False])
def test_at_first_it_changes_nothing_at_all(fine: bool) -> None:
    network = RestoreUNet(SMALL, copy=True).eval()
    given = planes(CROP_PX if fine else 128)
    with torch.no_grad():
        made = network(*given, fine=fine)
        network.copy = None
        assert torch.equal(made, network(*given, fine=fine))


def test_the_shipped_weights_go_on_with_it_and_without() -> None:
    for copy in (False, True):
        recipe = RECIPES["restore", "debug"].but(copy=copy)
        task = RestoreTask(recipe, Path())
        averaged = checkpoint.AveragedWeights(task.modules["network"], 0.9)
        checkpoint.start(SHIPPED, task, averaged, recipe, anew=True)
        assert (task.modules["network"].copy is not None) == copy
    other = RestoreTask(RECIPES["restore", "debug"].but(attention=True), Path())
    with pytest.raises(checkpoint.CheckpointError, match="another shape"):  # only new parts may be missing
        checkpoint.start(SHIPPED, other, averaged, RECIPES["restore", "debug"], anew=True)


def test_exported_it_is_the_same() -> None:
    torch.manual_seed(4)
    network = opened(RestoreUNet(SMALL, copy=True)).eval()
    face, hole, reference, valid = ((plane * 255).round() / 255 for plane in planes(CROP_PX))
    with torch.no_grad():
        made, copied = network(face, hole, reference, valid, apart=True)
        restored = RestoreExport(network)(*(as_bytes(plane) for plane in (face, hole, reference, valid)))
    assert copied.gate[..., 130:190, 70:190].mean() > 0.2
    expected = torch.where(hole > 0, made.clamp(0, 1), face).permute(0, 2, 3, 1) * 255
    assert (restored.float() - expected).abs().max() <= 1.01


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_run_a_restorer_that_copies(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    module = RestoreExport(opened(RestoreUNet(SMALL, copy=True)).eval())
    feeds = dict(zip(("face", "mask", "reference", "reference_mask"), map(as_bytes, planes(CROP_PX)), strict=True))
    shapes = {name: tuple(feed.shape) for name, feed in feeds.items()}
    file = tmp_path / "restore.onnx"
    dynamic = {name: {0: "batch"} for name in feeds}
    _write_onnx(ModelIO(module, shapes, {"restored": shapes["face"]}, dynamic), precision, file)
    with torch.no_grad():
        expected = module(*feeds.values()).numpy().astype(int)
    made = onnx_runner(file, 1)({name: feed.numpy() for name, feed in feeds.items()})["restored"]
    assert np.abs(made - expected).mean() < 0.5
    parse(file)


def test_it_stays_within_its_budget() -> None:
    network, given = RestoreUNet(copy=True).eval(), planes(CROP_PX)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*given)
    assert counter.get_total_flops() / 2 < 2.3e9
    assert sum(parameter.numel() for parameter in network.parameters()) < 7e6


def test_light_is_a_gain_and_an_offset_of_what_both_show() -> None:
    face, hole, _, _ = planes(128)
    gain = torch.tensor([1.2, 1.0, 0.8]).view(1, 3, 1, 1)
    other = (face - 0.05) / gain
    found, offset = light(face, other, 1 - hole)
    assert (found - gain).abs().max() < 0.05
    assert (found * other.mean() + offset - (gain * other.mean() + 0.05)).abs().max() < 0.02
    found, offset = light(face, other, hole * 0)  # nothing is seen: as it is
    assert (found - 1).abs().max() < 1e-3 and offset.abs().max() < 1e-3


def psnr(a: Tensor, b: Tensor, where: Tensor) -> float:
    error = ((a - b).square() * where).sum() / (3 * where.sum())
    return float(-10 * error.log10())


def bent(seed: int, face: Tensor) -> Tensor:
    """The faces moved by a few pixels, smoothly, and in another light."""
    generator = torch.Generator().manual_seed(seed)
    flow = 0.04 * torch.randn(len(face), 2, 4, 4, generator=generator)
    return (warped(face, flow) * (0.9 + 0.2 * torch.rand(len(face), 3, 1, 1, generator=generator))).clamp(0, 1)


def test_a_face_that_moved_is_found_by_what_both_show() -> None:
    face = smooth(1000, 128, 4)
    hole = planes(128)[1].expand(4, -1, -1, -1)
    moved, everywhere = bent(0, face), torch.ones_like(hole)
    copy = ReferenceCopy()
    with torch.no_grad():
        found = copy(torch.cat((face * (1 - hole), hole, moved, everywhere), 1), moved, everywhere).whole().picture
        gain, offset = light(face, moved, 1 - hole)
    where_it_was = moved * gain + offset
    assert psnr(found, face, 1 - hole) > psnr(where_it_was, face, 1 - hole) + 10
    assert psnr(found, face, hole) > psnr(where_it_was, face, hole) + 2.5  # and in the hole, which nobody sees


def test_a_face_that_did_not_move_stays_where_it_is() -> None:
    face, hole, _, _ = planes(128)
    flow = torch.zeros(1, 2, 32, 32)
    with_known = torch.cat((face, 1 - hole), 1)
    assert not closer(with_known, torch.cat((face, torch.ones_like(hole)), 1), flow).any()


def test_bent_pairs_teach_it_when_to_copy() -> None:
    torch.manual_seed(6)
    copy, side = ReferenceCopy((8, 12, 16)), 64
    optimizer = torch.optim.Adam(copy.parameters(), 3e-3)
    hole = planes(side)[1].expand(4, -1, -1, -1)
    everywhere, painted = torch.ones_like(hole), torch.full((4, 3, side, side), 0.5)

    def restored(face: Tensor, reference: Tensor) -> Tensor:
        inputs = torch.cat((face * (1 - hole), hole, reference, everywhere), 1)
        copied = copy(inputs, reference, everywhere).whole()
        return painted + copied.gate * (copied.picture - painted)

    face = smooth(1000, side, 4)
    with torch.no_grad():
        before = psnr(restored(face, face), face, hole)
    for step in range(60):
        truth = smooth(step, side, 4)
        loss = losses.copied(restored(truth, bent(step, truth)), truth, hole)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert psnr(restored(face, face), face, hole) > before + 6  # the same photograph: `self`


def test_what_does_not_go_together_is_said() -> None:
    debug = RECIPES["restore", "debug"]
    with pytest.raises(ScheduleError, match="add --copy"):
        RestoreTask(debug.but(weights={"copied": 1.0}), Path())
    with pytest.raises(TrainingError, match="give both"):
        RestoreTask(debug.but(copy_alone=True), Path())


def test_alone_it_learns_and_the_rest_does_not(small_data: Path) -> None:
    off = dict.fromkeys(("perceptual", "style", "adv_patch", "adv_global"), 0.0)
    recipe = RECIPES["restore", "debug"].but(copy=True, copy_alone=True, weights={"copied": 1.0, **off})
    task = RestoreTask(recipe, small_data)
    samples = [task.sample(np.random.default_rng(seed)) for seed in range(2)]
    assert all(sample["reference_mask"].any() for sample in samples)
    batch = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
    before = {name: value.clone() for name, value in task.modules["network"].named_parameters()}
    assert "copied" in task.train_step(batch, 0.5)
    moved = {name for name, value in task.modules["network"].named_parameters() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("copy.") for name in moved)
