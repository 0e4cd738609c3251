"""Starts programs one by one on "OccluFix Camera" in PipeWire and keeps their screenshots.

python -m scripts.harness.readers.programs FOLDER [NAME ...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.harness.readers.programs import films, showing, table


def main() -> int:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(table.PROGRAMS)
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    with showing.camera(folder) as (environment, made):
        for name in names:
            told = _try(name, environment, made, folder / name)
            failed += "failed" in told
            sys.stdout.write(f"{name} {json.dumps(told)}\n")
            sys.stdout.flush()
    return 1 if failed else 0


def _try(name: str, environment: Mapping[str, str], made: films.Films, folder: Path) -> dict[str, object]:
    program = table.by_pipewire().get(name)
    if program is None:
        return {"skipped": "it reads no PipeWire camera"}
    if reason := table.absent(program) or table.too_old(program):
        return {"skipped": f"not installed, or too old: {reason}"}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return showing.prove(name, environment, made, folder)
    except showing.NotShown as reason:
        return {"failed": str(reason)}


if __name__ == "__main__":
    sys.exit(main())
