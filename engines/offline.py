"""The only way to OpenVINO, ONNX Runtime and InsightFace, which would report home if they were imported plainly.

- `import openvino` brings its converter along, which sends an event through the package `openvino_telemetry` and keeps
  an identifier under ~/intel. Where that package is missing, the converter sends nothing.
- ONNX Runtime queues device identifier, processor and paths, and looks up its maker's host every few seconds.
- Albumentations, which InsightFace imports, asks for a newer version of itself.

Each of them wants to be told before it is imported. The first two are silent where the variable CI is set, so an
ordinary test run does not notice them; tests/network/ does.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

_SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
_OPENVINO_REPORTER = "openvino_telemetry"

#: Libraries that were there before their switch was.
_imported_before: set[str] = set()


def import_offline(name: str) -> Any:
    """The module `name`, imported with all reporting off, here and in processes begun from here. Raises ImportError."""
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        _imported_before.add("onnxruntime")
    os.environ.update(_SWITCHES)
    # None is Python's own mark of a module that must not be imported: to OpenVINO the package is not installed.
    sys.modules.setdefault(_OPENVINO_REPORTER, None)  # type: ignore[arg-type]
    module = importlib.import_module(name)
    if name == "onnxruntime" and hasattr(module, "disable_telemetry_events"):
        module.disable_telemetry_events()  # on Windows events go to the system's own log too
    return module


def reporting() -> list[str]:
    """What may report home from this process, and why; empty where nothing can."""
    found = []
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        found.append("ONNX Runtime may report to its maker: ORT_DISABLE_TELEMETRY is not 1")
    elif "onnxruntime" in _imported_before:
        found.append("ONNX Runtime may report to its maker: it was imported before that was switched off")
    kept_out = _OPENVINO_REPORTER in sys.modules and sys.modules[_OPENVINO_REPORTER] is None
    if "openvino" in sys.modules and not kept_out:
        found.append(f"OpenVINO may report to its maker: the package {_OPENVINO_REPORTER} is not kept out")
    return found
