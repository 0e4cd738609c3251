"""Nothing leaves the machine: no command asks for a name or an address, or leaves a library's file behind.

Variables such as CI silence libraries that report home; they are taken away, as users have none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.manifest import MODELS
from occlufix_vcam import APP_NAME
from occlufix_vcam.sources.demo.portrait import photograph_path
from tests.conftest import ROOT
from tests.network.isolated import Asked, missing, run_isolated

WITHIN_S = 170
PYTHON = sys.executable
PRODUCT = f"{PYTHON} -m occlufix_vcam"
CLIENTS = ("status", "toggle", "preview --print", "stop")
#: $OUT is a folder for what a command is told to write.
COMMANDS = {
    "start": f"{PRODUCT} start --source demo --sink null --seconds 3 --foreground",
    "clients": " && ".join(f"{PRODUCT} {one}" for one in ("start --source demo --sink null", *CLIENTS)),
    "process": f"{PRODUCT} process {ROOT}/docs/before-after.png $OUT/restored.png",
    "enroll": f"{PRODUCT} enroll me --from {photograph_path()}",
    "bench": f"{PRODUCT} bench --frames 10",
    "devices": f"{PRODUCT} devices",
    "build-engine": f"{PRODUCT} build-engine hidden",
    "timing": f"{PYTHON} -m engines",
    "doctor": f"{PRODUCT} doctor > $OUT/doctor.txt; grep 'ok  *network: nothing asked for' $OUT/doctor.txt",
    "optional libraries": f"{PYTHON} {ROOT}/tests/network/optional_libraries.py $OUT",
}
#: Of this process's own environment. ONNX Runtime reports only where it finds certificates.
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SSL_CERT_FILE")
#: What a notebook program keeps of its own.
NOTEBOOK_FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
Isolated = Callable[[str], tuple[Asked, list[str]]]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folders, all empty at first: engines that one command built are the next one's too."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("user")
    for name in ("home", "tmp", "run", "here"):
        (folder / name).mkdir(mode=0o700)
    return folder


@pytest.fixture
def isolated(user: Path, tmp_path: Path) -> Isolated:
    """What a shell's line asks of the network, and the files that it leaves in `user` outside the project's folders."""
    out, notes = tmp_path / "out", tmp_path / "notes"
    out.mkdir()
    notes.mkdir()
    environment = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "HOME": str(user / "home"),
        "TMPDIR": str(user / "tmp"),
        "XDG_RUNTIME_DIR": str(user / "run"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "QT_QPA_PLATFORM": "offscreen",
        "OUT": str(out),
        **{name: str(out / name) for name in NOTEBOOK_FOLDERS},
    }

    def run(line: str) -> tuple[Asked, list[str]]:
        asked = run_isolated(["sh", "-c", line], environment, user / "here", notes, WITHIN_S)
        left = sorted(path for path in user.rglob("*") if not path.is_dir() and APP_NAME not in path.parts)
        for path in left:
            path.unlink()  # the next command is not blamed for it
        return asked, [str(path.relative_to(user)) for path in left]

    return run


def assert_asks_nothing(isolated: Isolated, line: str) -> None:
    asked, files = isolated(line)
    assert (asked.names, asked.addresses, files) == ([], [], [])
    assert asked.code == 0, asked.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_asks_the_network_for_nothing(isolated: Isolated, command: str) -> None:
    assert_asks_nothing(isolated, COMMANDS[command])


def test_the_notebook_asks_the_network_for_nothing(isolated: Isolated) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert_asks_nothing(isolated, f"{PYTHON} -c 'from nbclient.cli import main; main()' {ROOT}/docs/inference.ipynb")


@pytest.mark.gpu
def test_building_for_another_gpu_asks_the_network_for_nothing(isolated: Isolated) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert_asks_nothing(isolated, f"{PRODUCT} build-engine hidden --for sm86")


@pytest.mark.train
def test_evaluation_asks_the_network_for_nothing(isolated: Isolated, data: Path) -> None:
    pytest.importorskip("torch")
    assert_asks_nothing(
        isolated, f"{PYTHON} -m train eval hidden --run {MODELS}/hidden.fp32.onnx --data {data} --limit 1"
    )


def test_what_asks_is_seen(isolated: Isolated) -> None:
    asking = (
        "import pathlib, socket\n"
        "pathlib.Path.home().joinpath('id').touch()\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect_ex(('192.0.2.7', 9))\n"
        "socket.getaddrinfo('reports.example', 443)\n"
    )
    asked, files = isolated(f'{PYTHON} -c "{asking}"')
    assert asked.code == 1 and set(asked.names) == {"reports.example"} and files == ["home/id"]
    assert asked.addresses == (["192.0.2.7"] if shutil.which("strace") else [])
