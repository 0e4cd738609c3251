"""No core dump holds a picture or the key."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECK = """
import ctypes, resource
from occlufix_vcam.system.core_dumps import disable_core_dumps
disable_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the flag is Linux's")
def test_a_process_that_crashes_leaves_no_dump() -> None:
    told = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["(0,", "0)", "0"]
