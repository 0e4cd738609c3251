"""Figures of calls over loopback: python -m scripts.call_figures [--loss PERCENT --delay MS] [--seconds S] [--changes].

Two headless browsers call each other; one sends OccluFix Camera with a numbered clip whose face wears a mask. With
`--loss` and `--delay`, packets are lost and late on both ways. With `--changes`, settings change during the call:
recording, backend, sinks, size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from occlufix_vcam.client.client import ControlClient
from occlufix_vcam.core.state import StateFolder
from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.readers import numbered, product, session
from scripts.harness.readers.call import Call, End, delays_ms, make, pairs, psnr_db, sharpness
from scripts.harness.readers.lossy import Network

PICTURES = 600
CALLS = (
    Call(),
    Call(size=(640, 360)),
    Call(codec="H264"),
    Call(codec="VP9"),
    Call(simulcast=True),
    Call(receiver="firefox"),
)
CHANGES: tuple[dict[str, object], ...] = (
    {"record": "call.mkv"},
    {"record": None},
    {"backend": "onnxruntime"},
    {"backend": "auto"},
    {"sinks": ["pipewire", "null"]},
    {"sinks": ["pipewire"]},
    {"width": 640, "height": 360},
    {"width": 1280, "height": 720},
)
CHANGE_EVERY_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", type=float, default=0.0, help="percent of the packets")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds, each way")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", default="", help="part of a call's name")
    parser.add_argument("--changes", action="store_true", help="change settings during the call")
    asked = parser.parse_args()
    network = Network(asked.loss / 100, asked.delay / 1000)
    print("call | a second, sent -> decoded | freezes | delay p50 / p95 ms | ours p95 ms | PSNR dB | sharpness kept")
    for call in CALLS:
        if asked.only in str(call):
            print(_figures(replace(call, seconds=asked.seconds, network=network), asked.changes), flush=True)


def _figures(call: Call, changes: bool) -> str:
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        clip = folder / "numbered.mp4"
        product.make_clip(clip, PICTURES)
        with (
            session.pipewire_session(folder / "session") as environment,
            product.started(environment, f"--source={clip}", "--sink=pipewire"),
        ):
            session.wait_for(lambda: "restore" in product.status(environment)["engine"], "the networks", within=60)
            with _changing(environment, folder) if changes else _quiet():
                sent, arrived = make(call, environment, folder, label=OWN_LABEL)
            ours = product.status(environment)["latency"]
    return " | ".join(
        [str(call), *_row(sent, arrived), f"{ours['p95_ms']:.0f}" if ours else "-", *_quality(sent, arrived)]
    )


def _row(sent: End, arrived: End) -> list[str]:
    delays = delays_ms(sent, arrived) or [float("nan")]
    in_order = numbered.are_in_order([number for number, _ in arrived.shown], PICTURES)
    return [
        f"{sent.rate:.1f} -> {arrived.rate:.1f}{'' if in_order else ', out of order'}",
        f"{arrived.freezes}",
        f"{np.percentile(delays, 50):.0f} / {np.percentile(delays, 95):.0f}",
    ]


def _quality(sent: End, arrived: End) -> list[str]:
    quality = psnr_db(sent, arrived)
    kept = [sharpness(came) / sharpness(left) for left, came in pairs(sent, arrived)]
    return [f"{quality:.1f}" if quality else "-", f"{np.mean(kept):.2f}" if kept else "-"]


@contextmanager
def _quiet() -> Iterator[None]:
    yield


@contextmanager
def _changing(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Changes one setting after another during the block."""
    ended = threading.Event()

    def change() -> None:
        with ControlClient(StateFolder(Path(environment["OCCLUFIX_STATE_DIR"]))) as client:
            place = 0
            while not ended.wait(CHANGE_EVERY_S):
                changes = CHANGES[place % len(CHANGES)]
                record = {"record": str(folder / f"call-{place}.mkv")} if changes.get("record") else {}
                client.change_settings({**changes, **record})
                place += 1

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
