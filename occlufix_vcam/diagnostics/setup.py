"""`setup`: what is missing before every program lists OccluFix Camera, and the steps to install it.

A step is a command that is shown before it runs. Steps done are recorded in our own file for modprobe, so that `--undo`
reverts those and nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.system.linux import LOAD_FILE, MODULE, OPTIONS_FILE, WITHOUT_MODULE, LinuxMachine
from occlufix_vcam.system.v4l2 import OWN_LABEL

#: guvcview ends where the module gives it fewer than the four buffers it asks for; the module's own default is two.
OPTIONS = f'options {MODULE} devices=1 exclusive_caps=1 max_buffers=4 card_label="{OWN_LABEL}"'
#: Option that must remain whatever a user adds, such as devices for other programs.
_OURS = re.compile(rf"^options {MODULE} .*\bexclusive_caps=1\b.*\bcard_label=.*{OWN_LABEL}", re.MULTILINE)
DKMS_PACKAGE = "v4l2loopback-dkms"
FEDORA_PACKAGE = "akmod-v4l2loopback"
_DONE, _GROUP = "# setup did: ", "group"
NO_MODULES = "there are no modules for the running kernel {}: a container, or a kernel just updated (then restart)"


class SetupFailed(DeviceError):
    """A step failed; the later ones were not run."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its reason, its command, and the command's input. Root runs it, or `user` if one is named.

    Files for a user have many lines: only their number is shown.
    """

    why: str
    command: tuple[str, ...]
    text: str = ""
    user: str = ""

    def __str__(self) -> str:
        line = shlex.join(self.command)
        text = f"'... {len(self.text.splitlines())} lines ...'" if self.user else shlex.quote(self.text)
        return f"printf %s {text} | {line}" if self.text else line


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """`ready` lists what is in place, `steps` what to do in this order, `notes` what only the user can do or know."""

    ready: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: SetupPlan) -> SetupPlan:
        return SetupPlan(self.ready + other.ready, self.steps + other.steps, self.notes + other.notes)

    @property
    def needs_root(self) -> bool:
        return any(not step.user for step in self.steps)


def setup_plan(machine: LinuxMachine) -> SetupPlan:
    """Missing steps on a Linux machine, also where they must fail. Raises DeviceError if no step is known."""
    made = SetupPlan()
    if not machine.can_load:
        made.notes.append(f"{NO_MODULES.format(machine.kernel)}: {WITHOUT_MODULE}")
    packages = [] if machine.has_module or machine.is_loaded else _packages(machine)
    joins = machine.user != "root" and not machine.is_in_group("video")
    if packages:
        made.steps.extend(_install(machine, packages))
    else:
        made.ready.append(f"the kernel module {MODULE} is installed")
    _configure(machine, made, [*packages, *([_GROUP] if joins else [])])
    _load(machine, made)
    if joins:
        made.steps.append(Step(f"lets {machine.user} write to it", ("usermod", "-aG", "video", machine.user)))
        made.notes.append("log out and in again for the group to take effect")
    made.notes.extend(notes(machine))
    return made


def check_can_load(machine: LinuxMachine) -> None:
    """Raises DeviceError if no step can make this kernel load the module."""
    if not machine.can_load:
        raise DeviceError(NO_MODULES.format(machine.kernel), WITHOUT_MODULE)


def undo_plan(machine: LinuxMachine) -> SetupPlan:
    """Steps that revert `setup_plan`, as far as our own file records them."""
    made = SetupPlan()
    if not machine.options and not machine.loads_at_start:
        made.ready.append("there is nothing to revert")
        return made
    for file in (OPTIONS_FILE, LOAD_FILE):
        made.steps.append(Step("removes our settings", ("rm", "-f", f"/{file}")))
    if machine.is_loaded:
        made.steps.append(Step("unloads the module", ("modprobe", "-r", MODULE)))
    did = _recorded(machine)
    packages = [name for name in did if name != _GROUP]
    if packages and (manager := machine.package_manager):
        remove = {"apt": ("apt-get", "remove", "-y"), "dnf": ("dnf", "remove", "-y"), "pacman": ("pacman", "-R")}
        made.steps.append(Step("removes what setup installed", (*remove[manager], *packages)))
    if _GROUP in did:
        made.steps.append(Step(f"removes {machine.user} from the group", ("gpasswd", "-d", machine.user, "video")))
    return made


# ---- the steps ----


def _packages(machine: LinuxMachine) -> list[str]:
    """Packages of the module, and what it is built with."""
    headers = not machine.has_headers
    match machine.package_manager:
        case "apt":
            return [DKMS_PACKAGE, *([f"linux-headers-{machine.kernel}"] if headers else [])]
        case "dnf":
            return [FEDORA_PACKAGE, *([f"kernel-devel-{machine.kernel}"] if headers else [])]
        case "pacman":
            return [DKMS_PACKAGE, *([f"{machine.kernel_package}-headers"] if headers else [])]
    name = machine.release.get("PRETTY_NAME", "this system")
    raise DeviceError(
        f"{name} has no supported package manager to install {MODULE} (apt, dnf or pacman)",
        f"install {MODULE} the way your system recommends, or: {WITHOUT_MODULE}",
    )


def _install(machine: LinuxMachine, packages: list[str]) -> Iterator[Step]:
    why = f"installs the kernel module {MODULE}"
    match machine.package_manager:
        case "apt":
            yield Step("refreshes the package list", ("apt-get", "update"))
            yield Step(why, ("apt-get", "install", "-y", *packages))
        case "dnf":
            if not (machine.root / "etc/yum.repos.d/rpmfusion-free.repo").exists():
                yield Step("adds RPM Fusion, which has the module", ("dnf", "install", "-y", _rpm_fusion(machine)))
            yield Step(why, ("dnf", "install", "-y", *packages))
            yield Step("builds it for this kernel", ("akmods", "--force", "--kernels", machine.kernel))
        case "pacman":
            yield Step(why, ("pacman", "-S", "--needed", "--noconfirm", *packages))


def _rpm_fusion(machine: LinuxMachine) -> str:
    kind = "fedora" if machine.release.get("ID") == "fedora" else "el"
    version = machine.release.get("VERSION_ID", "").split(".")[0]
    return f"https://mirrors.rpmfusion.org/free/{kind}/rpmfusion-free-release-{version}.noarch.rpm"


def _configure(machine: LinuxMachine, made: SetupPlan, did: list[str]) -> None:
    """Sets label and exclusive_caps for every later load, and loads the module at each boot."""
    if _OURS.search(machine.options):
        made.ready.append(f"its settings are in /{OPTIONS_FILE}")
    else:
        did = list(dict.fromkeys([*_recorded(machine), *did]))
        record = f"{_DONE}{' '.join(did)}\n" if did else ""
        text = f"# Written by `occlufix-vcam setup`; `occlufix-vcam setup --undo` removes it.\n{record}{OPTIONS}\n"
        made.steps.append(
            Step("sets the label and exclusive_caps, which browsers require", ("tee", f"/{OPTIONS_FILE}"), text)
        )
    if machine.loads_at_start:
        made.ready.append("it loads when the machine starts")
    else:
        made.steps.append(Step("loads it when the machine starts", ("tee", f"/{LOAD_FILE}"), f"{MODULE}\n"))


def _recorded(machine: LinuxMachine) -> list[str]:
    """What an earlier setup did: packages that it installed, and `group`."""
    return next((line.removeprefix(_DONE).split() for line in machine.options.splitlines() if _DONE in line), [])


def _load(machine: LinuxMachine, made: SetupPlan) -> None:
    if machine.is_loaded and machine.is_labelled and machine.exclusive:
        made.ready.append(f"it is loaded, as {OWN_LABEL}")
        return
    if machine.is_loaded:
        there = ", ".join(machine.labels) or "no device"
        wrong = "without exclusive_caps" if machine.is_labelled else f"with other devices ({there})"
        made.steps.append(Step(f"unloads it: it is loaded {wrong}", ("modprobe", "-r", MODULE)))
    made.steps.append(Step("loads it now", ("modprobe", MODULE)))


def notes(machine: LinuxMachine) -> list[str]:
    """Notes on what no step can fix: Secure Boot, settings of others, sandboxes."""
    return [*hindrances(machine), *sandboxes(machine)]


def hindrances(machine: LinuxMachine) -> list[str]:
    """What may keep the module from loading correctly."""
    said = [
        f"{file} sets options for {MODULE} too: modprobe joins them with ours, which may give it other devices"
        for file in machine.other_options
    ]
    if machine.secure_boot and not machine.is_loaded:
        said.append(f"Secure Boot is on: the kernel takes the module only once its key is enrolled. {_enroll(machine)}")
    return said


def sandboxes(machine: LinuxMachine) -> list[str]:
    """What lets sandboxed programs see a camera, for each one installed."""
    return [_sandbox_note(program.kind, program.identity, program.name) for program in machine.sandboxed]


def _enroll(machine: LinuxMachine) -> str:
    keys = {"ubuntu": "/var/lib/shim-signed/mok/MOK.der", "dnf": "/etc/pki/akmods/certs/public_key.der"}
    family = machine.release.get("ID", "") if machine.package_manager == "apt" else machine.package_manager or ""
    if family == "pacman":
        return f"sign it with a key of your own (sbctl) or switch Secure Boot off, or: {WITHOUT_MODULE}"
    key = keys.get(family, "/var/lib/dkms/mok.pub")
    return f"`sudo mokutil --import {key}`, restart, choose Enroll MOK; or else: {WITHOUT_MODULE}"


def _sandbox_note(kind: str, identity: str, name: str) -> str:
    if kind == "snap":
        return f"{name} is a snap: if it lists no camera, `sudo snap connect {identity}:camera`, then start it again"
    return (
        f"{name} is a flatpak: if it lists no camera, `flatpak override --user --device=all {identity}`, "
        "then start it again"
    )


# ---- running steps ----

Run = Callable[[Step], None]


def run_step(step: Step) -> None:
    """Runs one step as root or as its user, through sudo if needed. Raises SetupFailed."""
    command = [*_becoming(step), *step.command]
    try:
        quiet = subprocess.DEVNULL if step.text else None  # `tee` repeats its input; a package manager prints progress
        done = subprocess.run(command, input=step.text or None, stdout=quiet, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise SetupFailed(f"{command[0]} could not be run: {error.strerror}", f"as root: {step}") from error
    if done.returncode != 0:
        raise failure(step, done.stderr)


def _becoming(step: Step) -> list[str]:
    """Prefix that runs a command as the required user."""
    is_root = os.geteuid() == 0
    if step.user:
        return ["sudo", "-u", step.user, "--"] if is_root and step.user != "root" else []
    if not is_root and shutil.which("sudo") is None:
        raise SetupFailed("this needs root, and sudo is not installed", f"as root: {step}")
    return [] if is_root else ["sudo"]


def failure(step: Step, said: str) -> SetupFailed:
    """A failed step in our words if the reason is known, else in the command's own."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    known = {
        r"Key was rejected|Required key not available": (
            "the kernel refuses the module: Secure Boot is on and its key is not enrolled",
            f"run `occlufix-vcam setup` to see which key to enroll, or: {WITHOUT_MODULE}",
        ),
        r"is in use|Device or resource busy": (
            f"{MODULE} is in use: a program has one of its devices open",
            "close the programs that use a camera (`occlufix-vcam doctor` names them), then run setup again",
        ),
        r"not found in directory|Module .* not found": (
            f"{MODULE} was not built for the running kernel",
            "restart into the newest kernel, then run setup again; for details, run `dkms status`",
        ),
        r"Unable to locate package|No match for argument|target not found": (
            f"the package manager does not know {' '.join(step.command[-2:])}",
            f"look for {MODULE} in your system's packages; or else: {WITHOUT_MODULE}",
        ),
    }
    for pattern, (message, hint) in known.items():
        if re.search(pattern, said):
            return SetupFailed(message, hint)
    reason = lines[-1] if lines else "no output"
    return SetupFailed(f"`{shlex.join(step.command)}` failed: {reason}", "fix that, then run setup again")


# ---- other systems, where no command line of ours may install anything ----

STEPS_BY_HAND: dict[str, tuple[str, ...]] = {
    "win32": (
        "download Unity Capture: github.com/schellingb/UnityCapture, Code > Download ZIP; unpack it where it can stay",
        f"in its folder Install run InstallCustomName.bat as administrator and type: {OWN_LABEL}",
        "restart programs that were open; they then list the camera",
        "or install OBS Studio (obsproject.com); the camera is then listed as OBS Virtual Camera",
        "to undo: Uninstall.bat as administrator, in the same folder",
    ),
    "darwin": (
        "install OBS Studio 30 or later (obsproject.com) into Applications and open it once",
        "in OBS press Start Virtual Camera, then Stop Virtual Camera, then quit OBS",
        "macOS asks: System Settings > General > Login Items & Extensions > Camera Extensions, switch OBS on",
        "restart the programs that were open; the camera is listed as OBS Virtual Camera",
        "to undo: remove OBS from Applications",
    ),
}
