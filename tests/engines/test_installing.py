"""The commands that install something more: right for a clone, a wheel, an index, and whatever made the environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from engines import installing
from engines.installing import install_again, install_extra, install_package

pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths and quotes are those of a POSIX shell")

WHEEL = "file:///home/ada/occlufix_vcam-0.1.0-py3-none-any.whl"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in the working directory, with a virtual environment that runs this code."""
    clone = tmp_path / "occlufix"
    pip = clone / ".venv/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.touch()
    (clone / "pyproject.toml").touch()
    monkeypatch.chdir(clone)
    monkeypatch.setattr(installing, "_ROOT", clone)
    monkeypatch.setattr(sys, "prefix", str(clone / ".venv"))
    return clone


def installed_from(told: object, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code lies in site-packages, with what the installer wrote beside it."""
    monkeypatch.setattr(installing, "_ROOT", environment / ".venv/lib/python3.11/site-packages")
    monkeypatch.setattr(installing, "_direct_url", lambda: told)


def test_in_a_clone_they_are_short(environment: Path) -> None:
    assert install_extra("tray") == ".venv/bin/pip install '.[tray]'"
    assert install_package("onnxruntime") == ".venv/bin/pip install onnxruntime"
    assert install_again() == ".venv/bin/pip install --force-reinstall --no-deps ."


def test_elsewhere_they_name_the_clone(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment.parent.parent)
    assert install_extra("tray").endswith(f"/.venv/bin/pip install '{environment}[tray]'")


def test_a_clone_that_was_copied_into_the_environment_is_remembered(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_from({"url": environment.as_uri(), "dir_info": {}}, environment, monkeypatch)
    assert install_extra("tray") == ".venv/bin/pip install '.[tray]'"


def test_a_wheel_is_named_by_its_file(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from({"url": WHEEL, "archive_info": {}}, environment, monkeypatch)
    assert install_extra("tray") == f".venv/bin/pip install 'occlufix-vcam[tray] @ {WHEEL}'"
    assert install_again() == f".venv/bin/pip install --force-reinstall --no-deps 'occlufix-vcam @ {WHEEL}'"


def test_only_what_an_index_had_is_asked_of_an_index(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from({}, environment, monkeypatch)
    assert install_extra("tray") == ".venv/bin/pip install 'occlufix-vcam[tray]'"


def test_an_environment_of_uv_or_pipx_has_no_pip(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from({"url": WHEEL, "archive_info": {}}, environment, monkeypatch)
    mark = environment / ".venv/uv-receipt.toml"
    mark.touch()
    assert install_extra("tray") == f"uv tool install --force 'occlufix-vcam[tray] @ {WHEEL}'"
    assert install_package("pynput") == f"uv tool install --force --with pynput 'occlufix-vcam @ {WHEEL}'"
    mark.rename(environment / ".venv/pipx_metadata.json")
    assert install_package("pynput") == "pipx inject occlufix-vcam pynput"
    assert install_again() == f"pipx install --force 'occlufix-vcam @ {WHEEL}'"


def test_without_a_pip_of_its_own_the_interpreter_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / ".venv/bin/pip").unlink()
    assert install_extra("tray") == f"{sys.executable} -m pip install '.[tray]'"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert install_extra("tray") == f"uv pip install --python {sys.executable} '.[tray]'"


def test_what_the_installer_wrote_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return json.dumps({"url": WHEEL, "archive_info": {}}) if name == "direct_url.json" else None

    monkeypatch.setattr(installing.metadata, "distribution", lambda _: Distribution())
    assert installing._direct_url()["url"] == WHEEL


def test_the_environment_of_a_package_is_roots(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from({}, environment, monkeypatch)
    (Path(sys.prefix) / "debian-package").touch()
    (Path(sys.prefix) / "bin/pip").unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert installing.install_again() == "sudo apt install --reinstall occlufix-vcam"
    assert installing.install_extra("tensorrt").startswith("sudo uv pip install --python ")
