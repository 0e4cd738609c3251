"""models.toml: the model files, their inputs and outputs, and the hashes that verify them.

`train/export/export.py` writes the table. A file with another sha256 is refused, with the command that restores it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from engines.contract import MODEL_NAMES
from engines.errors import ModelCorrupt, ModelMissing
from engines.installing import install_again

MODELS = Path(__file__).parent / "models"
MANIFEST = "models.toml"
#: "precision" of a user's own file, of any types.
OWN = "own"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """ONNX file and its expected hash; "" for a user's own file."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """Network: its files by precision, FP32 always among them; inputs and outputs as name to static shape.

    A user's own file names neither.
    """

    name: str
    files: Mapping[str, ModelFile]
    inputs: Shapes = field(default_factory=dict)
    outputs: Shapes = field(default_factory=dict)
    licence: str = ""
    trained_on: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def pick(self, precision: str) -> tuple[str, Path]:
        """Verified file of a precision, else of FP32, or the user's own, and which it is.

        Raises ModelMissing, ModelCorrupt.
        """
        kind = OWN if OWN in self.files else precision if precision in self.files else "fp32"
        file = self.files[kind]
        if not file.path.is_file():
            hint = _restore_command(file.path) if kind != OWN else "check the path"
            raise ModelMissing(f"there is no model file {file.path}", hint)
        if file.sha256 and sha256_of(file.path) != file.sha256:
            raise ModelCorrupt(f"{file.path.name} is not the file that {MANIFEST} names", _restore_command(file.path))
        return kind, file.path

    def has(self, precision: str) -> bool:
        """Whether there is a file for a precision; a user's own file serves for all."""
        return OWN in self.files or precision in self.files

    def check(self) -> None:
        """Verifies every file, whichever will be picked. Raises ModelCorrupt."""
        for kind, file in self.files.items():
            if file.path.is_file():
                self.pick(kind)


def find_model(model: str | Path | Model) -> Model:
    """One of MODEL_NAMES, or an ONNX file by its path. Raises ModelMissing, ModelCorrupt."""
    if isinstance(model, Model):
        return model
    if model in MODEL_NAMES:
        manifest = read_manifest()
        if model not in manifest:
            raise ModelMissing(f"{MANIFEST} has no model [{model}]", _restore_command(MODELS / MANIFEST))
        return manifest[str(model)]
    path = Path(model)
    if not path.is_file():
        raise ModelMissing(
            f"there is no model file {path}", f"give the path of an ONNX file, or one of: {', '.join(MODEL_NAMES)}"
        )
    return Model(path.name, {OWN: ModelFile(path, "")})


def read_manifest() -> dict[str, Model]:
    """All models of MODELS / models.toml, by name. Raises ModelMissing, ModelCorrupt."""
    path = MODELS / MANIFEST
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: _read_model(name, table) for name, table in tables.items()}
    except FileNotFoundError as error:
        raise ModelMissing(f"there is no {path}", _restore_command(path)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{path} cannot be read: {error}", _restore_command(path)) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; cached while the file stays the same."""
    told = path.stat()
    return _sha256_of(path, told.st_ino, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=32)
def _sha256_of(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_model(name: str, table: Mapping[str, Any]) -> Model:
    files = {
        precision: ModelFile(MODELS / table[precision]["file"], table[precision]["sha256"])
        for precision in ("fp32", *(kind for kind in ("fp16", "int8") if kind in table))
    }
    return Model(
        name=name,
        # The wheel leaves some out: see pyproject.toml.
        files={precision: file for precision, file in files.items() if precision == "fp32" or file.path.is_file()},
        inputs={name: tuple(shape) for name, shape in table["inputs"].items()},
        outputs={name: tuple(shape) for name, shape in table["outputs"].items()},
        licence=table["licence"],
        trained_on=table["trained_on"],
        metrics=table["metrics"],
    )


def _restore_command(path: Path) -> str:
    root = MODELS.parents[1]
    if (root / ".git").exists():
        return f"restore it: git -C {root} checkout -- {path.relative_to(root).as_posix()}"
    return f"restore it: {install_again()}"
