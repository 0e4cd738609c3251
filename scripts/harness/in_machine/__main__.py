"""Runs the checks inside the virtual machine and writes their results."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from occlufix_vcam.diagnostics.setup import OPTIONS
from occlufix_vcam.system.linux import MODULE
from scripts.harness.in_machine import CHECKS
from scripts.harness.in_machine.scene import LOG, Scene, run


def load_modules() -> None:
    """Loads the modules; v4l2loopback with the options of `setup`."""
    kernel = os.environ["KERNEL"]
    words = shlex.split(OPTIONS.partition(MODULE)[2])
    options = ["video_nr=10", *(re.sub("=(.* .*)", r'="\1"', word) for word in words)]
    if other := os.environ.get("LOOPBACK"):  # another version of the module: the path of its file
        run("modprobe", "-d", kernel, "videodev")
        run("insmod", other, *options)
    else:
        run("modprobe", "-d", kernel, MODULE, *options)
    run("modprobe", "-d", kernel, "vivid", "node_types=0x1", "num_inputs=1", "input_types=0", "vid_cap_nr=0")


def main() -> None:
    load_modules()
    scene = Scene(sys.argv[1])
    wanted = sys.argv[2:] or list(CHECKS)
    found: dict[str, dict[str, Any]] = {}
    for name in wanted:
        began = time.monotonic()
        try:
            found[name] = CHECKS[name](scene)
        except BaseException as error:  # noqa: BLE001  the host's test reports it
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found[name]["took"] = round(time.monotonic() - began, 1)
        sys.stdout.write(f"{name} {json.dumps(found[name])}\n")
        sys.stdout.flush()
        Path(os.environ["SHARED"], "found.json").write_text(json.dumps(found))
    scene.end(signal.SIGTERM)
    Path(os.environ["SHARED"], "daemon.log").write_bytes(LOG.read_bytes() if LOG.exists() else b"")


if __name__ == "__main__":
    main()
