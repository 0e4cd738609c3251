"""What maintainers rely on: the lock, the lanes that CI runs, and what reports are asked for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "uv.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GITHUB = ROOT / ".github"


def test_the_lock_names_only_the_public_index() -> None:
    hosts = {urlsplit(url).netloc for url in re.findall(r'(?:registry|url) = "([^"]+)"', LOCK)}
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_the_lock_has_a_hash_for_every_file() -> None:
    files = re.findall(r"^.*\{ url = .*$", LOCK, re.MULTILINE)
    assert files and all("hash = " in line for line in files)


def test_the_lock_is_of_this_project() -> None:
    packages = {package["name"]: package for package in tomllib.loads(LOCK)["package"]}
    told = packages["occlufix-vcam"]["metadata"]["requires-dist"]
    specifiers = {one["name"]: one["specifier"].replace(" ", "") for one in told if "marker" not in one}
    for line in PROJECT["project"]["dependencies"]:
        name, bounds = re.match(r"([\w-]+)([^;]*)", line).groups()  # type: ignore[union-attr]
        if ";" not in line:
            assert set(specifiers[name].split(",")) == set(bounds.strip().split(",")), "run: uv lock"


@pytest.mark.parametrize("lane", ["fast", "train", "desktop", "vm"])
def test_ci_runs_every_lane(lane: str) -> None:
    steps = (GITHUB / "workflows/ci.yml").read_text(encoding="utf-8")
    assert f"run_tests.py {lane}" in steps or re.search(rf"lane: \[.*\b{lane}\b.*\]", steps)


@pytest.mark.parametrize("workflow", ["ci.yml", "gpu.yml", "release.yml"])
def test_a_workflow_may_write_only_where_it_says_so(workflow: str) -> None:
    text = (GITHUB / "workflows" / workflow).read_text(encoding="utf-8")
    assert "\npermissions:\n  contents: read\n" in text


@pytest.mark.parametrize("form", sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml")), ids=lambda form: form.name)
def test_every_form_asks_what_doctor_says(form: Path) -> None:
    assert "occlufix-vcam doctor --json" in form.read_text(encoding="utf-8")
