"""What failed is run once more; what fails twice, or needs that in two runs in a row, has failed."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

from tests import conftest
from tests.scripts.test_quickstart import load

load("bootstrap")
attempts = load("attempts")
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


def command(folder: Path) -> list[str]:
    """pytest on the tests of `folder` alone."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    return [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir",
        str(folder),
        "-c",
        str(folder / "pytest.ini"),
        str(folder),
    ]


def run(*folders: Path) -> bool:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # which would take most of the time
    record = folders[0] / "kept" / "record.json"
    return bool(run_tests.tests_pass([command(folder) for folder in folders], environment, record))


@pytest.mark.parametrize(("text", "passes"), [(ONCE, True), (ONCE + "    assert False\n", False)])
def test_only_what_failed_has_a_second_attempt(tmp_path: Path, text: str, passes: bool) -> None:
    (tmp_path / "test_once.py").write_text(text.format(folder=tmp_path))
    assert run(tmp_path) is passes
    assert (tmp_path / "fine").read_text() == "ran "


@pytest.mark.parametrize("broken", [0, 1])
def test_each_of_two_runs_has_its_own_second_attempt(
    tmp_path: Path, broken: int, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        fails = "    assert False\n" if number == broken else ""
        (folder / f"test_{folder.name}.py").write_text(ONCE.format(folder=folder) + fails)
    assert not run(*folders)
    assert [(folder / "fine").read_text() for folder in folders] == ["ran ", "ran "]
    told = capfd.readouterr().out
    assert told.count("once more") == 2 and told.count("needed a second attempt") == 1
    assert f"test_{folders[1 - broken].name}::test_late" in told


def test_what_cannot_even_be_collected_has_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    assert not run(tmp_path)
    assert "once more" not in capfd.readouterr().out


def test_a_second_attempt_in_two_runs_in_a_row_is_a_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_once.py").write_text(ONCE.format(folder=tmp_path))
    assert run(tmp_path)
    assert "needed a second attempt: test_once::test_late" in capfd.readouterr().out
    (tmp_path / "seen").unlink()
    assert not run(tmp_path)
    assert "needed a second attempt, as in the run before: test_once::test_late" in capfd.readouterr().out
    assert run(tmp_path)  # at once, which is remembered too
    (tmp_path / "seen").unlink()
    assert run(tmp_path)


def test_what_did_not_run_is_still_remembered(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    assert attempts.remember(frozenset({"a", "b"}), frozenset({"a"}), record) == frozenset()
    assert attempts.remember(frozenset({"b"}), frozenset(), record) == frozenset()
    assert attempts.remember(frozenset({"a"}), frozenset({"a"}), record) == {"a"}


def test_a_broken_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{")
    assert attempts.remember(frozenset({"a"}), frozenset({"a"}), tmp_path / "record.json") == frozenset()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What a run would install, which checks it makes, and pytest's arguments; all pass."""
    ran: dict[str, list[str]] = {"installed": [], "checks": [], "pytest": []}

    def prepare(requirements: list[str], *, before: list[str], optional: list[list[str]]) -> Path:
        ran["installed"] = [*before, *requirements, *itertools.chain(*optional)]
        return Path("python")

    def tests_pass(runs: list[list[str]], environment: dict[str, str], record: Path) -> bool:
        ran["pytest"] = list(itertools.chain(*(command[command.index("pytest") + 1 :] for command in runs)))
        return True

    monkeypatch.setenv("PIP_NO_COMPILE", "1")  # set by the run, taken back by this
    monkeypatch.setattr(run_tests, "prepare", prepare)
    monkeypatch.setattr(run_tests, "tests_pass", tests_pass)
    monkeypatch.setattr(run_tests, "failed_checks", lambda python, environment: ran["checks"].append(python) or [])
    return ran


def test_the_fast_lane_needs_no_torch(ran: dict[str, list[str]]) -> None:
    assert run_tests.main(["fast", "-x"]) == 0
    assert ran == {"installed": ["-e", ".[dev]"], "checks": [], "pytest": ["--durations=20", "-m", "fast", "-x"]}


def test_without_a_lane_everything_is_installed_and_run(ran: dict[str, list[str]]) -> None:
    assert run_tests.main([]) == 0
    assert ran["checks"] == ["python"]
    marks = [ran["pytest"][place + 1] for place, each in enumerate(ran["pytest"]) if each == "-m"]
    assert marks == [run_tests.WAITS, run_tests.COMPUTES] and marks[1] == f"not ({marks[0]})"
    for lane in run_tests.LANES.values():
        assert set(lane.before) | {name for names in lane.optional for name in names} <= set(ran["installed"])


def test_other_arguments_are_pytests(ran: dict[str, list[str]]) -> None:
    assert run_tests.main(["tests/stages", "-k", "blend"]) == 0
    assert ran["checks"] == [] and ran["pytest"] == ["--durations=20", "tests/stages", "-k", "blend"]


def test_every_lane_is_a_mark_and_each_test_has_one(request: pytest.FixtureRequest) -> None:
    assert set(run_tests.LANES) == set(conftest.LANES)
    assert set(conftest.LANE_OF.values()) < set(conftest.LANES)
    assert all((conftest.ROOT / place).exists() for place in conftest.LANE_OF)
    for item in request.session.items:
        assert sum(item.get_closest_marker(lane) is not None for lane in conftest.LANES) == 1
