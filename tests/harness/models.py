"""Tiny ONNX models with the inputs and outputs of the contract, for the tests of the engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.manifest import MANIFEST, sha256_of

Shape = Sequence[int | str]
TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def write_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, tuple[str, Shape]],
    constants: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Inputs are uint8, outputs (type, shape); a text in a shape is an open axis."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_restore(path: Path, half: bool = False, batch: int | str = "n") -> Path:
    """Hidden pixels become the reference's inverse, through a convolution; known pixels are the input's own."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    kernel = np.zeros((3, 3, 1, 1), np.float16 if half else np.float32)
    kernel[range(3), range(3)] = -1.0
    nodes = [
        *(helper.make_node("Cast", [door], [f"{door}_cast"], to=kind) for door in ("face", "mask", "reference")),
        helper.make_node("Transpose", ["reference_cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "white"], ["inverse"]),
        helper.make_node("Transpose", ["inverse"], ["back"], perm=[0, 2, 3, 1]),
        helper.make_node("Clip", ["back", "zero", "full"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["made"]),
        helper.make_node("Greater", ["mask_cast", "half_hidden"], ["hidden"]),
        helper.make_node("Where", ["hidden", "made", "face_cast"], ["chosen"]),
        helper.make_node("Cast", ["chosen"], ["restored"], to=TensorProto.UINT8),
    ]
    picture, mask = [batch, 256, 256, 3], [batch, 256, 256, 1]
    constants = {
        "kernel": kernel,
        "white": np.full(3, 255, kernel.dtype),
        "zero": np.array(0, kernel.dtype),
        "full": np.array(255, kernel.dtype),
        "half_hidden": np.array(127, kernel.dtype),
    }
    inputs = {"face": picture, "mask": mask, "reference": picture, "reference_mask": mask}
    return write_graph(path, nodes, inputs, {"restored": ("uint8", picture)}, constants)


def write_hidden(path: Path, half: bool = False) -> Path:
    """The brightest colour of a pixel."""
    nodes = [
        helper.make_node("Cast", ["face"], ["cast"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["cast", "axes"], ["most"], keepdims=1),
        helper.make_node("Cast", ["most"], ["hidden"], to=TensorProto.UINT8),
    ]
    tensors = {"face": ["n", 256, 256, 3]}, {"hidden": ("uint8", ["n", 256, 256, 1])}
    return write_graph(path, nodes, *tensors, {"axes": np.array([3], np.int64)})


def write_faces(path: Path, half: bool = False) -> Path:
    """The mean of each 8x8 cell, 0..1, on pictures of any size."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["cast"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["cells"], strides=[8, 8]),
        helper.make_node("Transpose", ["cells"], ["rows_first"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["rows_first"], ["heat"], to=TensorProto.FLOAT),
    ]
    tensors = {"frame": ["n", "height", "width", 3]}, {"heat": ("float32", ["n", "rows", "columns", 1])}
    kernel = np.full((1, 3, 8, 8), 1 / (3 * 64 * 255), np.float16 if half else np.float32)
    return write_graph(path, nodes, *tensors, {"kernel": kernel})


def write_embed(path: Path, half: bool = False) -> Path:
    """The mean of each channel, of the mask too, again and again."""
    nodes = [
        *(helper.make_node("Cast", [door], [f"{door}_cast"], to=TensorProto.FLOAT) for door in ("face", "mask")),
        *(
            helper.make_node("ReduceMean", [f"{door}_cast", "axes"], [door + "_mean"], keepdims=0)
            for door in ("face", "mask")
        ),
        helper.make_node("Concat", ["face_mean", "mask_mean"], ["means"], axis=1),
        helper.make_node("Cast", ["means"], ["means_cast"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("MatMul", ["means_cast", "kernel"], ["spread"]),
        helper.make_node("Cast", ["spread"], ["embedding"], to=TensorProto.FLOAT),
    ]
    tensors = {"face": ["n", 256, 256, 3], "mask": ["n", 256, 256, 1]}, {"embedding": ("float32", ["n", 128])}
    kernel = np.tile(np.eye(4, dtype=np.float16 if half else np.float32) / 255, (1, 32))
    return write_graph(path, nodes, *tensors, {"axes": np.array([1, 2], np.int64), "kernel": kernel})


WRITERS = {"restore": write_restore, "hidden": write_hidden, "faces": write_faces, "embed": write_embed}


def write_models(folder: Path) -> Path:
    """A folder as `python -m train export` makes it, with the tiny models."""
    picture, mask = [1, 256, 256, 3], [1, 256, 256, 1]
    tensors = {
        "restore": (
            {"face": picture, "mask": mask, "reference": picture, "reference_mask": mask},
            {"restored": picture},
        ),
        "hidden": ({"face": picture}, {"hidden": mask}),
        "faces": ({"frame": [1, 192, 320, 3]}, {"heat": [1, 24, 40, 1]}),
        "embed": ({"face": picture, "mask": mask}, {"embedding": [1, 128]}),
    }
    text = ""
    for name, (inputs, outputs) in tensors.items():
        text += f'[{name}]\nlicence = "MIT"\ntrained_on = "nothing"\nmetrics = {{ psnr = 1.5 }}\n'
        text += f"inputs = {_inline(inputs)}\noutputs = {_inline(outputs)}\n"
        for precision in ("fp32", "fp16"):
            file = folder / f"{name}.{precision}.onnx"
            WRITERS[name](file, precision == "fp16")
            text += f'[{name}.{precision}]\nfile = "{file.name}"\nsha256 = "{sha256_of(file)}"\n'
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def _inline(tensors: Mapping[str, Sequence[int]]) -> str:
    return "{ " + ", ".join(f"{name} = {list(shape)}" for name, shape in tensors.items()) + " }"
