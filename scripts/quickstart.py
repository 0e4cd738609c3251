"""From Python 3.11 with pip to a running camera: python3 scripts/quickstart.py

Creates `.venv`, installs, and runs the daemon on the available camera, else on the demo, to the available virtual
camera, else to a recording. In a terminal it runs until Ctrl-C, elsewhere 15 s. At the end it prints measurements, the
files written and what was missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bootstrap import ROOT, SetupError, prepare

UNATTENDED_S = 15.0
DEVICE_ERROR = 3
RECORDINGS = ROOT / "output"


class CommandError(Exception):
    """The product reported an error; `code` is its exit code, the message its output."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Product:
    """The installed command line."""

    def __init__(self, python: Path) -> None:
        self._command = [str(python), "-m", "occlufix_vcam"]

    def run(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandError(done.returncode, (done.stderr or done.stdout).strip())
        return done.stdout.strip()

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="run this long (default: until Ctrl-C, 15 without a terminal)")
    chosen = parser.parse_args()
    seconds = chosen.seconds or (float("inf") if sys.stdin.isatty() and sys.stdout.isatty() else UNATTENDED_S)
    try:
        return run(Product(prepare(["-e", ".[openvino,films]"])), seconds)
    except (SetupError, CommandError) as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, CommandError) else 2


def run(product: Product, seconds: float) -> int:
    found = product.ask("devices")
    missing = []
    source = "auto" if found["cameras"] else "demo"
    if source == "demo":
        missing.append("no camera: used the demo instead")
    arguments = ["--sink=auto", "--always-on"]
    recording = None
    if all(one["problem"] for one in found["virtual_cameras"]):
        reasons = "; ".join(one["problem"] for one in found["virtual_cameras"]) or "none is installed"
        missing.append(f"no virtual camera: made a recording ({reasons}); docs/install.md has the steps")
        RECORDINGS.mkdir(exist_ok=True)
        recording = RECORDINGS / f"quickstart-{time.strftime('%Y%m%d-%H%M%S')}.mp4"
        arguments = ["--sink=null", f"--record={recording}"]
    print("- starting the camera ...", flush=True)
    try:
        print(product.run("start", f"--source={source}", *arguments))
    except CommandError as error:
        if error.code != DEVICE_ERROR or source == "demo":
            raise
        missing.append(f"cannot use the camera, used the demo instead: {error}")
        print(product.run("start", "--source=demo", *arguments))
    last = watch(product, seconds)
    if last is not None:
        product.run("stop")
        summarise(last, recording, missing)
    return 0


def watch(product: Product, seconds: float) -> dict[str, Any] | None:
    """Prints the progress until the time is over or Ctrl-C; returns the last status, None if another program stopped
    it.
    """
    if seconds == float("inf"):
        print("- choose OccluFix Camera in your call; Ctrl-C here stops it")
    last = None
    ends_at = time.monotonic() + seconds
    try:
        while time.monotonic() < ends_at:
            time.sleep(min(3.0, max(0.0, ends_at - time.monotonic())))
            last = product.ask("status")
            latency = last["latency"] or {"p50_ms": float("nan")}
            print(
                f"  {last['fps']:5.1f} frames/s  latency {latency['p50_ms']:5.1f} ms  "
                f"faces {last['faces']}  restored {last['restored']}",
                flush=True,
            )
    except KeyboardInterrupt:
        print()
    except CommandError:
        print("another program stopped it")
        return None
    return last if last is not None else product.ask("status")


def summarise(last: dict[str, Any], recording: Path | None, missing: list[str]) -> None:
    latency = last["latency"]
    print("\nDone.")
    print(f"  source      {last['camera']}")
    print(f"  frames      {last['frames']} in {last['uptime_s']:.0f} s, {last['fps']:.1f} a second at the end")
    if latency:
        print(f"  latency     p50 {latency['p50_ms']:.0f} ms, p95 {latency['p95_ms']:.0f} ms from capture to sink")
    print(f"  restored    {last['restored']} faces")
    engines = {f"{facts['backend']} ({facts['precision']})" for facts in last["engine"].values()}
    print(f"  engine      {', '.join(sorted(engines))}")
    if recording is not None:
        print(f"  written     {recording} ({recording.stat().st_size / 1e6:.1f} MB)")
    for line in missing:
        print(f"  missing     {line}")
    print("\nNext: .venv/bin/occlufix-vcam start   (on Windows .venv\\Scripts\\occlufix-vcam), and docs/usage.md")


if __name__ == "__main__":
    sys.exit(main())
