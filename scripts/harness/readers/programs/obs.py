"""OBS Studio's settings, written as files: one scene that the camera fills, and nothing that asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Of the picture that OBS composes, at its lower limits: the processor draws it, perhaps an emulated one.
CANVAS, RATE = (640, 360), 5
_CAMERA = (1280, 720)
_YUY2 = 4  # of libspa's video formats
_GLOBAL = """[General]
FirstRun=true
EnableAutoUpdates=false
LastVersion=536870912
[Basic]
Profile=Test
ProfileDir=Test
SceneCollection=Test
SceneCollectionFile=Test
ConfigOnNewProfile=false
[OBSWebSocket]
FirstLoad=false
ServerEnabled=false
"""
_PROFILE = f"""[General]
Name=Test
[Video]
BaseCX={CANVAS[0]}
BaseCY={CANVAS[1]}
OutputCX={CANVAS[0]}
OutputCY={CANVAS[1]}
FPSType=1
FPSInt={RATE}
"""
_ALONE = ("--multi", "--disable-shutdown-check", "--disable-updater", "--disable-missing-files-check")


def with_pipewire(folder: Path, node: str) -> list[str]:
    """OBS 30.1 and later: "Video Capture Device (PipeWire)". Until a format is chosen, it shows nothing."""
    chosen = {"encoded": False, "video_format": _YUY2, "width": _CAMERA[0], "height": _CAMERA[1]}
    return _command(folder, "pipewire-camera-source", {"device_id": node, "format": json.dumps(chosen)})


def with_v4l2(folder: Path, node: str) -> list[str]:
    """ "Video Capture Device (V4L2)", and OBS's own virtual camera with what it shows."""
    return [*_command(folder, "v4l2_input", {"device_id": node, "input": 0}), "--startvirtualcam"]


def _command(folder: Path, kind: str, settings: dict[str, Any]) -> list[str]:
    place = folder / "obs-studio"
    for path, text in {
        "global.ini": _GLOBAL,
        "user.ini": _GLOBAL,
        "basic/profiles/Test/basic.ini": _PROFILE,
        "basic/scenes/Test.json": json.dumps(_scenes(kind, settings)),
    }.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return ["env", f"XDG_CONFIG_HOME={folder}", "obs", *_ALONE]


def _scenes(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A scene collection: the camera, stretched into the whole picture."""
    item = {
        "name": "Camera",
        "id": 1,
        "visible": True,
        "align": 5,
        "bounds_type": 2,
        "bounds": {"x": float(CANVAS[0]), "y": float(CANVAS[1])},
        "pos": {"x": 0.0, "y": 0.0},
        "scale": {"x": 1.0, "y": 1.0},
    }
    return {
        "name": "Test",
        "current_scene": "Scene",
        "current_program_scene": "Scene",
        "scene_order": [{"name": "Scene"}],
        "sources": [
            {"id": kind, "name": "Camera", "settings": settings},
            {"id": "scene", "name": "Scene", "settings": {"items": [item], "id_counter": 1}},
        ],
    }
