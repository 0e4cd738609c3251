"""Makes `.venv`, installs the project with all that its checks need, and runs them: python3 scripts/run_tests.py.

Arguments go to pytest. Without any, style, types and import rules are checked first.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bootstrap import ROOT, SetupError, prepare

#: Named, because a plain `torch` may bring gigabytes of CUDA packages that no test needs.
TORCH = "torch==2.13.0"
#: 270 MB, in 10 to 40 s. Where it does not install (macOS, ARM), what it tests is skipped, and says so.
TENSORRT = ["tensorrt-rtx>=1.0,<2", "cuda-python>=12.6,<14", "tensorrt-cu13-bindings>=11,<12"]
#: Watches keys; on Linux a part of it is compiled, for which the kernel's headers must be there.
HOTKEY = ["pynput>=1.7.7,<2"]
#: pytest's word for: all ran, some failed. Anything else is no matter of a second attempt.
TESTS_FAILED = 1
CHECKS = {
    "style": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy"],
    "import rules": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
}


def main() -> int:
    try:
        python = prepare(["-e", ".[train,dev,tray]"], before=[TORCH], optional=[TENSORRT, HOTKEY])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    failed = []
    if len(sys.argv) == 1:
        for title, arguments in CHECKS.items():
            print(f"- {title}", flush=True)
            if subprocess.run([str(python), *arguments], cwd=ROOT, env=environment).returncode != 0:
                failed.append(title)
    if not tests_pass([str(python), "-m", "pytest", *sys.argv[1:]], environment):
        failed.append("tests")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def tests_pass(pytest: list[str], environment: dict[str, str]) -> bool:
    """What fails is run once more, alone: real browsers and sound servers miss a deadline when a machine is loaded."""
    returned = subprocess.run(pytest, cwd=ROOT, env=environment).returncode
    if returned == TESTS_FAILED:
        print("- once more, only what failed", flush=True)
        again = [*pytest, "--last-failed", "--last-failed-no-failures", "none"]
        returned = subprocess.run(again, cwd=ROOT, env=environment).returncode
        if returned == 0:
            print("passed at the second attempt, each named above as failed: look into it if that happens again")
    return returned == 0


if __name__ == "__main__":
    sys.exit(main())
