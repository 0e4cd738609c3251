"""Settings: defaults < config file < environment (OCCLUFIX_*) < command line. Frozen: a change is a new value."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from occlufix_vcam.errors import ConfigError

APP_NAME = "occlufix-vcam"
ENVIRONMENT_PREFIX = "OCCLUFIX_"


def config_path() -> Path:
    """The settings file; it need not exist. OCCLUFIX_CONFIG names another one."""
    named = os.environ.get("OCCLUFIX_CONFIG")
    return Path(named) if named else platformdirs.user_config_path(APP_NAME) / "settings.toml"
