"""What is packed: licences, typing marks, the demo's picture, metadata of desktops, the man page, and no heavy need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from engines.contract import MODEL_NAMES
from occlufix_vcam import __version__
from occlufix_vcam.cli import app
from occlufix_vcam.diagnostics.integration import APP_ID, SHARED
from scripts.man_page import TARGET, man_page

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST_WHEEL = 58_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this tree."""
    hatchling = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is missing: pip install -e .[dev]")
    folder = tmp_path_factory.mktemp("wheel")
    built = next(hatchling.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    return zipfile.ZipFile(built)


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    parts = {name.split("/")[0] for name in names}
    assert parts == {"occlufix_vcam", "engines", f"occlufix_vcam-{__version__}.dist-info"}
    assert {"occlufix_vcam/py.typed", "engines/py.typed", "engines/models/models.toml"} <= names
    assert {f"occlufix_vcam/share/{APP_ID}.svg", "occlufix_vcam/share/occlufix-vcam.1"} <= names
    assert any(name.endswith("/astronaut.jpg") for name in names)
    networks = [name for name in names if name.endswith(".onnx")]
    assert {f"engines/models/{name}.fp32.onnx" for name in MODEL_NAMES} < set(networks)
    assert [name for name in networks if ".fp16." in name] == ["engines/models/restore.fp16.onnx"]
    assert Path(wheel.filename or "").stat().st_size <= LARGEST_WHEEL


def test_the_wheel_holds_the_text_of_each_licence_that_it_names(wheel: zipfile.ZipFile) -> None:
    info = f"occlufix_vcam-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: MIT AND CC-BY-NC-4.0 AND BSD-3-Clause" in metadata
    assert metadata.startswith("Metadata-Version: 2.4\n"), "twine and PyPI refuse what they do not know yet"
    networks = wheel.read(f"{info}/licenses/LICENSES/CC-BY-NC-4.0.txt").decode()
    assert "Attribution-NonCommercial 4.0 International Public License" in networks
    assert "Shicai Yang" in wheel.read(f"{info}/licenses/LICENSES/BSD-3-Clause.txt").decode()
    assert wheel.read(f"{info}/licenses/LICENSE").decode().startswith("MIT License")


def test_the_entry_point_is_there(wheel: zipfile.ZipFile) -> None:
    points = wheel.read(f"occlufix_vcam-{__version__}.dist-info/entry_points.txt").decode()
    assert "occlufix-vcam = occlufix_vcam.__main__:main" in points


def test_what_few_need_is_an_extra() -> None:
    needed = {re.match(r"[\w-]+", line)[0]: line for line in PROJECT["dependencies"]}  # type: ignore[index]
    assert not needed.keys() & {"scikit-image", "openvino", "torch", "PySide6-Essentials", "av"}
    assert "sys_platform == 'win32'" in needed["pyvirtualcam"]
    assert {"openvino", "films", "virtualcam", "tray", "hotkey", "tensorrt"} <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize("table", ["dependencies", *PROJECT["optional-dependencies"]])
def test_each_need_has_a_floor_and_a_ceiling(table: str) -> None:
    lines = PROJECT.get(table) or PROJECT["optional-dependencies"][table]
    bounds = [line.partition(";")[0] for line in lines if not line.startswith("occlufix-vcam[")]
    assert all(">=" in line and ",<" in line for line in bounds)


def test_every_python_that_is_named_is_tested() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    tested = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert named == ["3.11", "3.12", "3.13", "3.14"] and all(f'"{version}"' in tested for version in named)


def test_the_versions_agree() -> None:
    assert PROJECT["version"] == __version__
    answer = CliRunner().invoke(app.app, ["--version"])
    assert (answer.exit_code, answer.output) == (0, f"occlufix-vcam {__version__}\n")


def test_completion_is_offered() -> None:
    environment = {"_OCCLUFIX_VCAM_COMPLETE": "complete_bash", "COMP_WORDS": "occlufix-vcam sta", "COMP_CWORD": "1"}
    answer = CliRunner().invoke(app.app, prog_name="occlufix-vcam", env=environment)
    assert answer.output.split() == ["start", "status"]


def test_the_man_page_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == man_page(), "run: python -m scripts.man_page"


def test_the_man_page_has_every_command_and_no_fault() -> None:
    text = man_page()
    names = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
    assert "start" in names and all(f".SS {name} ".replace("-", "\\-") in text for name in names)
    if shutil.which("groff") is None:
        pytest.skip("NO GROFF: the man page is NOT checked; on Debian: groff")
    checked = subprocess.run(["groff", "-man", "-ww", "-z"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_metadata_for_software_centres_agrees_with_the_project() -> None:
    component = ElementTree.fromstring((SHARED / f"{APP_ID}.metainfo.xml").read_text(encoding="utf-8"))
    said = {child.get("type", child.tag): child.text for child in component}
    assert (said["id"], said["desktop-id"]) == (APP_ID, f"{APP_ID}.desktop")
    assert said["project_license"] == PROJECT["license"]
    assert (said["homepage"], said["bugtracker"]) == (PROJECT["urls"]["Homepage"], PROJECT["urls"]["Issues"])
    assert component.findtext("provides/binary") in PROJECT["scripts"]


def test_the_metadata_for_software_centres_is_valid() -> None:
    validator = shutil.which("appstreamcli")
    if validator is None:
        pytest.skip("NO APPSTREAMCLI: the metadata is NOT validated; on Debian: appstream")
    with_file = [validator, "validate", "--no-net", str(SHARED / f"{APP_ID}.metainfo.xml")]
    assert subprocess.run(with_file, capture_output=True).returncode == 0


def test_importing_the_product_imports_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import occlufix_vcam; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["occlufix_vcam"]
