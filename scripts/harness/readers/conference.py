"""Janus, a conference server, with one room, for as long as a test or a measurement needs it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.harness.readers.call import Room
from scripts.harness.readers.session import background, wait_for

DEBIAN_PACKAGE = "janus"
ROOM = 1
#: Of the dozen plugins and transports that Debian brings, the only ones that a conference needs.
_PARTS = {"plugins": "libjanus_videoroom.so", "transports": "libjanus_websockets.so"}
_SETTINGS = {
    "janus": """
general: { session_timeout = 0  plugins_folder = "%(folder)s/plugins"  transports_folder = "%(folder)s/transports" }
nat: { ice_ignore_list = "vmnet" }
""",
    "janus.transport.websockets": """
general: { ws = true  ws_port = %(port)d  ws_ip = "127.0.0.1"  wss = false }
""",
    "janus.plugin.videoroom": """
room-%(room)d: { description = "a meeting"  publishers = 1  bitrate = 4000000  videocodec = "vp8,h264,vp9" }
""",
}


def missing() -> str:
    """What is not installed; "" if everything is."""
    return "" if shutil.which("janus") and all(map(_part, _PARTS.values())) else DEBIAN_PACKAGE


def _part(name: str) -> Path | None:
    return next(Path("/usr/lib").glob(f"*/janus/*/{name}"), None)


@contextmanager
def janus(folder: Path) -> Iterator[Room]:
    """Runs the server during the block; `folder` holds its settings and its log.

    It takes requests on 127.0.0.1 only. Pictures go through an address of the machine itself, because Janus leaves
    the loopback interface out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, text in _SETTINGS.items():
        (folder / f"{name}.jcfg").write_text(text % {"folder": folder, "port": port, "room": ROOM})
    for kind, part in _PARTS.items():
        (folder / kind).mkdir()
        (folder / kind / part).symlink_to(_part(part) or part)
    command = ["janus", "--configs-folder", str(folder), "--disable-colors"]
    with background(command, {"PATH": "/usr/bin", "HOME": str(folder)}, folder / "janus.log"):
        wait_for(lambda: _answers(port), "the conference server")
        yield Room(f"ws://127.0.0.1:{port}", ROOM)


def _answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0
