"""Opens the control page in the user's browser without naming its link where others could read it.

Every user of a machine can read command lines, and the first to open the link is let in. So the browser is given a
file of this user alone that leads there. The daemon removes the file once the link was opened: where it stays, the
browser could not read it, as browsers from snap or flatpak can't, and the user is given the link instead.
"""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Callable

from occlufix_vcam.client.client import ControlClient

OPENED_WITHIN_S = 10.0  # a browser may have to be started
POLL_S = 0.05


def open_page(client: ControlClient, browser: Callable[[str], bool] = webbrowser.open) -> str:
    """Returns "" once the page is open; else a link that opens it, for the user to open."""
    file = client.link_file()
    if file is None or not browser(file.as_uri()):
        return client.link()
    ends_at = time.monotonic() + OPENED_WITHIN_S
    while file.exists():
        if time.monotonic() > ends_at:
            return client.link()
        time.sleep(POLL_S)
    return ""
