"""The Debian package's texts, and what its scripts do; tests/readers/test_package.py installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import build_deb
from scripts.build_deb import HERE, ROOT

LAUNCHER = "/opt/occlufix-vcam/bin/python3"


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package's control file, for Python 3.13."""
    monkeypatch.setattr(build_deb, "python_version", lambda: (3, 13))
    monkeypatch.setattr(build_deb, "said", lambda *_: "amd64")
    build_deb.write_control(tmp_path, build_deb.package_version())
    return (tmp_path / "DEBIAN/control").read_text(encoding="utf-8")


def test_it_fits_one_python(control: str) -> None:
    assert "Depends: python3 (>= 3.13), python3 (<< 3.14), " in control
    assert f"Version: {build_deb.project()['version']}-1+py313\n" in control


def test_the_kernel_module_is_recommended_not_forced(control: str) -> None:
    assert re.search(r"^Recommends: v4l2loopback-dkms, ", control, re.MULTILINE)
    assert "v4l2loopback" not in control.partition("Depends: ")[2].partition("\nRecommends")[0]


def test_its_extras_are_the_projects() -> None:
    assert set(build_deb.EXTRAS) <= build_deb.project()["optional-dependencies"].keys()


def test_the_licences_are_in_debians_format() -> None:
    text = build_deb.copyright_text()
    assert "Attribution-NonCommercial" in text and "Shicai Yang" in text and "General Public" in text
    lines = text.splitlines()
    assert all(re.match(r"[A-Z][\w-]+:| ", line) or not line for line in lines)


@pytest.mark.parametrize("script", [*build_deb.SCRIPTS, "occlufix-vcam"])
def test_the_scripts_are_plain_sh(script: str) -> None:
    shell = shutil.which("dash") or shutil.which("sh")
    if shell is None:
        pytest.skip("no sh")
    assert subprocess.run([shell, "-n", str(HERE / script)], capture_output=True).stderr == b""


def test_unit_and_scripts_agree_on_the_interpreter() -> None:
    names = ("occlufix-vcam", "shared_files.py")
    assert all(LAUNCHER in (HERE / name).read_text(encoding="utf-8") for name in names)
    pattern = re.search(r"^ours='(.*)'$", (HERE / "prerm").read_text(encoding="utf-8"), re.MULTILINE)
    assert pattern and re.match(pattern[1], LAUNCHER)


def test_ci_and_releases_build_it() -> None:
    for workflow in ("ci.yml", "release.yml"):
        assert "scripts/build_deb.py" in (ROOT / ".github/workflows" / workflow).read_text(encoding="utf-8")
