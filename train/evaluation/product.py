"""Runs the installed product on films and folders of pictures, in a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.data.face_set import DataError


def restore(
    given: Path,
    taken: Path,
    home: Path,
    environment: Mapping[str, str] = {},
    enrollment: Sequence[str] = (),
    report: Path | None = None,
) -> None:
    """What `occlufix-vcam process` makes of `given`, written to `taken`; `enrollment` are pictures to enrol first.

    `home` is an empty folder; `report` is where the product's own report goes. Raises DataError with what the program
    said where it fails.
    """
    own = {"XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
    own["OCCLUFIX_FACES_DIR"] = str(home / "faces")
    own["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    surroundings = {**os.environ, **own, **environment}
    if enrollment:
        _product(["enroll", "somebody", "--from", *enrollment], surroundings)
    options = [] if report is None else ["--report", str(report)]
    _product(["process", str(given), str(taken), *options], surroundings)


def _product(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "occlufix_vcam", *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DataError(f"`occlufix-vcam {arguments[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
