"""Starts, kills, disconnects and suspends the whole daemon repeatedly, and checks that nothing is left behind.

    python scripts/endurance.py                                             a few rounds of each
    python scripts/endurance.py --restarts 100 --kills 50 --replugs 100     the long form, a quarter of an hour
    python scripts/endurance.py --sleeps 4 --asleep 20 --sessions 20

Everything runs in a PipeWire session of its own, with GStreamer as the reader; needs the Debian packages that
`scripts/install_readers.sh` installs. After each round the camera must be usable: listed, and read with numbered frames
in order. Counted are descriptors and threads (of daemon, PipeWire, WirePlumber), nodes and clients. Prints one JSON
object; exits with 1 if a round failed or something was left behind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

from scripts.harness.endurance.ends import end_again_and_again  # noqa: E402
from scripts.harness.endurance.pauses import begin_session_again_and_again, sleep_again_and_again  # noqa: E402
from scripts.harness.endurance.replugs import replug_again_and_again  # noqa: E402
from scripts.harness.endurance.scene import RATE, Scene  # noqa: E402
from scripts.harness.endurance.tally import Tally  # noqa: E402
from scripts.harness.readers import film, session  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="endurance of the whole daemon")
    parser.add_argument("--restarts", type=int, default=3, help="rounds ended by `stop`")
    parser.add_argument("--kills", type=int, default=3, help="rounds ended by kill -9")
    parser.add_argument(
        "--replugs", type=int, default=6, help="disconnections of the camera, with one reader that stays"
    )
    parser.add_argument(
        "--sleeps", type=int, default=2, help="suspensions of the daemon, every other one of the session too"
    )
    parser.add_argument("--asleep", type=float, default=5.0, metavar="S", help="seconds of each suspension")
    parser.add_argument(
        "--sessions", type=int, default=2, help="restarts of WirePlumber, every other one of PipeWire too"
    )
    options = parser.parse_args(arguments)
    if absent := session.missing() or film.missing():
        print(f"NOT PROVED HERE: this needs {absent}", file=sys.stderr)
        return 2
    kinds: dict[str, tuple[int, Callable[[Scene], Tally]]] = {
        "restarts": (options.restarts, lambda scene: end_again_and_again(scene, options.restarts, kill=False)),
        "kills": (options.kills, lambda scene: end_again_and_again(scene, options.kills, kill=True)),
        "replugs": (options.replugs, lambda scene: replug_again_and_again(scene, options.replugs)),
        "sleeps": (options.sleeps, lambda scene: sleep_again_and_again(scene, options.sleeps, options.asleep)),
        "sessions": (options.sessions, lambda scene: begin_session_again_and_again(scene, options.sessions)),
    }
    told, good = {}, True
    with tempfile.TemporaryDirectory() as folder, session.programs(Path(folder)) as running:
        # During a suspension the clip must not repeat, or the order could not be checked.
        scene = Scene(running, Path(folder), max(60, round(2.5 * RATE * options.asleep) if options.sleeps else 0))
        for kind, (rounds, run) in kinds.items():
            if rounds > 0:
                print(f"- {rounds} {kind}", file=sys.stderr, flush=True)
                tally = run(scene)
                told[kind], good = tally.told(), good and tally.is_good
    print(json.dumps(told, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
