"""The checks inside the virtual machine name modules that exist: there it would take minutes to find out."""

from __future__ import annotations

import importlib.util

import pytest

from scripts.harness.in_machine.scene import MODULES


@pytest.mark.parametrize("name", MODULES)
def test_what_the_daemon_imports_in_the_machine_is_there(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
