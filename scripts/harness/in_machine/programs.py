"""Runs programs with a window on the virtual camera in the virtual machine, and keeps their screenshots.

    python -m scripts.harness.in_machine.programs CLIP NAME ...      (results: $SHARED/NAME/*.png, $SHARED/told.json)

A program may have a virtual camera of its own: its frames are kept as other-*.png.

The emulated processor is too slow for the networks and for finding a picture in a screenshot: CLIP is restored already,
and the host looks at the screenshots.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from scripts.harness.in_machine.scene import LOG, LOOPBACK, Scene, captures, run, until
from scripts.harness.readers.programs import table
from scripts.harness.readers.programs.screen import may_show_film, screen
from scripts.harness.readers.session import background

SCREEN = "1024x768"
SHOTS, PAUSE_S = 4, 3.0
OTHER_LOOPBACK = "/dev/video9"


def main() -> None:
    # As docs/programs.md says for OBS: the first node is for its own virtual camera.
    labels = 'card_label="OBS Virtual Camera,OccluFix Camera"'
    options = ["video_nr=9,10", "devices=2", "exclusive_caps=1,1", "max_buffers=4", labels]
    run("modprobe", "-d", os.environ["KERNEL"], "v4l2loopback", *options)
    scene, told = Scene(sys.argv[1]), dict[str, dict[str, Any]]()
    shared = Path(os.environ["SHARED"])
    for name in sys.argv[2:]:
        began = time.monotonic()
        try:
            scene.start(scene.clip)
            told[name] = _keep_screenshots(name, scene, shared / name)
        except BaseException as error:  # noqa: BLE001  the host's test reports it
            told[name] = {"failed": f"{type(error).__name__}: {error}"}
        told[name]["took"] = round(time.monotonic() - began, 1)
        sys.stdout.write(f"{name} {json.dumps(told[name])}\n")
        sys.stdout.flush()
        (shared / "told.json").write_text(json.dumps(told))
    scene.end(signal.SIGTERM)
    (shared / "daemon.log").write_bytes(LOG.read_bytes() if LOG.exists() else b"")


def _keep_screenshots(name: str, scene: Scene, folder: Path) -> dict[str, Any]:
    import cv2

    program, place = table.PROGRAMS[name], Path("/run") / name
    assert program.v4l2 is not None
    folder.mkdir()
    place.mkdir()
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    with (
        screen(environment, place, SCREEN) as (around, look),
        background(table.inside(program.v4l2(place, LOOPBACK)), around, folder / "program.log") as process,
    ):

        def alive() -> None:
            cv2.imwrite(str(folder / "newest.png"), look())
            assert process.poll() is None, f"it ended with {process.returncode}"

        waited = until(lambda: may_show_film(look()), "the film in a window", alive)
        readers = scene.status()["readers"]
        for number in range(SHOTS):
            cv2.imwrite(str(folder / f"{number}.png"), look())
            time.sleep(PAUSE_S)
        if captures(OTHER_LOOPBACK):
            read = [
                "ffmpeg",
                "-nostdin",
                "-loglevel",
                "error",
                "-f",
                "v4l2",
                "-i",
                OTHER_LOOPBACK,
                "-vsync",
                "passthrough",
            ]
            run(*read, "-frames:v", str(SHOTS), str(folder / "other-%d.png"))
    return {"seconds to the picture": waited, "readers": readers}


if __name__ == "__main__":
    main()
