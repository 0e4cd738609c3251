"""The only way to import OpenVINO, ONNX Runtime and InsightFace, which otherwise report home.

- `import openvino` loads its converter, which sends an event through the package `openvino_telemetry` and keeps an
  identifier under ~/intel. If that package is missing, the converter sends nothing.
- ONNX Runtime queues device identifier, processor and paths, and looks up its vendor's host every few seconds.
- Albumentations, which InsightFace imports, checks for a newer version of itself.

Each must be switched off before it is imported. The first two are silent if the variable CI is set, so an ordinary test
run does not notice them; tests/network/ does.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

_SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
_OPENVINO_REPORTER = "openvino_telemetry"

#: Libraries that were imported before they could be switched off.
_imported_before: set[str] = set()


def import_offline(name: str) -> Any:
    """Imports the module `name` with all reporting off, in this process and its children. Raises ImportError."""
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        _imported_before.add("onnxruntime")
    os.environ.update(_SWITCHES)
    # None marks a module that must not be imported: OpenVINO then takes the package for not installed.
    sys.modules.setdefault(_OPENVINO_REPORTER, None)  # type: ignore[arg-type]
    module = importlib.import_module(name)
    if name == "onnxruntime" and hasattr(module, "disable_telemetry_events"):
        module.disable_telemetry_events()  # on Windows, events go to the system's log too
    return module


def reporting() -> list[str]:
    """What may report home from this process, and why; empty if nothing can."""
    found = []
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        found.append("ONNX Runtime may report to its vendor: ORT_DISABLE_TELEMETRY is not 1")
    elif "onnxruntime" in _imported_before:
        found.append("ONNX Runtime may report to its maker: it was imported before that was switched off")
    kept_out = _OPENVINO_REPORTER in sys.modules and sys.modules[_OPENVINO_REPORTER] is None
    if "openvino" in sys.modules and not kept_out:
        found.append(f"OpenVINO may report to its vendor: the package {_OPENVINO_REPORTER} is not kept out")
    return found
