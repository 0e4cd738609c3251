"""Creates `.venv` beside pyproject.toml and installs the project into it. Needs only Python 3.11 with pip.

Shared by quickstart.py and run_tests.py. Installed requirements are remembered, so a second run starts at once.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed.txt"
OLDEST = (3, 11)


class SetupError(Exception):
    """The environment could not be created; the message says why and what to do."""


def venv_python(venv: Path = VENV) -> Path:
    """Interpreter of a virtual environment, on any system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(
    requirements: list[str], *, before: list[str] | None = None, optional: list[list[str]] | None = None
) -> Path:
    """Creates the environment if it is missing, and installs `requirements` if they changed.

    `before` is installed first, each list of `optional` last, in separate steps; optional ones may fail. Returns the
    environment's interpreter. Raises SetupError.
    """
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(f"Python {found} is too old: install Python 3.11 or newer and run this again with it")
    python = venv_python()
    if not _works(python):
        _step("creating .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)], _venv_hint())
    wanted = _fingerprint([*(before or []), *requirements, *itertools.chain(*(optional or []))])
    if _installed() >= wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if not sys.stdout.isatty():
        pip.append("--quiet")
    for packages in filter(None, (before, requirements)):
        _step(f"installing {' '.join(packages)}", [*pip, *packages], "check the network, then run this again")
    for packages in optional or []:
        try:
            _step(
                f"installing {' '.join(packages)}", [*pip, *packages], "without it, the tests that need it are skipped"
            )
        except SetupError as error:
            print(error, file=sys.stderr, flush=True)
    STAMP.write_text("\n".join(sorted(_installed() | wanted)), encoding="utf-8")
    return python


def _works(python: Path) -> bool:
    return (
        python.exists() and subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0
    )


def _fingerprint(requirements: list[str]) -> set[str]:
    """One line per requirement; it changes with pyproject.toml and with the checkout's path."""
    project = (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()
    return {f"{hashlib.sha256(project).hexdigest()[:16]} {requirement}" for requirement in requirements}


def _installed() -> set[str]:
    return set(STAMP.read_text(encoding="utf-8").splitlines()) if STAMP.exists() else set()


def _step(title: str, command: list[str], hint: str) -> None:
    print(f"- {title} ...", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode != 0:
        raise SetupError(f"{title} failed\n  what to do: {hint}")
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)


def _venv_hint() -> str:
    if sys.platform.startswith("linux"):
        return "Debian and Ubuntu keep this in a package of its own: sudo apt install python3-venv"
    return "install Python 3.11 or newer from python.org, which brings venv and pip"
