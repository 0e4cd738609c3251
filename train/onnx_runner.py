"""An exported network as a function of arrays, on the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.offline import import_offline
from train.data.face_set import DataError

onnxruntime = import_offline("onnxruntime")

Arrays = dict[str, np.ndarray]
Runner = Callable[[Mapping[str, np.ndarray]], Arrays]
"""Inputs by the contract's names, batch first, to outputs by name."""


def open_session(file: Path, threads: int, hint: str) -> Any:
    """A file in ONNX Runtime, on the processor. Raises DataError; of a missing file, with `hint`."""
    if not file.is_file():
        raise DataError(f"there is no {file}; {hint}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what ONNX Runtime raises for a broken file has no common class
        raise DataError(f"{file} is not a readable network: {str(error).splitlines()[0]}") from error


def onnx_runner(file: Path, threads: int) -> Runner:
    """An exported network in ONNX Runtime. Raises DataError."""
    session = open_session(file, threads, "give an ONNX file or a run folder")
    inputs = [tensor.name for tensor in session.get_inputs()]
    outputs = [tensor.name for tensor in session.get_outputs()]

    def run(feeds: Mapping[str, np.ndarray]) -> Arrays:
        missing = set(inputs) - set(feeds)
        if missing:
            raise DataError(f"{file} wants {', '.join(sorted(missing))}: it is no network of this kind")
        return dict(zip(outputs, session.run(outputs, {name: feeds[name] for name in inputs}), strict=True))

    return run
