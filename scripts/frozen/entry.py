"""First code of the frozen programs: the product starts itself as `PYTHON -m MODULE`, and this is that Python."""

from __future__ import annotations

import runpy
import sys
from multiprocessing import freeze_support
from pathlib import Path

CONSOLE, ICON = "occlufix-vcam", "OccluFix Camera"


def main() -> None:
    freeze_support()
    program = Path(sys.executable)
    if program.stem == ICON:
        # What the icon starts reports on its output, which only the program with a console has.
        sys.executable = str(program.with_name(CONSOLE + program.suffix))
        sys.argv[1:] = sys.argv[1:] or ["tray"]
    module = "occlufix_vcam"
    if sys.argv[1:2] == ["-m"]:
        module = sys.argv[2]
        del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
