"""What tests of every room share: the lane of each, and where real faces lie, if they are there."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from occlufix_vcam.core.telemetry import LOGGER_NAMES

ROOT = Path(__file__).resolve().parent.parent
LANES = ("fast", "train", "desktop", "vm", "gpu")
#: Folders and files whose tests are not `fast`; a single test may carry another lane's mark.
LANE_OF = {
    "tests/cli/test_cli.py": "desktop",
    "tests/control/page": "desktop",
    "tests/control/test_connections.py": "desktop",
    "tests/control/test_guard.py": "desktop",
    "tests/control/test_schema.py": "desktop",
    "tests/desktop": "desktop",
    "tests/engines/test_tensorrt_build.py": "gpu",
    "tests/network": "desktop",
    "tests/offline/test_build_engine.py": "desktop",
    "tests/offline/test_exit.py": "desktop",
    "tests/people/test_known_people.py": "train",
    "tests/readers": "vm",
    "tests/scripts/test_classic_unet.py": "desktop",
    "tests/scripts/test_rented_gpu.py": "train",
    "tests/test_fuzz.py": "desktop",
    "tests/test_notebook.py": "desktop",
    "tests/test_real_cases.py": "desktop",
    "tests/test_whole.py": "desktop",
    "tests/train": "train",
}
#: Of a single test, where it is more than pyproject.toml's: networks are trained, machines booted.
TIMEOUT_S = {"train": 600, "vm": 600}


def lane_of(path: Path) -> str:
    """The lane of a file's tests."""
    place = path.resolve().relative_to(ROOT)
    return next((LANE_OF[each] for each in map(Path.as_posix, (place, *place.parents)) if each in LANE_OF), "fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what only another lane can import, or imports for long; a file may hold tests marked for this one."""
    if collection_path.suffix != ".py":
        return None
    lane, chosen = lane_of(collection_path), config.option.markexpr
    if chosen in LANES:
        return None if lane == chosen or f"mark.{chosen}" in collection_path.read_text(encoding="utf-8") else True
    return True if lane == "train" and importlib.util.find_spec("torch") is None else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test with its lane, and gives slow lanes their time."""
    for item in items:
        own = [name for name in LANES if item.get_closest_marker(name)]
        lane = own[0] if own else lane_of(item.path)
        item.add_marker(lane)
        if lane in TIMEOUT_S and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[lane]))


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is left out without torch, unless another lane was asked for."""
    left_out = importlib.util.find_spec("torch") is None and config.option.markexpr not in set(LANES) - {"train"}
    return "NO TORCH: the training is NOT tested here; pip install -e .[train]" if left_out else None


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


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `films`."""
    for name in [name for name, module in sys.modules.items() if name.startswith("occlufix") and hasattr(module, "av")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models, and their manifest."""
    from tests.harness.models import write_models

    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def models(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those models in place of the ones that ship."""
    from engines import manifest

    monkeypatch.setattr(manifest, "MODELS", written)
    return written
