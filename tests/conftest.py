"""What tests of every room share: where real faces lie, if they are there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from occlufix_vcam.core.telemetry import LOGGER_NAMES

ROOT = Path(__file__).resolve().parent.parent


def find_data() -> Path | None:
    """The folder with faces, clips and occluders: OCCLUFIX_DATA, or shared/data beside or in the checkout."""
    named = os.environ.get("OCCLUFIX_DATA")
    places = [Path(named)] if named else [ROOT.parent / "shared/data", ROOT / "shared/data"]
    return next((place for place in places if (place / "train/index.jsonl").is_file()), None)


@pytest.fixture(scope="session")
def data() -> Path:
    """The data folder; a test that asks for it is skipped where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip("no data folder: set OCCLUFIX_DATA to run the tests that need real faces")
    return folder


@pytest.fixture(autouse=True)
def log_levels_as_they_were() -> Iterator[None]:
    """A daemon in this process may have been asked to say less; the next test listens to all of it."""
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def nothing_of_this_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees who is enrolled on this machine, its keyring, or its cache of engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCCLUFIX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OCCLUFIX_FACES_DIR", str(tmp_path_factory.mktemp("faces")))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        yield
