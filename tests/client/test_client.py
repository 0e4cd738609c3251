"""The client beside a peer that is no daemon: it believes no answer and waits for none without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from occlufix_vcam.client.client import ControlClient, ControlError
from occlufix_vcam.core.state import StateFolder
from tests.client.test_fast_toggle import listener, say, trickle


def test_an_answer_that_trickles_for_ever_is_cut_off(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    refused = pytest.raises(ControlError, match=str(os.getpid()))
    with state.hold(), listener(state, trickle), ControlClient(state, timeout=0.2) as client, refused:
        client.status()


@pytest.mark.parametrize("body", [b'{"state": "running"}', b'{"pid": 1}'])
def test_a_status_that_is_not_the_daemons_is_not_believed(tmp_path: Path, body: bytes) -> None:
    state = StateFolder(tmp_path)
    refused = pytest.raises(ControlError, match="another program")
    with state.hold(), listener(state, say(body)), ControlClient(state) as client, refused:
        client.status()


@pytest.mark.parametrize("body", [b'{"enabled": true}', b'{"enabled": 0}', b"{}"])
def test_a_switch_that_was_not_done_is_not_believed(tmp_path: Path, body: bytes) -> None:
    state = StateFolder(tmp_path)
    refused = pytest.raises(ControlError, match="another program")
    with state.hold(), listener(state, say(body)), ControlClient(state) as client, refused:
        client.toggle(False)
