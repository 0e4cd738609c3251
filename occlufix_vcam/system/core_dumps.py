"""Keeps pictures, embeddings and the key to the enrolled faces out of core dumps.

A crash handler that the system pipes dumps to ignores the size limit, so on Linux the process is also marked as not
dumpable. That also keeps other programs of the same user from attaching to it or reading its memory. Source: prctl(2),
core(5). On Windows, where the user chooses what error reports contain, nothing is done.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys

PR_SET_DUMPABLE = 4

log = logging.getLogger(__name__)


def disable_core_dumps() -> None:
    """Holds for this process, and not for programs that it starts. Never raises: a picture is worth more than that."""
    if os.name != "posix":
        return
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl failed")
    except (OSError, ValueError) as error:
        log.warning("core dumps cannot be disabled: %s", error)
