"""The camera in a WebRTC call between two browsers: the other end decodes its pictures, in order, without a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from occlufix_vcam.system.v4l2 import OWN_LABEL
from scripts.harness.readers import browsers, numbered, product, session
from scripts.harness.readers.call import Call, delays_ms, make, psnr_db
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
    Call(receiver="firefox", seconds=6),
    Call(seconds=8, network=Network(loss=0.05, delay_s=0.05)),
]


@pytest.mark.parametrize(
    "call", CALLS, ids=lambda call: f"{call.receiver}-{call.codec}-{call.size[1]}-{call.simulcast}"
)
def test_the_other_end_of_a_call_decodes_the_camera(call: Call, tmp_path: Path) -> None:
    for browser in (call.sender, call.receiver):
        if browsers.program(browser) is None:
            pytest.skip(f"NOT PROVED HERE: no {browsers.DEBIAN_PACKAGES[browser]}")
    clip = tmp_path / "numbered.mp4"
    product.make_clip(clip, PICTURES)
    with (
        session.pipewire_session(tmp_path / "session") as environment,
        product.started(environment, f"--source={clip}", "--sink=pipewire"),
    ):
        sent, arrived = make(call, environment, tmp_path, label=OWN_LABEL)
    assert arrived.codec() in (call.codec, "")
    numbers = [number for number, _ in arrived.shown]
    assert len(numbers) > 10 and numbered.are_in_order(numbers, PICTURES)
    assert delays_ms(sent, arrived)
    quality = psnr_db(sent, arrived)
    assert quality is None or quality > 20
