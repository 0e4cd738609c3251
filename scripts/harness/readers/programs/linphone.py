"""Linphone's console with the settings that a machine without sound card and network needs."""

from __future__ import annotations

from pathlib import Path

#: It looks for cameras at /dev/video0 to /dev/video9 only.
_NODE = "/dev/video9"
# Its default X11 display needs the Xv extension, which Xvfb lacks, and says nothing on the screen without it.
_SETTINGS = f"""[sip]
auto_net_state_mon=0
[video]
enabled=1
display=1
capture=1
displaytype=MSGLXVideo
size=vga
device=V4L2: {_NODE}
"""


def with_v4l2(folder: Path, node: str) -> list[str]:
    """Shows what the other end of a video call would be sent."""
    settings = folder / "linphonerc"
    settings.write_text(_SETTINGS)
    # It ends with its input.
    return ["sh", "-c", f"ln -sf {node} {_NODE}; sleep 3600 | linphonec -V -c {settings}"]
