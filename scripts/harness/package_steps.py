"""A new user's first steps with Debian's package, in the virtual machine: install, picture in Chromium, update, remove.

    python -m scripts.harness.package_steps PACKAGE      (as root in the machine; results: $SHARED/found.json)

The commands are those of docs/install.md, typed by a user who may use sudo. What the machine lacks of a desktop is done
here: no udev gives the group `video` its cameras, no network has the packages that the package recommends, and the
module is compiled before. Its processor is too slow for the networks, so restoring is off and images are small.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
USER, HOME = "ada", Path("/home/ada")
SETTINGS = HOME / ".config/occlufix-vcam/settings.toml"
HEADING = "### Debian and Ubuntu: a package"
LIMIT_S = 900.0
SLOW = 'width = 320\nheight = 180\nrate = 2.0\nenabled = false\nbackend = "fake"\n'
LABEL = "OccluFix Camera"


def documented_commands() -> list[str]:
    """The commands of docs/install.md that lead from nothing to a picture."""
    section = (ROOT / "docs/install.md").read_text(encoding="utf-8").partition(HEADING)[2].partition("\n### ")[0]
    return re.findall(r"^\d\. `([^`]+)`", section, re.MULTILINE)


# ---- the machine as a desktop ----


def prepare(package: Path) -> None:
    """A desktop after a user's first log-in: a camera, the kernel's modules, the package in Downloads."""
    kernel = Path(os.environ["KERNEL"])
    modules = Path("/lib/modules", os.uname().release)
    modules.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", str(kernel / "lib/modules" / modules.name), str(modules))
    run("modprobe", "vivid", "node_types=0x1", "num_inputs=1", "input_types=0", "vid_cap_nr=0")
    run("useradd", "--create-home", "--shell=/bin/bash", USER)
    Path("/etc/sudoers.d/ada").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    Path("/etc/apt/apt.conf.d/99offline").write_text('APT::Install-Recommends "false";\n')
    Path("/run/systemd/system").mkdir(parents=True)  # says that systemd runs, for `autostart on`
    (HOME / "Downloads").mkdir()
    (HOME / "Downloads" / package.name).symlink_to(package)
    SETTINGS.parent.mkdir(parents=True)
    SETTINGS.write_text(SLOW)
    run("chown", "--recursive", f"{USER}:", str(HOME))
    give_cameras()


def give_cameras() -> None:
    """What udev does on a desktop."""
    for node in Path("/dev").glob("video*"):
        shutil.chown(node, "root", "video")
        node.chmod(0o660)


def typed(command: str) -> str:
    """Output of a command that the user types in a new terminal, answering yes to what it asks."""
    in_terminal = f"script --quiet --flush --return --command {shlex.quote(command)} /dev/null"
    shown = Path("/run/shown")
    print(f"$ {command}", flush=True)
    try:
        with shown.open("w") as screen:
            done = subprocess.run(
                ["runuser", "--login", USER, "--command", in_terminal],
                input="y\n",
                stdout=screen,
                stderr=screen,
                text=True,
                timeout=LIMIT_S,
            )
    finally:
        print(text := shown.read_text(errors="replace"), flush=True)
    assert done.returncode == 0, f"`{command}` ended with {done.returncode}: {text[-800:]}"
    return text


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, f"{shlex.join(command)} ended with {done.returncode}: {done.stderr[-800:]}"
    return done.stdout


def running() -> list[str]:
    """Processes of the package."""
    return subprocess.run(["pgrep", "-f", "^/opt/occlufix-vcam/"], capture_output=True, text=True).stdout.split()


# ---- the steps ----


def three_commands_lead_to_a_picture_in_chromium(package: Path) -> dict[str, Any]:
    commands, seconds = documented_commands(), []
    for command in commands:
        began = time.monotonic()
        typed(command)
        seconds.append(round(time.monotonic() - began, 1))
        give_cameras()
    began = time.monotonic()
    told = seen_in_chromium()
    assert "error" not in told and told["label"].startswith(LABEL) and told["bars"] == 8, told
    return {
        "commands": commands,
        "seconds of each": seconds,
        "seconds until Chromium's picture": round(time.monotonic() - began, 1),
        "size": told["size"],
    }


def seen_in_chromium() -> dict[str, Any]:
    """What the user's Chromium reports. The camera opens for programs of its own user: others are not seen to read."""
    from scripts.harness.readers import browsers

    browsers.WITHIN_S = LIMIT_S
    kernels = "--disable-features=WebRtcPipeWireCamera"  # there is no session to ask here, and it would wait for one
    flags = (kernels, f"--user-data-dir={HOME}/chromium")
    user = ("runuser", "--user", USER, "--", "env", f"HOME={HOME}")
    return browsers.watch("chromium", dict(os.environ), Path("/run"), label=LABEL, bars=True, flags=flags, prefix=user)


def what_a_desktop_shows_is_there(package: Path) -> dict[str, Any]:
    owned = run("dpkg", "--listfiles", "occlufix-vcam").splitlines()
    kinds = ("applications/", "icons/", "metainfo/", "man/man1/", "bash-completion/", "systemd/user/")
    for kind in kinds:
        assert any(f"/{kind}" in path and Path(path).is_file() for path in owned), kind
    assert "came with the package" in typed("occlufix-vcam setup --dry-run")
    return {"files": len(owned)}


def it_starts_at_log_in_if_asked(package: Path) -> dict[str, Any]:
    typed("occlufix-vcam autostart on")
    link = HOME / ".config/systemd/user/default.target.wants/occlufix-vcam.service"
    assert link.readlink() == Path("/usr/lib/systemd/user/occlufix-vcam.service")
    return {"tray": (HOME / ".config/autostart/occlufix-vcam-tray.desktop").is_file()}


def an_update_stops_the_camera_and_keeps_the_settings(package: Path) -> dict[str, Any]:
    assert running(), "no camera runs"
    typed("occlufix-vcam config set mirror true")
    typed(f"sudo dpkg --install {newer(package)}")
    assert running() == []
    assert "mirror = true" in SETTINGS.read_text()
    return {}


def newer(package: Path) -> Path:
    """A newer package with the same scripts and little else: to unpack all of it again takes minutes here."""
    made = Path("/run/newer")
    made.mkdir()
    run("dpkg-deb", "--control", str(package), str(made / "DEBIAN"))
    (made / "DEBIAN/md5sums").unlink()
    control = made / "DEBIAN/control"
    control.write_text(re.sub(r"^(Version: .*)$", r"\1+newer", control.read_text(), flags=re.MULTILINE))
    (made / "opt/occlufix-vcam").mkdir(parents=True)
    (made / "opt/occlufix-vcam/newer").touch()
    run("dpkg-deb", "-Znone", "--build", str(made), "/run/newer.deb")
    return Path("/run/newer.deb")


def removing_it_leaves_what_is_the_users(package: Path) -> dict[str, Any]:
    told = typed("sudo apt-get remove --yes occlufix-vcam")
    assert "~/.config" in told and SETTINGS.is_file()
    assert not Path("/opt/occlufix-vcam").exists() and shutil.which("occlufix-vcam") is None
    written = [Path("/etc/modprobe.d/occlufix-vcam.conf"), Path("/etc/modules-load.d/occlufix-vcam.conf")]
    assert all(path.is_file() for path in written)
    typed("sudo apt-get purge --yes occlufix-vcam")
    assert not any(path.exists() for path in written)
    return {}


#: By name, in the order in which they run; each builds on those before it.
STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        three_commands_lead_to_a_picture_in_chromium,
        what_a_desktop_shows_is_there,
        it_starts_at_log_in_if_asked,
        an_update_stops_the_camera_and_keeps_the_settings,
        removing_it_leaves_what_is_the_users,
    )
}


def main(package: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    prepare(package)
    for name, step in STEPS.items():
        began = time.monotonic()
        try:
            found[name] = step(package)
        except BaseException as error:  # noqa: BLE001  the host's test reports it
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found[name]["took"] = round(time.monotonic() - began, 1)
        print(name, json.dumps(found[name]), flush=True)
        Path(os.environ["SHARED"], "found.json").write_text(json.dumps(found))
        if "failed" in found[name]:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
