"""What checks in an emulated machine told, as tests: each check is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest


def settle(name: str, found: Mapping[str, Mapping[str, Any]], record_property: Callable[..., None]) -> None:
    """Passes, skips or fails as the machine said of the check `name`."""
    assert name in found, f"the machine ended before it came to it; it found {found}"
    record_property("found", found[name])
    if "skipped" in found[name]:
        pytest.skip(found[name]["skipped"])
    assert "failed" not in found[name], found[name]["failed"]
