"""A WebRTC call over loopback between two headless browsers: one sends the camera, the other decodes it."""

from __future__ import annotations

import base64
import json
import queue
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np

from engines.contract import Image
from scripts.harness.readers import browsers, numbered
from scripts.harness.readers.lossy import Network, Relay
from scripts.harness.readers.session import background

WITHIN_S = 120.0
#: Every so many numbers, both ends keep the whole picture, once the call has settled.
KEEP_EVERY = 10
PERFECT = Network()
#: A picture that comes this much later than the one before is a freeze.
FREEZE_MS = 200.0


@dataclass(frozen=True, slots=True)
class Call:
    """How the call is made; `simulcast` sends three sizes at once."""

    sender: str = "chromium"
    receiver: str = "chromium"
    codec: str = "VP8"
    size: tuple[int, int] = (1280, 720)
    simulcast: bool = False
    seconds: float = 10.0
    network: Network = PERFECT

    def __str__(self) -> str:
        more = "-simulcast" if self.simulcast else ""
        if self.network != PERFECT:
            more += f"-{self.network.loss:.0%}-lost-{1000 * self.network.delay_s:.0f}-ms"
        return f"{self.sender}-{self.receiver}-{self.codec}-{self.size[1]}p{more}"


@dataclass(frozen=True, slots=True)
class End:
    """What one end saw: numbers with their times in milliseconds since the epoch, some whole pictures, statistics."""

    shown: list[tuple[int, float]]
    pictures: dict[int, Image]
    size: tuple[int, int]
    stats: list[dict[str, Any]]

    @property
    def rate(self) -> float:
        """Pictures a second."""
        times = [at for _, at in self.shown]
        return 1000 * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    @property
    def freezes(self) -> int:
        times = [at for _, at in self.shown]
        return sum(after - before > FREEZE_MS for before, after in pairwise(times))

    def codec(self) -> str:
        """Codec that was used, such as "VP8"."""
        used = {one.get("codecId") for one in self.stats if one["type"].endswith("bound-rtp")}
        names = [one["mimeType"] for one in self.stats if one["type"] == "codec" and one["id"] in used]
        return names[0].partition("/")[2] if names else ""


def delays_ms(sent: End, arrived: End) -> list[float]:
    """Milliseconds from the sender's own view of a picture to the other end's."""
    left = dict(reversed(sent.shown))
    return [at - left[number] for number, at in arrived.shown if number in left and 0 <= at - left[number] < 10_000]


def pairs(sent: End, arrived: End) -> list[tuple[Image, Image]]:
    """Pictures that both ends kept, in one size: a call makes them smaller for a while."""
    both = [(sent.pictures[number], arrived.pictures[number]) for number in sent.pictures.keys() & arrived.pictures]
    return [(left, came) for left, came in both if left.shape == came.shape]


def psnr_db(sent: End, arrived: End) -> float | None:
    """Mean PSNR of such pairs; None if there are none."""
    found = [cv2.PSNR(left, came) for left, came in pairs(sent, arrived)]
    return float(np.mean(found)) if found else None


def sharpness(image: Image) -> float:
    """Mean absolute Laplacian of the luma."""
    return float(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F)).mean())


def make(call: Call, environment: Mapping[str, str], folder: Path, *, label: str) -> tuple[End, End]:
    """Makes one call; returns what the sender and the receiver saw. Raises TimeoutError, and RuntimeError with the
    browser's error.
    """
    with closing(Relay(call.network)) as relay, _served(relay) as (port, answers), ExitStack() as running:
        relay.start()
        for role, browser in (("receiver", call.receiver), ("sender", call.sender)):
            asked = {"role": role, "label": label, "codec": call.codec, "bits": numbered.BITS, "keep": KEEP_EVERY}
            asked |= {"width": call.size[0], "height": call.size[1], "seconds": call.seconds}
            asked |= {"simulcast": int(call.simulcast)}
            profile = running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            command = browsers.command_of(browser, profile, f"http://127.0.0.1:{port}/?{urlencode(asked)}", calls=True)
            there = {**environment, "HOME": profile}
            running.enter_context(background(command, there, folder / f"{role}.log"))
        ends = {}
        while len(ends) < 2:
            try:
                told = answers.get(timeout=WITHIN_S + call.seconds)
            except queue.Empty:
                raise TimeoutError(f"{call}: an end reported nothing within {WITHIN_S:.0f} s") from None
            if "error" in told:
                raise RuntimeError(f"{told['role']}: {told['error']}")
            ends[told["role"]] = _end(told)
    return ends["sender"], ends["receiver"]


def _end(told: dict[str, Any]) -> End:
    pictures = {
        int(number): np.asarray(
            cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR), np.uint8
        )
        for number, data in told["pictures"].items()
    }
    shown = [(int(number), float(at)) for number, at in told["shown"]]
    return End(shown, pictures, (told["size"][0], told["size"][1]), told["stats"])


def _redirected(body: bytes, through: Callable[[str], str] | None) -> bytes:
    if through is None:
        return body
    description = json.loads(body)
    return json.dumps({**description, "sdp": through(description["sdp"])}).encode()


@contextmanager
def _served(relay: Relay) -> Iterator[tuple[int, queue.Queue[dict[str, Any]]]]:
    """The page, and a mailbox: what one end posts under a path, the other gets there. Reports arrive in the queue.

    Offer and answer lead the ends to the relay.
    """
    through = {"/offer": relay.offer, "/answer": relay.answer}
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    posted: dict[str, bytes] = {}

    def take(path: str, body: bytes) -> None:
        if path == "/told":
            answers.put(json.loads(body))
        else:
            posted[path] = _redirected(body, through.get(path))

    with browsers.served(Path(__file__).with_name("call.html"), posted.get, take) as port:
        yield port, answers
