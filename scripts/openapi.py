"""Writes docs/openapi.json, the description of the control API, from the endpoints themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "openapi.json"


def description() -> str:
    """What the file holds while the code is as it is."""
    sys.path.insert(0, str(ROOT))
    from occlufix_vcam.control.api import build_app
    from occlufix_vcam.control.guard import Sessions
    from occlufix_vcam.control.services import Services
    from occlufix_vcam.daemon import Daemon
    from occlufix_vcam.settings import Settings
    from occlufix_vcam.state import ControlAddress

    daemon = Daemon(Settings())
    services = Services.of(daemon, Sessions(ControlAddress(0, "", 0), ""))
    return json.dumps(build_app(daemon, services).openapi(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(description(), encoding="utf-8")
    print(f"written: {TARGET}")
