"""Builds the Debian package: python3 scripts/build_deb.py [FOLDER] (default: dist).

The package has a virtual environment of its own in /opt/occlufix-vcam with the packages of the lock file, so that
installing it asks nothing of the network. It fits the Python that built it: run this on each release of Debian or
Ubuntu that it is for. Needs uv, dpkg-deb, python3-venv, and what evdev is compiled with: gcc and python3-dev.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from email.utils import formatdate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "scripts/deb"
PYTHON = "/usr/bin/python3"
#: The extras that every desktop can use; those for one kind of GPU are large and stay out.
EXTRAS = ("openvino", "films", "tray", "hotkey")
SCRIPTS = ("postinst", "prerm", "postrm")
#: What PySide6 and OpenVINO bring for developers and for user interfaces in QML: a tenth of the whole.
UNUSED = (
    *("openvino/include", "PySide6/include", "PySide6/typesystems", "PySide6/glue", "PySide6/doc", "PySide6/scripts"),
    *(f"PySide6/{tool}" for tool in ("assistant", "designer", "linguist", "lrelease", "lupdate", "qml*", "svgtoqml")),
    *(f"PySide6/Qt/{folder}" for folder in ("qml", "metatypes", "libexec", "translations")),
    *(f"PySide6/Qt/lib/libQt6{name}*" for name in ("Designer", "Labs", "Qml", "Quick", "WaylandCompositor")),
    *(f"PySide6/Qt/plugins/{kind}" for kind in ("designer", "qmllint", "qmltooling", "sqldrivers")),
    *("PySide6/Qt/plugins/wayland-graphics-integration-server", "PySide6/QtQml*", "PySide6/QtQuick*"),
    "PySide6/Qt/plugins/platforminputcontexts/libqtvirtualkeyboardplugin.so",
)


def main(target: Path) -> Path:
    """Builds the package into `target`; returns its path."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "stage"
        environment = stage / "opt/occlufix-vcam"
        install(environment, Path(folder))
        compile_all(stage)
        write_shared(stage, environment)
        version = package_version()
        write_documents(stage / "usr/share/doc/occlufix-vcam", version)
        write_control(stage, version)
        set_modes(stage)
        target.mkdir(parents=True, exist_ok=True)
        package = target / f"occlufix-vcam_{version}_{said('dpkg', '--print-architecture')}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", str(stage), str(package))
    return package


def install(environment: Path, work: Path) -> None:
    """Creates the virtual environment: the locked packages by their hashes, then the product's wheel."""
    requirements, wheels = work / "requirements.txt", work / "wheels"
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    run(*uv(), "export", "-q", "--locked", "--no-dev", *extras, "--no-emit-project", "-o", str(requirements))
    run(PYTHON, "-m", "venv", "--without-pip", "--symlinks", str(environment))
    pip = [*uv(), "pip", "install", "-q", "--python", str(environment / "bin/python3")]
    run(*pip, "--require-hashes", "-r", str(requirements))
    build = [*uv(), "run", "-q", "--locked", "--only-group", "release", "python", "-m", "build", "--no-isolation"]
    # In an environment of its own, for `uv run` removes from .venv whatever it does not need.
    run(*build, "--wheel", "-o", str(wheels), UV_PROJECT_ENVIRONMENT=str(work / "release"))
    run(*pip, "--no-deps", *map(str, wheels.glob("*.whl")))
    slim(environment)


def slim(environment: Path) -> None:
    """Removes what the product never uses, and what names the folder in which this was built."""
    packages = site_packages(environment)
    for path in [path for pattern in UNUSED for path in packages.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*packages.glob("occlufix_vcam-*.dist-info/direct_url.json"), *(environment / "bin").iterdir()]:
        if not path.name.startswith("python"):
            path.unlink()
    settings = environment / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("command")]
    settings.write_text("\n".join(lines) + "\n")
    shutil.rmtree(environment / "include")
    (environment / ".lock").unlink(missing_ok=True)
    (environment / "debian-package").write_text("apt owns this environment\n")


def compile_all(stage: Path) -> None:
    """Compiles every module, valid whatever the time stamps."""
    python = str(stage / "opt/occlufix-vcam/bin/python3")
    run(
        python,
        "-m",
        "compileall",
        "-q",
        "-j0",
        "--invalidation-mode=unchecked-hash",
        "-s",
        str(stage),
        "-p",
        "/",
        str(stage),
    )


def write_shared(stage: Path, environment: Path) -> None:
    """Writes everything outside /opt: launcher, desktop files, documents."""
    python = str(environment / "bin/python3")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OCCLUFIX_", "PYTHON"))}
    subprocess.run([python, "-B", str(HERE / "shared_files.py"), str(stage)], check=True, cwd=stage, env=clean)
    copy(HERE / "occlufix-vcam", stage / "usr/bin/occlufix-vcam")
    copy(HERE / "lintian-overrides", stage / "usr/share/lintian/overrides/occlufix-vcam")


def write_documents(folder: Path, version: str) -> None:
    """Writes licences and what changed."""
    folder.mkdir(parents=True)
    (folder / "copyright").write_text(copyright_text(), encoding="utf-8")
    (folder / "changelog.gz").write_bytes(gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))
    by = next(line for line in (HERE / "control").read_text().splitlines() if line.startswith("Maintainer: "))
    entry = (
        f"occlufix-vcam ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n"
        f" -- {by.removeprefix('Maintainer: ')}  {formatdate()}\n"
    )
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(entry.encode(), mtime=0))


def copyright_text() -> str:
    """The package's licences, in Debian's format."""
    texts = {"mit": "LICENSE", "networks": "LICENSES/CC-BY-NC-4.0.txt", "first_layers": "LICENSES/BSD-3-Clause.txt"}
    quoted = {name: debian_text((ROOT / file).read_text(encoding="utf-8")) for name, file in texts.items()}
    return (HERE / "copyright").read_text(encoding="utf-8").format(homepage=project()["urls"]["Homepage"], **quoted)


def debian_text(text: str) -> str:
    """Text as a field's further lines: indented, and a dot for an empty line."""
    return textwrap.indent("\n".join(line.rstrip() or "." for line in text.strip().splitlines()), " ")


def package_version() -> str:
    """The project's version, and the Python that the package is for: a later one is an update."""
    return f"{project()['version']}-1+py{''.join(map(str, python_version()))}"


def write_control(stage: Path, version: str) -> None:
    """Writes name, needs, checksums and maintainer scripts."""
    control = stage / "DEBIAN"
    control.mkdir()
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files)
    (control / "md5sums").write_text("".join(sums))
    major, minor = python_version()
    facts = {
        "version": version,
        "architecture": said("dpkg", "--print-architecture"),
        "size": sum(path.stat().st_size for path in files) // 1024,
        "python": f"{major}.{minor}",
        "next_python": f"{major}.{minor + 1}",
        "homepage": project()["urls"]["Homepage"],
    }
    (control / "control").write_text((HERE / "control").read_text(encoding="utf-8").format(**facts), encoding="utf-8")
    for script in SCRIPTS:
        copy(HERE / script, control / script)


def set_modes(stage: Path) -> None:
    """Everybody may read everything; only the launcher and the maintainer scripts are programs."""
    programs = {stage / "usr/bin/occlufix-vcam", *(stage / "DEBIAN" / script for script in SCRIPTS)}
    for path in stage.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in programs else 0o644)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python_version() -> tuple[int, int]:
    """Major and minor number of the system's Python."""
    major, minor = said(PYTHON, "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3*/site-packages")
    return found


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def uv() -> list[str]:
    """uv's command, or the module that pip installed."""
    return ["uv"] if shutil.which("uv") else [sys.executable, "-m", "uv"]


def run(*command: str, **variables: str) -> None:
    subprocess.run(command, cwd=ROOT, env={**os.environ, "UV_PYTHON": PYTHON, **variables}, check=True)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()))
