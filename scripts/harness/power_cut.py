"""A recording in the virtual machine whose power is cut: what is on its disk afterwards.

The machine's memory is lost with everything that the system had not yet written; its disk is a file here, which is
repaired as at the next start, by its journal. The machine records with `python -m scripts.harness.power_cut RATE`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from scripts.vm.machine import Machine

SIZE = (320, 240)
DISK_BYTES = 256 * 2**20
PLACE = Path("/run/disk")
RECORDED = "recorded "


def recorded_until_power_cut(machine: Machine, folder: Path, seconds: float, rate: float, limit_s: float) -> float:
    """Records in the machine until `seconds`, then cuts its power. Leaves what is on the disk in `folder`/part.mp4.

    Returns the seconds that were recorded. Raises TimeoutError.
    """
    disk, results = folder / "disk", folder / "results"
    results.mkdir()
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    recorded = _run_until(machine, results, disk, seconds, rate, limit_s)
    if subprocess.run(["e2fsck", "-f", "-y", disk], stdout=subprocess.DEVNULL, check=False).returncode > 1:
        raise OSError("the file system cannot be repaired")
    subprocess.run(["debugfs", "-R", f"dump /call.part.mp4 {folder / 'part.mp4'}", disk], check=True)
    return recorded


def _run_until(machine: Machine, results: Path, disk: Path, seconds: float, rate: float, limit_s: float) -> float:
    here = Path(__file__).resolve().parents[2]
    (results / "command").write_text(
        f"cd '{here}'\nmodprobe -a -d '{machine.kernel}' virtio_blk ext4\nmkdir {PLACE}\nmount /dev/vda {PLACE}\n"
        f"'{sys.executable}' -u -m {__name__} {rate}\n"
    )
    console, ends_at = results / "console", time.monotonic() + limit_s
    drive = ["-drive", f"file={disk},format=raw,if=virtio"]
    with (
        console.open("wb") as told,
        subprocess.Popen([*machine._qemu(results, "2G"), *drive], stdin=subprocess.DEVNULL, stdout=told) as running,
    ):
        try:
            while (recorded := _recorded(console)) < seconds:
                with suppress(subprocess.TimeoutExpired):
                    raise OSError(f"it ended by itself: {running.wait(0.1)}; {console.read_text()[-500:]}")
                if time.monotonic() > ends_at:
                    raise TimeoutError(f"{recorded:.0f} s were recorded within {limit_s:.0f} s")
        finally:
            running.kill()
    return _recorded(console)


def _recorded(console: Path) -> float:
    lines = console.read_text(errors="replace").splitlines(keepends=True)
    told = [line for line in lines if line.startswith(RECORDED) and line.endswith("\n")]
    return float(told[-1].removeprefix(RECORDED)) if told else 0.0


def main() -> None:
    """Records for ever, and says for how long it did."""
    from occlufix_vcam.core.frame import Frame
    from occlufix_vcam.sinks.recorder import Recorder

    rate = float(sys.argv[1])
    noise = np.random.default_rng(0).integers(0, 200, (SIZE[1], SIZE[0], 3), np.uint8)
    recorder = Recorder(str(PLACE / "call.mp4"), size=SIZE, rate=rate, live=True)
    number, began = 0, time.monotonic()
    while True:
        recorder.send(Frame(noise + np.uint8(number % 50), number, 0.0))
        number += 1
        print(f"{RECORDED}{time.monotonic() - began:.2f}")
        time.sleep(1 / rate)


if __name__ == "__main__":
    main()
