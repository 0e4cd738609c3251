"""Commands that install additional packages, as typed on this machine.

The product is on no package index, so a command names its origin: a clone, or a wheel file. A package belongs into the
environment that runs this code, whether pip, uv or pipx created it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PROJECT = "occlufix-vcam"
_ROOT = Path(__file__).resolve().parent.parent
#: Marks an environment created for one tool alone, which has no pip.
_MARKS = {"uv": "uv-receipt.toml", "pipx": "pipx_metadata.json"}
#: Marks the environment of Debian's package, which only root may change.
_PACKAGED = "debian-package"


def is_packaged() -> bool:
    """Whether apt installed this."""
    return (Path(sys.prefix) / _PACKAGED).is_file()


def install_extra(extra: str) -> str:
    """Command that installs an extra of the product, such as `tray`."""
    name, at, url = _source().partition(" @ ")
    wanted = _quoted(f"{name}[{extra}]{at}{url}")
    tool = _tool()
    return f"{tool} install --force {wanted}" if tool else f"{_pip_install()} {wanted}"


def install_package(package: str) -> str:
    """Command that installs a package from an index."""
    if _tool() == "pipx":
        return f"pipx inject {PROJECT} {package}"
    if _tool():
        return f"{_tool()} install --force --with {package} {_quoted(_source())}"
    return f"{_pip_install()} {package}"


def install_again() -> str:
    """Command that restores the product's own files."""
    if is_packaged():
        return f"sudo apt install --reinstall {PROJECT}"
    if tool := _tool():
        return f"{tool} install --force {_quoted(_source())}"
    return f"{_pip_install()} --force-reinstall --no-deps {_quoted(_source())}"


def _tool() -> str:
    """Program that owns this environment, if any."""
    names = {"uv": "uv tool", "pipx": "pipx"}
    return next((names[kind] for kind, mark in _MARKS.items() if (Path(sys.prefix) / mark).is_file()), "")


def _pip_install() -> str:
    pip = Path(sys.prefix) / ("Scripts/pip.exe" if os.name == "nt" else "bin/pip")
    if sys.prefix != sys.base_prefix and pip.is_file():
        here = _working_directory()
        return f"{_quoted(str(pip.relative_to(here) if pip.is_relative_to(here) else pip))} install"
    if importlib.util.find_spec("pip") is None:  # uv creates environments like this
        return f"{'sudo ' if is_packaged() else ''}uv pip install --python {_quoted(sys.executable)}"
    return f"{_quoted(sys.executable)} -m pip install"


def _source() -> str:
    """What pip needs to install the product: a clone's folder, a wheel's address, or the name if an index has it."""
    if (_ROOT / "pyproject.toml").is_file():
        return _folder(_ROOT)
    told = _direct_url()
    if "dir_info" in told:
        return _folder(Path(url2pathname(urlsplit(told["url"]).path)))
    return f"{PROJECT} @ {told['url']}" if "url" in told else PROJECT


def _folder(clone: Path) -> str:
    return "." if clone == _working_directory() else str(clone)


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path("/")


def _direct_url() -> dict[str, str]:
    """Where the installer got the product from (PEP 610); empty if from an index."""
    try:
        text = metadata.distribution(PROJECT).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    told: dict[str, str] = json.loads(text) if text else {}
    return told


def _quoted(word: str) -> str:
    """One quoted word for this system's shell. Brackets are quoted too, because zsh reads them as a pattern."""
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)
