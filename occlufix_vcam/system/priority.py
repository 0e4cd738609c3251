"""Priority of threads: what need not be done at once yields to the frames."""

from __future__ import annotations

import os
import sys
import threading

#: As `nice` counts: such a thread gets two thirds of the time of an ordinary one where both want to run.
_NICE = 2


def lower_priority() -> None:
    """Makes this thread, and those that it starts, yield to others. Only Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
