"""A WebRTC call over loopback between headless browsers: one sends the camera, the others decode it."""

from __future__ import annotations

import base64
import json
import queue
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import inf
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
#: Of so many numbers, all ends keep the first four whole pictures, once the call has settled.
KEEP_EVERY = 10
PERFECT = Network()
#: A picture that stands still for longer is a freeze.
FREEZE_MS = 200.0
#: What seems to take longer was seen by the receiver before the sender's own view drew it, one loop of the film ago.
MOST_DELAY_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class Room:
    """Room of a conference server, and the address at which that takes requests."""

    url: str
    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """How the call is made; `simulcast` sends three sizes at once.

    With several `receivers` it is a conference on a server, whose room `make` is given.
    """

    sender: str = "chromium"
    receivers: tuple[str, ...] = ("chromium",)
    codec: str = "VP8"
    size: tuple[int, int] = (1280, 720)
    simulcast: bool = False
    seconds: float = 10.0
    network: Network = PERFECT

    def __str__(self) -> str:
        more = "-simulcast" if self.simulcast else ""
        if self.network != PERFECT:
            more += f"-{self.network.loss:.0%}-lost-{1000 * self.network.delay_s:.0f}-ms"
        return f"{'-'.join((self.sender, *self.receivers))}-{self.codec}-{self.size[1]}p{more}"


@dataclass(frozen=True, slots=True)
class End:
    """What one end saw: pictures with their times in milliseconds since the epoch, some of them whole, statistics."""

    #: Every picture; the number is None where it shows none, as a placeholder does.
    frames: list[tuple[int | None, float]]
    pictures: dict[int, Image]
    size: tuple[int, int]
    stats: list[dict[str, Any]]
    #: Pictures that were coded, and when that was counted: at the beginning and at the end.
    coded: list[tuple[int, float]]

    @property
    def shown(self) -> list[tuple[int, float]]:
        """The numbered pictures."""
        return [(number, at) for number, at in self.frames if number is not None]

    @property
    def rate(self) -> float:
        """Pictures coded or decoded a second."""
        (before, began), (after, ended) = self.coded
        return 1000 * (after - before) / (ended - began)

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """When a picture came, and milliseconds until the next other one. Placeholders may look alike."""
        moves = [one for last, one in pairwise([(-1, 0.0), *self.frames]) if one[0] is None or one[0] != last[0]]
        return [(before, after - before) for (_, before), (_, after) in pairwise(moves)]

    @property
    def moves(self) -> float:
        """Pictures a second that differ from the one before; one that is repeated is coded all the same."""
        gaps = self.gaps
        return 1000 * len(gaps) / sum(gap for _, gap in gaps) if gaps else 0.0

    @property
    def freezes(self) -> list[tuple[float, float]]:
        """Those of the gaps that a viewer takes for a freeze."""
        return [gap for gap in self.gaps if gap[1] > FREEZE_MS]

    def is_in_order(self, many: int) -> bool:
        """Whether no numbered picture is older than the one before, in a film of `many`, which begins anew after a
        placeholder.
        """
        runs = groupby((number for number, _ in self.frames), lambda number: number is not None)
        shown = ([number for number in run if number is not None] for _, run in runs)
        return all(numbered.are_in_order(run, many) for run in shown)

    def codec(self) -> str:
        """Codec that was used, such as "VP8"."""
        used = {one.get("codecId") for one in self.stats if one["type"].endswith("bound-rtp")}
        names = [one["mimeType"] for one in self.stats if one["type"] == "codec" and one["id"] in used]
        return names[0].partition("/")[2] if names else ""


def delays_ms(sent: End, arrived: End) -> list[float]:
    """Milliseconds from the sender's own view of a picture to the other end's. A looped film repeats its numbers."""
    left: dict[int, list[float]] = {}
    for number, at in sent.shown:
        left.setdefault(number, []).append(at)
    since = [at - max((one for one in left.get(number, ()) if one <= at), default=-inf) for number, at in arrived.shown]
    return [delay for delay in since if delay < MOST_DELAY_MS]


def pairs(sent: End, arrived: End) -> list[tuple[int, Image, Image]]:
    """Number and pictures of both ends where both kept one, in the size that arrived: calls make them smaller."""
    both = sorted(sent.pictures.keys() & arrived.pictures)
    return [
        (number, _sized(sent.pictures[number], arrived.pictures[number]), arrived.pictures[number]) for number in both
    ]


def _sized(picture: Image, like: Image) -> Image:
    if picture.shape == like.shape:
        return picture
    return np.asarray(cv2.resize(picture, like.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)


def psnr_db(sent: End, arrived: End) -> float | None:
    """Mean PSNR of such pairs; None if there are none."""
    found = [cv2.PSNR(left, came) for _, left, came in pairs(sent, arrived)]
    return float(np.mean(found)) if found else None


def make(
    call: Call, environment: Mapping[str, str], folder: Path, *, label: str, room: Room | None = None
) -> tuple[End, list[End]]:
    """Makes one call, in a server's `room` if one is given; returns what the sender and each receiver saw.

    Raises TimeoutError, and RuntimeError with the browser's error.
    """
    browser_of = {"sender": call.sender} | {f"receiver-{place}": name for place, name in enumerate(call.receivers)}
    receivers = [role for role in browser_of if role != "sender"]
    asked = {"label": label, "codec": call.codec, "bits": numbered.BITS, "keep": KEEP_EVERY}
    asked |= {"width": call.size[0], "height": call.size[1], "seconds": call.seconds}
    asked |= {"simulcast": int(call.simulcast), "receivers": ",".join(receivers)}
    asked |= {"server": room.url, "room": room.number} if room else {}
    with closing(Relay(call.network)) as relay, _served(relay) as (port, answers), ExitStack() as running:
        relay.start()
        for role in (*receivers, "sender"):
            url = f"http://127.0.0.1:{port}/?{urlencode({**asked, 'role': role})}"
            profile = running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            command = browsers.command_of(browser_of[role], profile, url, calls=True)
            there = {**environment, "HOME": profile}
            running.enter_context(background(command, there, folder / f"{role}.log"))
        ends = _told(answers, len(browser_of), WITHIN_S + call.seconds)
    return ends["sender"], [ends[role] for role in receivers]


def _told(answers: queue.Queue[dict[str, Any]], many: int, within: float) -> dict[str, End]:
    ends: dict[str, End] = {}
    while len(ends) < many:
        try:
            told = answers.get(timeout=within)
        except queue.Empty:
            raise TimeoutError(f"an end reported nothing within {within:.0f} s: only {[*ends]}") from None
        if "error" in told:
            raise RuntimeError(f"{told['role']}: {told['error']}")
        ends[told["role"]] = _end(told)
    return ends


def _end(told: dict[str, Any]) -> End:
    pictures = {
        int(number): np.asarray(
            cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR), np.uint8
        )
        for number, data in told["pictures"].items()
    }
    return End(told["shown"], pictures, (told["size"][0], told["size"][1]), told["stats"], told["coded"])


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
