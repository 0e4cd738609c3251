"""Baseline of `scripts/bench.py --baseline classic`: a plain 64-to-1024-channel U-Net.

It represents the class of network that mask-removal projects ship: two 3x3 convolutions per level, max pooling,
transposed convolutions, 31 M parameters. Only its speed matters, so its weights are random. Architecture: O.
Ronneberger and others, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, with padded
convolutions. It has the same uint8 inputs and outputs as our own networks, so one engine runs both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise SystemExit("the classic baseline needs the package onnx\ninstall it: pip install onnx") from error

CHANNELS = (64, 128, 256, 512, 1024)
SIDE_PX = 256


def write_classic_unet(path: Path, channels: Sequence[int] = CHANNELS, side_px: int = SIDE_PX) -> Path:
    """Writes the ONNX file: inputs `face` and `mask`, output `restored`, all 1 x side x side x channels uint8."""
    graph = _Graph()
    x = graph.concat(graph.planes("face"), graph.planes("mask"))
    skips, width = [], 4
    for level, wider in enumerate(channels):
        if level:
            skips.append(x)
            x = graph.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        x, width = graph.two_convolutions(x, width, wider), wider
    for skip, narrower in zip(reversed(skips), reversed(channels[:-1]), strict=True):
        x = graph.concat(graph.upsample(x, width, narrower), skip)
        x, width = graph.two_convolutions(x, 2 * narrower, narrower), narrower
    graph.picture(graph.convolution(x, width, 3, kernel=1), "restored")

    tensors = {"face": 3, "mask": 1, "restored": 3}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.UINT8, [1, side_px, side_px, depth])
        for name, depth in tensors.items()
    }
    proto = helper.make_graph(
        graph.nodes, "classic_unet", [values["face"], values["mask"]], [values["restored"]], graph.weights
    )
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class _Graph:
    """Collects nodes and weights; each method adds some and returns the name of the result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(1)

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def weight(self, values: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def random(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Weights that preserve the scale of activations, so that no layer sees only zeros or infinities."""
        return self.weight(self._rng.standard_normal(shape, np.float32) * np.sqrt(2.0 / fan_in))

    def concat(self, first: str, second: str) -> str:
        return self.node("Concat", [first, second], axis=1)

    def convolution(self, x: str, width: int, wider: int, kernel: int = 3) -> str:
        weights = self.random((wider, width, kernel, kernel), width * kernel * kernel)
        bias = self.weight(np.zeros(wider))
        return self.node("Conv", [x, weights, bias], kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)

    def two_convolutions(self, x: str, width: int, wider: int) -> str:
        x = self.node("Relu", [self.convolution(x, width, wider)])
        return self.node("Relu", [self.convolution(x, wider, wider)])

    def upsample(self, x: str, width: int, narrower: int) -> str:
        weights, bias = self.random((width, narrower, 2, 2), width), self.weight(np.zeros(narrower))
        return self.node("ConvTranspose", [x, weights, bias], kernel_shape=[2, 2], strides=[2, 2])

    def planes(self, door: str) -> str:
        """uint8 NHWC to float NCHW in 0..1; cast before transpose, as the contract requires."""
        x = self.node("Cast", [door], to=TensorProto.FLOAT)
        x = self.node("Transpose", [x], perm=[0, 3, 1, 2])
        return self.node("Mul", [x, self.weight(np.array(1 / 255))])

    def picture(self, x: str, door: str) -> str:
        """Any float NCHW to uint8 NHWC."""
        x = self.node("Mul", [self.node("Sigmoid", [x]), self.weight(np.array(255))])
        x = self.node("Transpose", [self.node("Round", [x])], perm=[0, 2, 3, 1])
        return self.node("Cast", [x], door, to=TensorProto.UINT8)
