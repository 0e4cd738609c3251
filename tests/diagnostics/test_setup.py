"""Set-up on machines that are laid out in a folder: what it would do, that it is enough, and that it can be undone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from occlufix_vcam.cli import app
from occlufix_vcam.core.errors import DeviceError
from occlufix_vcam.diagnostics import doctor, setup
from occlufix_vcam.diagnostics.setup import OPTIONS, Step, check_can_load, failure, setup_plan, undo_plan
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.system import linux
from occlufix_vcam.system.linux import LinuxMachine

KERNEL = "6.1.0-18-amd64"
SYSTEMS = {
    "debian": ("usr/bin/apt-get", "ID=debian\nVERSION_ID=12\n"),
    "ubuntu": ("usr/bin/apt-get", "ID=ubuntu\nVERSION_ID=24.04\n"),
    "fedora": ("usr/bin/dnf", "ID=fedora\nVERSION_ID=42\n"),
    "rocky": ("usr/bin/dnf", 'ID="rocky"\nVERSION_ID="9.4"\n'),
    "arch": ("usr/bin/pacman", "ID=arch\n"),
}


class Laid:
    """A machine in a folder, on which the commands of steps work as far as set-up sees it."""

    def __init__(self, root: Path, system: str = "debian", user: str = "ada") -> None:
        self.root, self.user = root, user
        self.ran: list[str] = []
        manager, release = SYSTEMS[system]
        self.write(manager, "")
        self.write("etc/os-release", release)
        self.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:1000:,,,:/home/ada:/bin/sh\n")
        self.write("etc/group", "root:x:0:\nvideo:x:44:\nada:x:1000:\n")
        self.write(f"lib/modules/{KERNEL}/modules.dep", "kernel/drivers/media/v4l2-core/videodev.ko:\n")

    @property
    def machine(self) -> LinuxMachine:
        return LinuxMachine(KERNEL, self.user, self.root / "home/ada", self.root)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def build_module(self) -> None:
        self.write(f"lib/modules/{KERNEL}/modules.dep", "updates/dkms/v4l2loopback.ko.xz: videodev.ko\n")

    def load(self, label: str = "OccluFix Camera", exclusive: str = "Y") -> None:
        self.write("sys/module/v4l2loopback/parameters/exclusive_caps", f"{exclusive},N,N\n")
        self.write("sys/devices/virtual/video4linux/video0/name", f"{label}\n")

    def run(self, step: Step) -> None:
        """What the command would have done to the files."""
        self.ran.append(" ".join(step.command))
        match step.command:
            case ("tee", path):
                self.write(path[1:], step.text)
            case ("rm", "-f", path):
                (self.root / path[1:]).unlink(missing_ok=True)
            case ("apt-get" | "dnf" | "pacman", action, *packages) if action not in ("update", "remove", "-R"):
                if any("v4l2loopback" in package for package in packages):
                    self.build_module()
            case ("apt-get" | "dnf" | "pacman", "remove" | "-R", *_):
                self.write(f"lib/modules/{KERNEL}/modules.dep", "kernel/drivers/media/v4l2-core/videodev.ko:\n")
            case ("modprobe", "-r", _):
                shutil.rmtree(self.root / "sys", ignore_errors=True)
            case ("modprobe", _):
                conf = (self.root / linux.OPTIONS_FILE).read_text()
                self.load(
                    conf.partition('card_label="')[2].partition('"')[0], "Y" if "exclusive_caps=1" in conf else "N"
                )
            case ("usermod", *_):
                self.write("etc/group", f"video:x:44:{self.user}\n")
            case ("gpasswd", *_):
                self.write("etc/group", "video:x:44:\n")

    def do(self) -> None:
        for step in setup_plan(self.machine).steps:
            self.run(step)

    def undo(self) -> None:
        for step in undo_plan(self.machine).steps:
            self.run(step)


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    return Laid(tmp_path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_after_it_nothing_is_missing_and_after_undo_all_is_as_before(system: str, tmp_path: Path) -> None:
    laid = Laid(tmp_path, system)
    before = setup_plan(laid.machine)
    laid.do()
    after = setup_plan(laid.machine)
    assert after.steps == [] and len(after.ready) == 4
    laid.undo()
    assert setup_plan(laid.machine) == before
    assert undo_plan(laid.machine).steps == []


def test_each_command_on_debian(laid: Laid) -> None:
    laid.do()
    assert laid.ran == [
        "apt-get update",
        f"apt-get install -y v4l2loopback-dkms linux-headers-{KERNEL}",
        "tee /etc/modprobe.d/occlufix-vcam.conf",
        "tee /etc/modules-load.d/occlufix-vcam.conf",
        "modprobe v4l2loopback",
        "usermod -aG video ada",
    ]
    assert OPTIONS in laid.machine.options.splitlines()
    assert 'exclusive_caps=1 max_buffers=4 card_label="OccluFix Camera"' in OPTIONS


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("fedora", "https://mirrors.rpmfusion.org/free/fedora/rpmfusion-free-release-42.noarch.rpm"),
        ("rocky", "https://mirrors.rpmfusion.org/free/el/rpmfusion-free-release-9.noarch.rpm"),
        ("fedora", f"akmod-v4l2loopback kernel-devel-{KERNEL}"),
        ("arch", "pacman -S --needed --noconfirm v4l2loopback-dkms linux-lts-headers"),
    ],
)
def test_packages_of_other_systems(system: str, expected: str, tmp_path: Path) -> None:
    laid = Laid(tmp_path, system)
    laid.write(f"lib/modules/{KERNEL}/pkgbase", "linux-lts\n")
    laid.do()
    assert any(expected in command for command in laid.ran)


def test_what_is_there_is_not_done_again(laid: Laid) -> None:
    laid.build_module()
    laid.write(f"lib/modules/{KERNEL}/build", "")
    laid.write("etc/group", "video:x:44:bob,ada\n")
    assert [step.command[0] for step in setup_plan(laid.machine).steps] == ["tee", "tee", "modprobe"]
    laid.do()
    laid.undo()
    assert laid.machine.has_module and laid.machine.is_in_group("video"), "setup had not brought them"


def test_the_first_setup_is_remembered_by_a_later_one(laid: Laid) -> None:
    laid.do()
    laid.write(linux.OPTIONS_FILE, laid.machine.options.replace("exclusive_caps=1 ", ""))
    laid.do()
    laid.undo()
    assert not laid.machine.has_module and not laid.machine.is_in_group("video")


@pytest.mark.parametrize(
    ("label", "exclusive", "why"),
    [
        ("OBS Virtual Camera", "Y", "it is loaded with other devices (OBS Virtual Camera)"),
        ("OccluFix", "Y", "it is loaded with other devices (OccluFix)"),
        ("OccluFix Camera", "N", "it is loaded without exclusive_caps"),
    ],
)
def test_a_module_that_is_loaded_otherwise_is_loaded_again(laid: Laid, label: str, exclusive: str, why: str) -> None:
    laid.build_module()
    laid.load(label, exclusive)
    steps = setup_plan(laid.machine).steps
    assert [step.command for step in steps if step.command[0] == "modprobe"] == [
        ("modprobe", "-r", "v4l2loopback"),
        ("modprobe", "v4l2loopback"),
    ]
    assert any(why in step.why for step in steps)


@pytest.mark.parametrize("labels", ['"OccluFix Camera","OBS"', '"OBS,OccluFix Camera"'])
def test_devices_that_a_user_added_are_left(laid: Laid, labels: str) -> None:
    laid.do()
    more = f"devices=2 exclusive_caps=1,1 card_label={labels}"
    laid.write(linux.OPTIONS_FILE, laid.machine.options.replace(OPTIONS.partition("loopback ")[2], more))
    assert more in laid.machine.options and setup_plan(laid.machine).steps == []


def test_a_member_by_primary_group_needs_not_join(laid: Laid) -> None:
    laid.write("etc/passwd", "ada:x:1000:44:,,,:/home/ada:/bin/sh\n")
    assert laid.machine.is_in_group("video")


def secure_boot(laid: Laid, on: bool) -> None:
    file = laid.root / "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes([6, 0, 0, 0, int(on)]))


@pytest.mark.parametrize(
    ("system", "key"),
    [
        ("debian", "mokutil --import /var/lib/dkms/mok.pub"),
        ("ubuntu", "mokutil --import /var/lib/shim-signed/mok/MOK.der"),
        ("fedora", "mokutil --import /etc/pki/akmods/certs/public_key.der"),
        ("arch", "sbctl"),
    ],
)
def test_secure_boot_is_explained(system: str, key: str, tmp_path: Path) -> None:
    laid = Laid(tmp_path, system)
    assert not any("Secure Boot" in note for note in setup_plan(laid.machine).notes)
    secure_boot(laid, on=True)
    (note,) = [note for note in setup_plan(laid.machine).notes if "Secure Boot" in note]
    assert key in note and "--sink pipewire" in note


def test_secure_boot_that_is_off_is_no_matter(laid: Laid) -> None:
    secure_boot(laid, on=False)
    assert not laid.machine.secure_boot


def test_sandboxed_programs_are_named_with_what_lets_them_in(laid: Laid) -> None:
    laid.write("snap/firefox/current", "")
    laid.write("var/lib/flatpak/app/com.google.Chrome/current", "")
    laid.write("home/ada/.local/share/flatpak/app/us.zoom.Zoom/current", "")
    notes = "\n".join(setup_plan(laid.machine).notes)
    assert "Firefox is a snap" in notes and "sudo snap connect firefox:camera" in notes
    assert "Chrome is a flatpak" in notes and "flatpak override --user --device=all us.zoom.Zoom" in notes


def test_options_of_others_are_named(laid: Laid) -> None:
    laid.write("etc/modprobe.d/obs.conf", "# for OBS\noptions v4l2loopback video_nr=10\n")
    laid.write("usr/lib/modprobe.d/other.conf", "options snd-aloop index=1\n")
    (note,) = [note for note in setup_plan(laid.machine).notes if "modprobe" in note]
    assert note.startswith("/etc/modprobe.d/obs.conf sets options")


def test_a_kernel_without_modules_is_said(laid: Laid) -> None:
    shutil.rmtree(laid.root / "lib/modules")
    plan = setup_plan(laid.machine)
    assert plan.steps and any(f"no modules for the running kernel {KERNEL}" in note for note in plan.notes)
    with pytest.raises(DeviceError, match=f"no modules for the running kernel {KERNEL}") as caught:
        check_can_load(laid.machine)
    assert "restart" in caught.value.message
    assert "--sink pipewire" in caught.value.hint and "--sink null --record" in caught.value.hint


@pytest.mark.parametrize("how", ["no manager", "image"])
def test_a_system_that_takes_no_packages_is_said(laid: Laid, how: str) -> None:
    if how == "image":
        laid.write("run/ostree-booted", "")
    else:
        (laid.root / "usr/bin/apt-get").unlink()
    laid.write("etc/os-release", 'PRETTY_NAME="Strange Linux 7"\n')
    with pytest.raises(DeviceError, match="Strange Linux 7 has no supported package manager"):
        setup_plan(laid.machine)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("modprobe: ERROR: could not insert 'v4l2loopback': Key was rejected by service", "Secure Boot is on"),
        ("modprobe: FATAL: Module v4l2loopback is in use.", "is in use"),
        ("modprobe: FATAL: Module v4l2loopback not found in directory /lib/modules/6.1", "was not built"),
        ("E: Unable to locate package v4l2loopback-dkms", "does not know"),
        ("something\nelse entirely\n", "failed: else entirely"),
        ("", "no output"),
    ],
)
def test_a_step_that_fails_says_why_and_what_to_do(said: str, message: str) -> None:
    error = failure(Step("", ("modprobe", "v4l2loopback")), said)
    assert message in error.message and error.hint


def test_a_step_is_shown_as_one_can_type_it() -> None:
    assert str(Step("", ("tee", "/etc/a b"), "x\n")) == "printf %s 'x\n' | tee '/etc/a b'"


@pytest.fixture
def command(laid: Laid, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(linux, "this_machine", lambda: laid.machine)
    monkeypatch.setattr(setup, "run_step", laid.run)
    return lambda *arguments: CliRunner().invoke(app.app, ["setup", *arguments])


def test_without_being_told_nothing_is_changed(command, laid: Laid) -> None:
    for arguments in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        shown = command(*arguments)
        assert shown.exit_code == 0 and "apt-get install -y v4l2loopback-dkms" in shown.output
    assert laid.ran == []


def test_where_no_module_can_be_loaded_only_that_is_said_and_the_commands_on_wish(command, laid: Laid) -> None:
    shutil.rmtree(laid.root / "lib/modules")
    assert "apt-get install" in command("--dry-run").output
    refused = command("--yes")
    assert isinstance(refused.exception, DeviceError) and "apt-get" not in refused.output and laid.ran == []


def test_told_so_it_runs_what_it_showed_and_takes_it_back(command, laid: Laid) -> None:
    shown = command("--yes").output
    assert all(f"running  {command}" in shown for command in laid.ran if not command.startswith(("tee", "install")))
    assert "ok       it is loaded" in command().output
    command("--undo", "--yes")
    assert not laid.machine.has_module and laid.machine.options == ""


@pytest.mark.parametrize(("platform", "says"), [("win32", "InstallCustomName.bat"), ("darwin", "Camera Extensions")])
def test_elsewhere_the_steps_are_told(command, laid: Laid, monkeypatch, platform: str, says: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("occlufix_vcam.sinks.opening.list_virtual_cameras", list)
    assert says in command().output
    assert laid.ran == []


def findings(laid: Laid) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.found) for finding in doctor._set_up(lambda: laid.machine)]


def test_doctor_says_what_set_up_would_mend_and_what_it_can_not(laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    secure_boot(laid, on=True)
    laid.write("snap/firefox/current", "")
    told = findings(laid)
    assert [verdict for verdict, _ in told] == ["warning", "warning", "ok"]
    assert "do not list" in told[0][1] and "Secure Boot" in told[1][1] and "snap connect" in told[2][1]
    laid.do()
    assert [verdict for verdict, _ in findings(laid)] == ["ok"]


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_doctor_sends_to_the_steps_where_there_is_no_camera(
    laid: Laid, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    missing = [VirtualCameraInfo("obs", "OBS Virtual Camera", "", "not installed")]
    monkeypatch.setattr(doctor, "list_virtual_cameras", lambda: missing)
    assert findings(laid) == [("warning", "there is no virtual camera")]
    monkeypatch.setattr(doctor, "list_virtual_cameras", lambda: [VirtualCameraInfo("obs", "OBS Virtual Camera", "")])
    assert findings(laid) == []
