"""Writes what the package has for all users below a folder: menu entry, icon, manual, completion, user unit.

    python shared_files.py FOLDER       (with the interpreter of the package's own environment)

The texts are those that `setup` and `autostart on` write for one user.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

from occlufix_vcam.desktop.autostart import CAMERA, PACKAGED_UNITS, unit_file
from occlufix_vcam.diagnostics.integration import UserFile, completion, desktop_entry, files_below

COMMAND = "/usr/bin/occlufix-vcam"
PYTHON = "/opt/occlufix-vcam/bin/python3"


def files() -> Iterator[UserFile]:
    share = Path("/usr/share")
    yield from files_below(share, desktop_entry([COMMAND]))
    yield UserFile("completion in zsh", share / "zsh/vendor-completions/_occlufix-vcam", completion("zsh"))
    unit = unit_file([PYTHON, "-m", "occlufix_vcam", "start", "--foreground"], {})
    yield UserFile("the user unit", PACKAGED_UNITS / f"{CAMERA}.service", unit)


def main(folder: Path) -> None:
    for file in files():
        path = folder / file.path.relative_to("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "man1":  # Debian's policy asks for it
            Path(f"{path}.gz").write_bytes(gzip.compress(file.text.encode(), mtime=0))
        else:
            path.write_text(file.text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
