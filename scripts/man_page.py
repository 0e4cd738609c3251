"""Writes the man page into occlufix_vcam/share from the commands: python -m scripts.man_page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from occlufix_vcam import __version__
from occlufix_vcam.cli.app import app

TARGET = Path(__file__).resolve().parent.parent / "occlufix_vcam" / "share" / "occlufix-vcam.1"

HEAD = """\
.\\" Written by scripts/man_page.py.
.TH OCCLUFIX-VCAM 1 "" "OccluFix Camera {version}" "User Commands"
.SH NAME
occlufix-vcam \\- a virtual camera that restores the hidden part of your face
.SH SYNOPSIS
.B occlufix-vcam
.RI [ options ]
.I command
.RI [ arguments ]
.SH DESCRIPTION
OccluFix Camera shows your face in video calls when a mask, a hand, a cup or a microphone hides a part of it. It reads
your camera, restores the hidden part, and sends it to a virtual camera that every program can choose.
Everything happens on this machine.
"""
ADDED = ("help", "install_completion", "show_completion")
#: Options that no command documents.
OPTIONS = {
    "--debug": "show tracebacks; accepted anywhere",
    "--install-completion": "complete commands and options in this shell from now on",
    "--show-completion": "print what --install-completion would add",
    "--help": "print help; each command takes it too",
}
FOLDERS = {
    "OCCLUFIX_CONFIG": "the settings file to use",
    "OCCLUFIX_STATE_DIR": "the folder of log, lock and control address",
    "OCCLUFIX_CACHE_DIR": "the folder of built engines",
    "OCCLUFIX_FACES_DIR": "the folder of enrolled faces",
}
CODES = {
    "0": "done",
    "1": "a fault in the program, or an error that doctor found",
    "2": "wrong usage or settings",
    "3": "a device or a file cannot be used",
    "4": "a model file is missing or damaged",
    "5": "no engine can run the networks",
}


def man_page() -> str:
    """Current content of the man page."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    return "\n".join(_lines(root)) + "\n"


def _lines(root: TyperGroup) -> Iterator[str]:
    yield HEAD.format(version=__version__).rstrip()
    yield ".SH OPTIONS"
    yield from _parameters(root)
    for option, meaning in OPTIONS.items():
        yield from _item(_escaped(option), meaning)
    yield ".SH COMMANDS"
    for name, command in root.commands.items():
        yield from _command(name, command)
    yield ".SH ENVIRONMENT"
    for variable, meaning in FOLDERS.items():
        yield from _item(variable, meaning)
    yield ".SH EXIT STATUS"
    for code, meaning in CODES.items():
        yield from _item(code, meaning)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [_argument(one) for one in _shown(command) if one.param_type_name == "argument"]
    yield f".SS {_escaped(' '.join([name, '[OPTIONS]', *arguments]))}"
    yield _escaped(" ".join(inspect.cleandoc(command.help or "").split()))
    yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    for one in _shown(command):
        term = _argument(one) if one.param_type_name == "argument" else _option(one)
        if one.help:
            yield from _item(_escaped(term), _escaped(one.help))


def _shown(command: Any) -> list[Any]:
    """Parameters without those that typer adds, whose texts differ between versions."""
    return [one for one in command.params if not getattr(one, "hidden", False) and one.name not in ADDED]


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return name if one.required or name.startswith("[") else f"[{name}]"


def _option(one: Any) -> str:
    names = ", ".join([*one.opts, *one.secondary_opts])
    return names if one.is_flag else f"{names} {one.metavar or one.name.strip('_').upper()}"


def _item(term: str, meaning: str) -> Iterator[str]:
    yield from (".TP", f".B {term}", meaning)


def _escaped(text: str) -> str:
    """Escapes text for roff: hyphens that can be copied, and no line that starts with a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    TARGET.write_text(man_page(), encoding="utf-8")
    print(f"written: {TARGET}")
