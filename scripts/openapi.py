"""Writes docs/openapi.json, the description of the control API, from its endpoints: python -m scripts.openapi."""

from __future__ import annotations

import json
from pathlib import Path

from occlufix_vcam.control.api import build_app
from occlufix_vcam.control.services import Services
from occlufix_vcam.control.sessions import Sessions
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.state import ControlAddress
from occlufix_vcam.runtime.daemon import Daemon

TARGET = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def description() -> str:
    """Current content of the file."""
    daemon = Daemon(Settings())
    services = Services.of(daemon, Sessions(ControlAddress(0, "", 0)))
    return json.dumps(build_app(daemon, services).openapi(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(description(), encoding="utf-8")
    print(f"written: {TARGET}")
