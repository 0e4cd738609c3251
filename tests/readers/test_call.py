"""The camera in a WebRTC call between two browsers: the other end decodes its pictures, in order, without a gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import pytest

from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.call_figures import CHANGES, changing
from scripts.harness.endurance.plugged import plugged
from scripts.harness.readers import browsers, conference, product, session
from scripts.harness.readers.call import Call, End, delays_ms, make, psnr_db
from scripts.harness.readers.lossy import Network

PICTURES = 120

pytestmark = pytest.mark.skipif(
    session.missing() != "", reason=f"NOT PROVED HERE: no PipeWire session without {session.missing()}"
)

CALLS = [
    Call(seconds=6),
    Call(codec="H264", seconds=6),
    Call(codec="VP9", size=(640, 360), seconds=6),
    Call(simulcast=True, seconds=6),
    Call(receivers=("firefox",), seconds=6),
    Call(seconds=8, network=Network(loss=0.05, delay_s=0.05)),
]
CONFERENCE = Call(receivers=("chromium", "firefox"), size=(640, 360), seconds=6)
CHANGE_EVERY_S = 1.5
CHANGED = Call(size=(640, 360), seconds=CHANGE_EVERY_S * (len(CHANGES) + 2))


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Environment of a session with the camera, on a numbered clip."""
    folder = tmp_path_factory.mktemp("session")
    clip = folder / "numbered.mp4"
    product.make_clip(clip, PICTURES)
    with (
        session.pipewire_session(folder / "session") as environment,
        product.started(environment, f"--source={clip}", "--sink=pipewire"),
    ):
        yield environment


def needs(call: Call) -> None:
    for browser in (call.sender, *call.receivers):
        if browsers.program(browser) is None:
            pytest.skip(f"NOT PROVED HERE: no {browsers.DEBIAN_PACKAGES[browser]}")


def check(call: Call, sent: End, arrived: End) -> None:
    assert arrived.codec() in (call.codec, "")
    assert len(arrived.shown) > 10 and arrived.is_in_order(PICTURES)
    assert delays_ms(sent, arrived)
    quality = psnr_db(sent, arrived)
    assert quality is None or quality > 20


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_the_other_end_of_a_call_decodes_the_camera(call: Call, camera: Mapping[str, str], tmp_path: Path) -> None:
    needs(call)
    sent, (arrived,) = make(call, camera, tmp_path, label=OWN_LABEL)
    check(call, sent, arrived)


@pytest.mark.skipif(conference.missing() != "", reason=f"NOT PROVED HERE: no {conference.DEBIAN_PACKAGE}")
def test_two_others_in_a_conference_decode_the_camera(camera: Mapping[str, str], tmp_path: Path) -> None:
    needs(CONFERENCE)
    with conference.janus(tmp_path / "janus") as room:
        sent, others = make(CONFERENCE, camera, tmp_path, label=OWN_LABEL, room=room)
    for arrived in others:
        check(CONFERENCE, sent, arrived)


def test_a_call_goes_on_whatever_its_user_changes_and_when_the_camera_comes_back(tmp_path: Path) -> None:
    needs(CHANGED)
    film, plug = tmp_path / "numbered.mp4", tmp_path / "plug"
    product.make_clip(film, PICTURES, CHANGED.size)
    with session.pipewire_session(tmp_path / "session") as environment:
        environment |= {"OCCLUFIX_BACKEND": "fake", "OCCLUFIX_FACES_DIR": str(tmp_path / "faces")}
        with (
            plugged(film, plug, environment, tmp_path / "daemon.log") as client,
            changing(client, plug, tmp_path, CHANGE_EVERY_S),
        ):
            _, (arrived,) = make(CHANGED, environment, tmp_path, label=OWN_LABEL)
    runs = [(shows, len([*run])) for shows, run in groupby(number is not None for number, _ in arrived.frames)]
    assert any(not shows and length > 5 for shows, length in runs[1:-1]), "a placeholder, then the camera"
    recordings = [*tmp_path.glob("call-*.mkv")]
    assert recordings and all(each.stat().st_size for each in recordings)
