"""Linphone's console with the settings that a machine without sound card and network needs."""

from __future__ import annotations

from pathlib import Path

#: It looks for cameras at /dev/video0 to /dev/video9 only.
_NODE = "/dev/video9"


def with_pipewire(folder: Path, node: str) -> list[str]:
    """As `with_v4l2`, through PipeWire's stand-in for V4L2, which shows the session's only camera as any node."""
    return ["pw-v4l2", *_command(folder, "true")]


def with_v4l2(folder: Path, node: str) -> list[str]:
    """Shows what the other end of a video call would be sent."""
    return _command(folder, f"ln -sf {node} {_NODE}")


def _command(folder: Path, before: str) -> list[str]:
    settings = folder / "linphonerc"
    # Its default X11 display needs the Xv extension, which Xvfb lacks, and says nothing on the screen without it.
    settings.write_text(f"""[sip]
auto_net_state_mon=0
[video]
enabled=1
display=1
capture=1
displaytype=MSGLXVideo
size=vga
device=V4L2: {_NODE}
""")
    # It ends with its input.
    return ["sh", "-c", f"{before}; sleep 3600 | linphonec -V -c {settings}"]
