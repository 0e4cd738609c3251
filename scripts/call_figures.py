"""Figures of calls over loopback: python -m scripts.call_figures [--loss PERCENT --delay MS] [--seconds S] [--changes].

Headless browsers call each other, or meet on a Janus server; one sends OccluFix Camera with a numbered film whose face
wears a mask. With `--loss` and `--delay`, packets are lost and late on both ways. With `--changes`, what a user may do
happens during the call: settings change, a recording starts and stops, the camera goes away and comes back. With
`--backend fake` the networks cost nothing: what remains is how pictures are delivered.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.core.telemetry import StageFigures
from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.endurance.plugged import plugged
from scripts.harness.readers import conference, product, session
from scripts.harness.readers.call import Call, End, delays_ms, make
from scripts.harness.readers.lossy import Network
from scripts.harness.readers.restored import compared

PICTURES = 300
SMALL = (640, 360)
CALLS = (
    Call(),
    Call(size=SMALL),
    Call(codec="H264"),
    Call(codec="H264", size=SMALL),
    Call(codec="VP9"),
    Call(codec="VP9", size=SMALL),
    Call(simulcast=True),
    Call(receivers=("firefox",)),
    Call(receivers=("chromium", "firefox"), size=SMALL),
)
HEAD = "call | arrived as | a second, sent -> decoded | different, sent -> decoded | freezes: decoded | sent | \
sent untouched | longest gap ms | delay p50 / p95 ms | capture to sink p50 / p95 ms | of which before the pipeline | \
in it | after it | restored part: PSNR dB | sharpness kept | flicker kept"
#: Parts of the time from capture to sink.
PARTS = ("wait", "total", "out")
#: When it was begun, in milliseconds since the epoch, and what.
Change = tuple[float, dict[str, object]]
#: What a user may do in a call, one after another; "camera": whether it is connected.
CHANGES: tuple[dict[str, object], ...] = (
    {"record": "call.mkv"},
    {"strength": 50},
    {"record": None, "strength": 100},
    {"mark": True},
    {"mark": False},
    {"camera": False},
    {"camera": True},
    {"sinks": ["pipewire", "null"]},
    {"sinks": ["pipewire"]},
    {"enabled": False},
    {"enabled": True},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", type=float, default=0.0, help="percent of the packets")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds, each way")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0, help="pictures a second of the camera")
    parser.add_argument("--only", default="", help="part of a call's name")
    parser.add_argument("--backend", default="auto", help="engines of the daemon")
    parser.add_argument("--changes", type=float, default=0.0, metavar="S", help="change something every S seconds")
    parser.add_argument("--pictures", type=Path, help="folder for a picture as sent and as decoded")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no program of a call outlives this one
    network = Network(asked.loss / 100, asked.delay / 1000)
    print(HEAD)
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        for call in CALLS:
            if asked.only not in str(call) or (len(call.receivers) > 1 and conference.missing()):
                continue
            film = folder / f"{call.size[1]}p.mp4"
            if not film.exists():
                product.make_clip(film, PICTURES, call.size, asked.rate)
            call = replace(call, seconds=asked.seconds, network=network)
            for row in figures(call, film, asked.rate, asked.backend, asked.changes, asked.pictures):
                print(f"{call} | {row}", flush=True)


def figures(
    call: Call, film: Path, rate: float, backend: str = "auto", changes_s: float = 0.0, pictures: Path | None = None
) -> list[str]:
    """Makes one call; returns a row of the table for each receiver."""
    with tempfile.TemporaryDirectory() as named, ExitStack() as running:
        folder = Path(named)
        environment = running.enter_context(session.pipewire_session(folder / "session"))
        environment |= {"OCCLUFIX_BACKEND": backend, "OCCLUFIX_FACES_DIR": str(folder / "faces")}
        environment |= {"OCCLUFIX_WIDTH": str(call.size[0]), "OCCLUFIX_HEIGHT": str(call.size[1])}
        environment |= {"OCCLUFIX_RATE": str(rate)}
        client = running.enter_context(plugged(film, folder / "plug", environment, folder / "daemon.log"))
        room = running.enter_context(conference.janus(folder / "janus")) if len(call.receivers) > 1 else None
        done: list[Change] = []
        with changing(client, folder / "plug", folder, changes_s, done) if changes_s else nullcontext():
            sent, others = make(call, environment, folder, label=OWN_LABEL, room=room)
        for end, who in ((sent, "sent"), *((one, "decoded") for one in others)):
            _tell_freezes(end, who, done)
        status = client.status()
        ours = [_times(status["latency"]), *(_times(status["stages"].get(part)) for part in PARTS)]
        seen = [_row(sent, one, status["freezes"], status["bare"]) for one in others]
        rows = [[*row, *ours, *compared(film, sent, one, pictures)] for row, one in zip(seen, others, strict=True)]
        return [" | ".join(row) for row in rows]


def _times(figures: StageFigures | None) -> str:
    return f"{figures['p50_ms']:.0f} / {figures['p95_ms']:.0f}" if figures else "-"


def _row(sent: End, arrived: End, froze: int, bare: int) -> list[str]:
    """`froze`: how often our picture stood still; `bare`: pictures sent untouched, as restoring took too long."""
    delays = delays_ms(sent, arrived) or [float("nan")]
    return [
        "{}x{}".format(*arrived.size),
        f"{sent.rate:.1f} -> {arrived.rate:.1f}{'' if arrived.is_in_order(PICTURES) else ', out of order'}",
        f"{sent.moves:.1f} -> {arrived.moves:.1f}",
        f"{len(arrived.freezes)}",
        f"{froze}",
        f"{bare}",
        f"{max((gap for _, gap in arrived.gaps), default=float('nan')):.0f}",
        f"{np.percentile(delays, 50):.0f} / {np.percentile(delays, 95):.0f}",
    ]


def _tell_freezes(end: End, who: str, done: list[Change]) -> None:
    """Says of each freeze what was changed last before its end."""
    for began, gap in end.freezes:
        last = max((one for one in done if one[0] < began + gap), default=None, key=lambda one: one[0])
        after = f", which ended {(began + gap - last[0]) / 1000:.1f} s after {last[1]}" if last else ""
        print(f"  {who}: stood still for {gap:.0f} ms{after}", flush=True)


@contextmanager
def changing(
    client: ControlClient, plug: Path, folder: Path, every_s: float, done: list[Change] | None = None
) -> Iterator[None]:
    """Does one of CHANGES after another during the block, and notes them in `done`."""
    ended = threading.Event()

    def change() -> None:
        for place, changes in enumerate(itertools.cycle(CHANGES)):
            if ended.wait(every_s):
                return
            if done is not None:
                done.append((1000 * time.time(), changes))
            if "camera" in changes:
                plug.touch() if changes["camera"] else plug.unlink()
                continue
            file = {"record": str(folder / f"call-{place}.mkv")} if changes.get("record") else {}
            try:
                client.change_settings({**changes, **file})
            except ControlError as error:
                print(f"{changes}: {error}", file=sys.stderr)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
