"""Creates `.venv`, installs the project with what its checks need, and runs them: python3 scripts/run_tests.py [LANE].

Without arguments, everything: style, types and import rules, then all tests. A lane (`fast`, `train`, `desktop`, `vm`,
`gpu`) runs the tests with that marker, and installs only what they need. Other arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from attempts import Attempt, default_record, read_report, remember
from bootstrap import ROOT, SetupError, prepare

#: Named, because a plain `torch` may bring gigabytes of CUDA packages that no test needs.
TORCH = "torch==2.13.0"
#: 270 MB, in 10 to 40 s. If it cannot be installed (macOS, ARM), its tests are skipped with a reason.
TENSORRT = ["tensorrt-rtx>=1.0,<2", "cuda-python>=12.6,<14", "tensorrt-cu13-bindings>=11,<12"]
#: Watches keys; on Linux a part of it is compiled, which needs the kernel headers.
HOTKEY = ["pynput>=1.7.7,<2"]
#: All tests, in two runs side by side: what mostly waits, for browsers and machines, and what computes and gives way.
WAITS, COMPUTES = "desktop or vm", "not (desktop or vm)"
GIVES_WAY = ["nice", "-n", "10"]
#: pytest's exit code for: all ran, some failed. Any other is not retried.
TESTS_FAILED = 1
CHECKS = {
    "style": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy"],
    "import rules": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What tests need besides the product: its extras, what is installed first, and what may be missing."""

    extras: str
    before: list[str] = field(default_factory=list)
    optional: list[list[str]] = field(default_factory=list)

    def install(self) -> Path:
        """Creates the environment; returns its interpreter. Raises SetupError."""
        os.environ.setdefault("PIP_NO_COMPILE", "1")  # most of what comes with torch is never imported
        return prepare(["-e", f".[{self.extras}]"], before=self.before, optional=self.optional)


ALL = Needs("train,dev,tray", [TORCH], [TENSORRT, HOTKEY])
LANES = {
    "fast": Needs("dev"),
    "train": Needs("train,dev", [TORCH]),
    "desktop": Needs("dev,tray", optional=[HOTKEY]),
    "vm": Needs("dev"),
    "gpu": Needs("dev", optional=[TENSORRT]),
}


def main(arguments: list[str]) -> int:
    lane = arguments[0] if arguments and arguments[0] in LANES else None
    try:
        python = str(LANES.get(lane or "", ALL).install())
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    failed = [] if arguments else failed_checks(python, environment)
    pytest = [python, "-m", "pytest", "--durations=20"]
    runs = [[*pytest, *(["-m", lane, *arguments[1:]] if lane else arguments)]] if arguments else side_by_side(pytest)
    if not tests_pass(runs, environment, default_record()):
        failed.append("tests")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def failed_checks(python: str, environment: dict[str, str]) -> list[str]:
    """Titles of the checks that fail, tests aside."""
    failed = []
    for title, arguments in CHECKS.items():
        print(f"- {title}", flush=True)
        if subprocess.run([python, *arguments], cwd=ROOT, env=environment).returncode != 0:
            failed.append(title)
    return failed


def side_by_side(pytest: list[str]) -> list[list[str]]:
    """The commands of two runs that share all tests, each with its own memory of what failed."""
    runs = [[*pytest, "-m", marks, "-o", f"cache_dir=.pytest_cache/{n}"] for n, marks in enumerate((WAITS, COMPUTES))]
    return [runs[0], [*GIVES_WAY, *runs[1]] if shutil.which(GIVES_WAY[0]) else runs[1]]


def tests_pass(runs: list[list[str]], environment: dict[str, str], record: Path) -> bool:
    """Whether all tests of some runs of pytest, side by side, pass, with a second attempt, one run after the other, for
    those that failed: real browsers and sound servers miss deadlines on a loaded machine.

    A test that needs a second attempt in two runs in a row has failed; `record` remembers.
    """
    with ThreadPoolExecutor(len(runs)) as pool:
        first = list(pool.map(lambda run: attempt(run, environment, shown=run is runs[0]), runs))
    passed, ran, late = True, frozenset[str](), frozenset[str]()
    for run, (tried, returned) in zip(runs, first, strict=True):
        second = Attempt()
        if returned == TESTS_FAILED:
            print("- once more, only what failed", flush=True)
            again = [*run, "--last-failed", "--last-failed-no-failures", "none"]
            second, returned = attempt(again, environment)
        passed &= returned == 0
        ran |= tried.ran
        late |= (tried.failed & second.ran) - second.failed
    repeated = remember(ran, late, record)
    for name in sorted(late):
        print(f"needed a second attempt{', as in the run before' if name in repeated else ''}: {name}")
    return passed and not repeated


def attempt(pytest: list[str], environment: dict[str, str], shown: bool = True) -> tuple[Attempt, int]:
    """Tests that ran and failed, and pytest's exit code. What is not `shown` as it comes is printed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [*pytest, f"--junitxml={report}"]
        if shown:
            returned = subprocess.run(command, cwd=ROOT, env=environment).returncode
        else:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            returned = done.returncode
            print(done.stdout.decode(errors="replace"), flush=True)
        return read_report(report), returned


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
