"""Desktop integration for one user: menu entry, icon, software-centre metadata, man page and shell completion.

`setup` writes these files into the user's own data folder, never as root, and `setup --undo` removes them. Debian's
package has them for all users. Their places follow the freedesktop.org base directory specification.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from engines.installing import is_packaged
from occlufix_vcam.desktop.autostart import FOLDERS, desktop_word, tray_is_installed
from occlufix_vcam.diagnostics.setup import SetupPlan, Step
from occlufix_vcam.system.linux import LinuxMachine

COMMAND = "occlufix-vcam"
#: Desktop identifier of the program: name of entry, icon and metadata.
APP_ID = "io.github.occlufix.occlufix_camera"
#: Files that are the same for every user.
SHARED = resources.files("occlufix_vcam") / "share"

ENTRY = """\
[Desktop Entry]
Type=Application
Name=OccluFix Camera
GenericName=Virtual camera
Comment=Restores the hidden part of your face in video calls
Exec={exec}
TryExec={program}
Icon={icon}
Terminal=false
Categories=AudioVideo;Video;
Keywords=webcam;virtual camera;video call;
Actions=start;stop;toggle;preview;
{actions}"""
ACTION = """
[Desktop Action {command}]
Name={name}
Exec={exec}
"""
ACTIONS = {"start": "Start", "stop": "Stop", "toggle": "Switch on or off", "preview": "Open the control page"}


@dataclass(frozen=True, slots=True)
class UserFile:
    """File for the user: its purpose, place and text."""

    what: str
    path: Path
    text: str

    @property
    def is_there(self) -> bool:
        try:
            return self.path.read_text(encoding="utf-8") == self.text
        except (OSError, UnicodeDecodeError):
            return False


def user_files(home: Path) -> list[UserFile]:
    """All files for the user with this home."""
    return files_below(_data_folder(home), desktop_entry())


def files_below(data: Path, entry: str) -> list[UserFile]:
    """All files in a data folder, with `entry` as the menu entry."""
    metainfo, icon, manual = f"{APP_ID}.metainfo.xml", f"{APP_ID}.svg", f"{COMMAND}.1"
    return [
        UserFile("the menu entry", data / f"applications/{APP_ID}.desktop", entry),
        UserFile("its icon", data / "icons/hicolor/scalable/apps" / icon, _shared(icon)),
        UserFile("what software centres show", data / "metainfo" / metainfo, _shared(metainfo)),
        UserFile("the manual: `man occlufix-vcam`", data / "man/man1" / manual, _shared(manual)),
        UserFile("completion in bash", data / "bash-completion/completions" / COMMAND, completion("bash")),
        UserFile("completion in fish", data / f"fish/vendor_completions.d/{COMMAND}.fish", completion("fish")),
    ]


def setup_plan(machine: LinuxMachine) -> SetupPlan:
    """Steps for files that are missing or of another version."""
    made = SetupPlan()
    if is_packaged():
        made.ready.append("menu entry, icon, manual page and shell completion came with the package")
        return made
    for file in user_files(machine.home):
        if file.is_there:
            made.ready.append(f"{file.what} is installed")
        else:
            # One command creates the folders, too.
            command = ("install", "-D", "-m", "644", "/dev/stdin", str(file.path))
            made.steps.append(Step(f"installs {file.what}", command, file.text, machine.user))
    return made


def undo_plan(machine: LinuxMachine) -> SetupPlan:
    """Steps that remove existing files; their names are ours alone."""
    there = [file for file in user_files(machine.home) if file.path.exists()]
    return SetupPlan(
        steps=[Step(f"removes {file.what}", ("rm", "-f", str(file.path)), user=machine.user) for file in there]
    )


def desktop_entry(product: Sequence[str] = (sys.executable, "-m", "occlufix_vcam")) -> str:
    """Menu entry: it starts the tray icon or, without PySide6, the camera and its control page.

    `product` is the command line of the installation, by default of this one.
    """
    actions = "".join(
        ACTION.format(command=command, name=name, exec=_exec([*product, command])) for command, name in ACTIONS.items()
    )
    return ENTRY.format(exec=_exec(_main_command(product)), program=product[0], icon=APP_ID, actions=actions)


def _main_command(product: Sequence[str]) -> list[str]:
    if tray_is_installed():
        return [*product, "tray"]
    # A running camera is no reason not to open its page.
    return ["sh", "-c", '"$@" start; exec "$@" preview', "sh", *product]


def _exec(command: list[str]) -> str:
    return " ".join(map(desktop_word, [*_environment(), *command]))


def _environment() -> Iterator[str]:
    """Variables that relocate the product's files, so that the entry finds the same ones."""
    folders = [f"{name}={os.environ[name]}" for name in FOLDERS if os.environ.get(name)]
    if folders:
        yield from ("env", *folders)


def _data_folder(home: Path) -> Path:
    """Data folder. XDG_DATA_HOME applies to the user who runs this, not to one behind sudo."""
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if named and home == Path.home() else home / ".local/share"


def _shared(name: str) -> str:
    return (SHARED / name).read_text(encoding="utf-8")


def completion(shell: str) -> str:
    script: Callable[..., str] = pkgutil.resolve_name("typer.completion:get_completion_script")  # not typed as public
    return script(prog_name=COMMAND, complete_var="_OCCLUFIX_VCAM_COMPLETE", shell=shell) + "\n"
