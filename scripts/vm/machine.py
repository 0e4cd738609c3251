"""Virtual machine with cameras: Debian's kernel, v4l2loopback and vivid, and this machine's own files.

No kernel module is loaded here, and no /dev/video* is needed: QEMU emulates the processor, the root folder is shared
read-only, and what programs write in the machine stays in its memory. It has no network card.

    python3 scripts/vm/machine.py                  creates it, as root on Debian: packages, one module to compile
    python3 scripts/vm/machine.py COMMAND ...      runs a command in it, from the current folder

The machine is kept and reused while these files are the same; OCCLUFIX_VM names its folder.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = ("qemu-system-x86", "busybox-static", "cpio", "kmod", "make", "gcc", "v4l-utils", "ffmpeg", "sudo")
READERS = ("chromium-headless-shell",)
#: Modules that the kernel needs to reach the shared folders, before it can load anything from there.
EARLY_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
SHARED = "/shared"  # folder for results as the machine sees it


class NoMachine(Exception):
    """The machine is not available here; the message says why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`kernel` is the folder of the unpacked kernel, with its modules; `version` its name."""

    kernel: Path
    version: str
    first_files: Path

    def run(self, command: list[str], results: Path, limit_s: float, folder: Path, memory: str = "3G") -> int:
        """Boots, runs `command` in `folder`, powers off. Returns the exit status; 124 after the time limit.

        The command sees `results` as /shared, where it may write; its output goes to `results`/console.
        """
        script = results / "command"
        script.write_text(
            f"cd {shlex.quote(str(folder))}\nexport KERNEL={shlex.quote(str(self.kernel))}\n"
            f"export SHARED={SHARED}\n{shlex.join(command)}\n"
        )
        ended = results / "status"
        ended.unlink(missing_ok=True)
        with (results / "console").open("wb") as console:
            try:
                subprocess.run(
                    self._qemu(results, memory),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    timeout=limit_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return 124
        return int(ended.read_text()) if ended.exists() else 125

    def _qemu(self, results: Path, memory: str) -> list[str]:
        # A busy host may tick too late for the kernel to believe in its timer.
        words = "no_timer_check console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr rdinit=/init"
        return [
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi,tb-size=512",
            "-cpu",
            "Nehalem",
            "-smp",
            "2",
            "-m",
            memory,
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-nic",
            "none",
            "-object",
            "rng-random,id=random,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=random",
            "-kernel",
            str(self.kernel / f"boot/vmlinuz-{self.version}"),
            "-initrd",
            str(self.first_files),
            "-append",
            words,
            *_folder("root", Path("/"), "readonly=on,multidevs=remap"),
            *_folder("results", results, "multidevs=remap"),
        ]


def _folder(name: str, path: Path, options: str) -> list[str]:
    return [
        "-fsdev",
        f"local,id={name},path={path},security_model=none,{options}",
        "-device",
        f"virtio-9p-pci,fsdev={name},mount_tag={name}",
    ]


def default_store() -> Path:
    """Default folder of prepared machines. OCCLUFIX_VM names another one."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OCCLUFIX_VM") or Path(cache) / "occlufix-vm")


def find() -> Machine:
    """Finds the prepared machine. Raises NoMachine."""
    kept = _kept(default_store())
    if kept is None:
        raise NoMachine("`python3 scripts/vm/machine.py` creates it, as root on Debian")
    return kept


def make() -> Machine:
    """Machine from the store, or newly prepared. Raises NoMachine."""
    store = default_store()
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise NoMachine("it is for Linux on x86_64")
    if (kept := _kept(store)) is not None:
        return kept
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoMachine("creating it needs root and Debian's apt-get")
    version = _install()
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    machine = Machine(store / "kernel", version, store / "first.gz")
    _unpack(machine)
    _compile_module(machine, store / "module")
    _write_first_files(machine)
    (store / "made").write_text(f"{_fingerprint()} {version}")
    return machine


def _kept(store: Path) -> Machine | None:
    try:
        fingerprint, version = (store / "made").read_text().split()
    except (OSError, ValueError):
        return None
    programs = ("qemu-system-x86_64", "v4l2-ctl", "ffmpeg", "modprobe", "sudo")
    if fingerprint != _fingerprint() or any(shutil.which(program) is None for program in programs):
        return None
    return Machine(store / "kernel", version, store / "first.gz")


def _fingerprint() -> str:
    """Fingerprint of what the machine is made from; the kernel's version is listed beside it."""
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("machine.py", "init"))).hexdigest()[:16]


def _install() -> str:
    """Installs what the machine needs to be made and to run. Returns the kernel's version."""
    _step("apt-get", "-qq", "update")
    told = _step("apt-cache", "depends", "linux-image-amd64")
    found = re.search(r"Depends: linux-image-(\S+-amd64)$", told, re.MULTILINE)
    if found is None:
        raise NoMachine("apt has no kernel linux-image-amd64: this is not Debian")
    version = found[1]
    lock = ("-o", "DPkg::Lock::Timeout=300")
    packages = (*PROGRAMS, *READERS, f"linux-headers-{version}")
    _step("apt-get", "-qq", *lock, "install", "-y", "--no-install-recommends", *packages)
    return version


def _unpack(machine: Machine) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt downloads as its own user
        _step("apt-get", "-qq", "download", f"linux-image-{machine.version}", "v4l2loopback-dkms", folder=folder)
        for package in Path(folder).glob("*.deb"):
            _step("dpkg", "-x", str(package), str(machine.kernel))


def _compile_module(machine: Machine, work: Path) -> None:
    (source,) = machine.kernel.glob("usr/src/v4l2loopback-*")
    shutil.copytree(source, work)
    _step("make", "-s", "-C", f"/lib/modules/{machine.version}/build", f"M={work}", "modules")
    extra = machine.kernel / f"lib/modules/{machine.version}/extra"
    extra.mkdir(parents=True)
    shutil.copy(work / "v4l2loopback.ko", extra)
    _step("depmod", "-b", str(machine.kernel), machine.version)


def _write_first_files(machine: Machine) -> None:
    """Writes the files that the kernel starts from: busybox, `init`, and the modules that reach the shared folders."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("bin", "proc", "sys", "dev", "modules", "below", "memory", "root"):
            (root / name).mkdir()
        shutil.copy("/bin/busybox", root / "bin/busybox")
        shutil.copy(HERE / "init", root / "init")
        (root / "init").chmod(0o755)
        for place, module in enumerate(_in_order(machine, EARLY_MODULES)):
            shutil.copy(module, root / f"modules/{place:02}-{module.name}")
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names.encode(), capture_output=True, check=True
        ).stdout
        machine.first_files.write_bytes(gzip.compress(packed, 1))


def _in_order(machine: Machine, modules: tuple[str, ...]) -> list[Path]:
    """Files of `modules` and of their dependencies, each once, in an order in which they can be loaded."""
    found: dict[Path, None] = {}
    for module in modules:
        told = _step("modprobe", "-d", str(machine.kernel), "-S", machine.version, "--show-depends", module)
        found |= {Path(line.split()[1]): None for line in told.splitlines() if line.startswith("insmod ")}
    return list(found)


def _step(*command: str, folder: str | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NoMachine(f"{' '.join(command[:4])} failed: {said[-1] if said else done.returncode}")
    return done.stdout


def main() -> int:
    try:
        machine = make()
    except NoMachine as reason:
        print(
            f"NOT PROVED HERE: the camera on v4l2loopback, for there is no virtual machine: {reason}", file=sys.stderr
        )
        return 2
    if len(sys.argv) < 2:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        status = machine.run(sys.argv[1:], Path(folder), 900, Path.cwd())
        print((Path(folder) / "console").read_text(errors="replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
