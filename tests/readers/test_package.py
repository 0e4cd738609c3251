"""Debian's package in a virtual machine: the documented steps to a picture in Chromium, update, removal.

One boot for all steps (`scripts/harness/package_steps`). OCCLUFIX_DEB names the package, which takes minutes to build
and more to install in the machine, so CI alone does it in every run; the reason of a skip names what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.harness.package_steps import STEPS, documented_commands
from scripts.vm.machine import NoMachine, find
from tests.harness.in_machine import settle

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1200.0
#: What a slow typist writes in two minutes.
MOST_KEYS = 240
#: Answers to apt and to `setup`, each with Enter, and a password.
ANSWERS = 2 * len("y\n") + len("a long password\n")
OUT_OF_TIME = 124  # of a machine's command
MEMORY = "4G"  # two thirds of it hold files

pytestmark = pytest.mark.timeout(LIMIT_S + 900)


def package() -> Path:
    """The package under test; skips if none is named."""
    named = os.environ.get("OCCLUFIX_DEB")
    if not named:
        pytest.skip("NOT PROVED HERE: no package: scripts/build_deb.py builds one, OCCLUFIX_DEB names it")
    return Path(named).resolve()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each step found in the machine."""
    under_test = package()
    try:
        machine = find()
    except NoMachine as reason:
        pytest.skip(f"NOT PROVED HERE: no virtual machine: {reason}")
    if shutil.which("chromium-headless-shell") is None:
        pytest.skip("NOT PROVED HERE: no chromium-headless-shell")
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "scripts.harness.package_steps", str(under_test)]
    status = machine.run(command, folder, LIMIT_S, ROOT, MEMORY)
    console = (folder / "console").read_text(errors="replace")
    sys.stdout.write(console[-6000:])
    told: dict[str, dict[str, Any]] = {}
    if (folder / "found.json").exists():
        told = json.loads((folder / "found.json").read_text())
    if status == OUT_OF_TIME:
        reason = f"NOT PROVED HERE: {LIMIT_S:.0f} s were over before the machine came to it; this computer is too busy"
        told = {**{name: {"skipped": reason} for name in STEPS}, **told}
    return told


def test_at_most_three_commands_are_documented_and_typed_in_two_minutes() -> None:
    commands = documented_commands()
    assert len(commands) == 3 and commands[0].startswith("sudo apt install ")
    assert sum(len(command) + len("\n") for command in commands) + ANSWERS <= MOST_KEYS


@pytest.mark.parametrize("name", STEPS)
def test_in_the_machine(name: str, found: dict[str, dict[str, Any]], record_property: Callable[..., None]) -> None:
    settle(name, found, record_property)
