"""What failed is run once more; what fails twice has failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.scripts.test_quickstart import load

load("bootstrap")
run_tests = load("run_tests")

ONCE = """
from pathlib import Path

def test_fine():
    with Path("{folder}/fine").open("a") as file:
        file.write("ran ")

def test_late():
    seen = Path("{folder}/seen")
    before = seen.exists()
    seen.touch()
    assert before
"""


@pytest.mark.parametrize(("text", "passes"), [(ONCE, True), (ONCE + "    assert False\n", False)])
def test_only_what_failed_has_a_second_attempt(tmp_path: Path, text: str, passes: bool) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    file = tmp_path / "test_once.py"
    file.write_text(text.format(folder=tmp_path))
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini")]
    assert run_tests.tests_pass([*command, str(file)], dict(os.environ)) is passes
    assert (tmp_path / "fine").read_text() == "ran "


def test_what_cannot_even_be_collected_has_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    assert not run_tests.tests_pass(command, dict(os.environ))
    assert "once more" not in capfd.readouterr().out
