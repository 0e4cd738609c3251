"""Settings: defaults < config file < environment (OCCLUFIX_*) < command line. Frozen: a change is a new value."""

from __future__ import annotations

import difflib
import json
import os
import re
import reprlib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from occlufix_vcam import APP_NAME
from occlufix_vcam.core.errors import ConfigError, DeviceError
from occlufix_vcam.core.files import write_atomically

ENVIRONMENT_PREFIX = "OCCLUFIX_"
OTHER_FILE = f"fix its owner and permissions, or set {ENVIRONMENT_PREFIX}CONFIG to another file"
#: Shows a refused value on one line.
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80
#: Values of `config set` that remove a setting which may be unset.
UNSET = ("", "null", "none")


#: Not used for typing; a digit without shift, because with shift it differs between keyboards.
HOTKEY = (
    r"^((shift\+)?((ctrl|alt|super)\+)+(shift\+)?([a-z]|space)|((ctrl|alt|super)\+)+[0-9]"
    r"|((ctrl|alt|shift|super)\+)*(f[1-9]|f1[0-2]|pause))?$"
)


def _names(value: object) -> object:
    """Names from text, as the environment and `config set` give it: `a,b` or `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.strip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("write names like v4l2,null") from None
    return [name.strip() for name in value.split(",") if name.strip()]


def _keys(value: str) -> str:
    """Checks the keys here and not with `pattern`, whose error message is hard to read."""
    if not re.fullmatch(HOTKEY, value):
        raise ValueError("write it like ctrl+alt+o: ctrl, alt or super and a letter or digit; or f1 to f12, pause")
    return value


class Reopens(StrEnum):
    """What a running daemon reopens when a setting changes. Each field of Settings names one."""

    LIVE = "live"  # nothing: read at each frame, or by others
    CAMERA = "camera"
    SINKS = "sinks"
    PIPELINE = "pipeline"
    RESTART = "restart"  # effective at the next start


T = TypeVar("T")
Live: TypeAlias = Annotated[T, Reopens.LIVE]
OfCamera: TypeAlias = Annotated[T, Reopens.CAMERA]
OfSinks: TypeAlias = Annotated[T, Reopens.SINKS]
OfPipeline: TypeAlias = Annotated[T, Reopens.PIPELINE]
AtRestart: TypeAlias = Annotated[T, Reopens.RESTART]


class Settings(BaseModel):
    """Every choice of a user. Sizes in pixels, rates in frames per second, shares 0..1."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    source: OfCamera[str] = Field("auto", min_length=1, description="auto, demo, a camera's index or name, or a path")
    sinks: OfSinks[Annotated[tuple[str, ...], BeforeValidator(_names)]] = Field(
        ("auto",), min_length=1, description="where frames go: auto, null or the name of a virtual camera"
    )
    width: OfCamera[int] = Field(
        1280, ge=64, le=3840, description="size of the virtual camera in pixels, also requested from the camera"
    )
    height: OfCamera[int] = Field(
        720, ge=64, le=3840, description="size of the virtual camera in pixels, also requested from the camera"
    )
    rate: OfCamera[float] = Field(30.0, ge=1, le=120, description="frames per second requested from the camera")
    always_on: Live[bool] = Field(False, description="keep the camera open while no program reads the virtual one")
    rotate: OfCamera[Literal[0, 90, 180, 270]] = Field(0, description="rotate the camera image clockwise, in degrees")
    flip: OfCamera[bool] = Field(False, description="flip the camera image, for drivers that deliver it upside down")
    mirror: Live[bool] = Field(False, description="mirror the output")
    fit: Live[Literal["letterbox", "crop"]] = Field(
        "letterbox", description="how an image of another shape fits: with bars, or with its edges cut"
    )
    loop: OfCamera[bool] = Field(True, description="repeat a clip")
    realtime: OfCamera[bool] = Field(True, description="play a clip at its own rate instead of as fast as possible")
    record: OfSinks[Path | None] = Field(None, description="also record to this file: .mp4, .webm, lossless .mkv")
    record_before: OfSinks[bool] = Field(False, description="record the picture before restoring beside the output")
    record_quality: OfSinks[Literal["auto", "high", "medium", "low"]] = Field(
        "auto", description="how well recordings are encoded; auto is lossless in .mkv, high elsewhere"
    )
    enabled: Live[bool] = Field(True, description="restore hidden faces; off passes frames untouched")
    strength: Live[int] = Field(
        100, ge=0, le=100, description="share of the restored picture that is mixed in, in percent"
    )
    finder: OfPipeline[Literal["own", "insightface"]] = "own"
    backend: OfPipeline[str] = Field("auto", description="engine backend; auto picks the fastest")
    precision: OfPipeline[Literal["auto", "fp32", "bf16", "fp16", "int8"]] = "auto"
    max_faces: OfPipeline[int] = Field(4, ge=1, le=16)
    memory: OfPipeline[bool] = Field(True, description="fill hidden parts from earlier views of the same face")
    restorer: OfPipeline[Literal["auto", "network", "memory"]] = Field(
        "auto", description="what fills hidden parts: the network, the remembered view, or each where it fits"
    )
    when_unsure: OfPipeline[Literal["restore", "passthrough", "hold", "blank"]] = Field(
        "passthrough",
        description="what to do with a face of which too little is visible or remembered: restore it anyway, leave it, "
        "hold its last restored image, or pixelate it",
    )
    beyond: OfPipeline[Literal["fade", "leave", "paint"]] = Field(
        "fade",
        description="what to do with a thing that reaches beyond what can be restored: let it fade out, leave all of "
        "it as it is, or paint over it",
    )
    mark: Live[bool] = Field(False, description="write a small `restored` into a corner while a face is restored")
    mark_corner: Live[Literal["bottom-left", "bottom-right", "top-left", "top-right"]] = Field(
        "bottom-left", description="corner of the mark"
    )
    min_coverage: OfPipeline[float] = Field(
        0.02, ge=0, le=1, description="leave a face alone if less than this share of it is hidden"
    )
    on_failure: Live[Literal["passthrough", "hold", "blank"]] = Field(
        "passthrough", description="output when a frame cannot be restored"
    )
    hotkey: Live[Annotated[str, AfterValidator(_keys)]] = Field(
        "",
        json_schema_extra={"pattern": HOTKEY},
        description="global hotkey that toggles restoring while the tray icon runs, such as ctrl+alt+o; empty: none",
    )
    hotkey_bare: Live[Annotated[str, AfterValidator(_keys)]] = Field(
        "",
        json_schema_extra={"pattern": HOTKEY},
        description="global hotkey that shows the untouched picture for 2 s while the tray icon runs; empty: none",
    )
    log_level: Live[Literal["debug", "info", "warning", "error"]] = "info"
    control_port: AtRestart[int] = Field(0, ge=0, le=65535, description="port of the control API; 0 picks a free one")

    @field_validator("*", mode="before")
    @classmethod
    def _without_nul(cls, value: object) -> object:
        """No path, name or address holds this character, and what opens one stops with an error of its own."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("remove the NUL character")
        return value

    def but(self, **changes: object) -> Settings:
        """Copy with some settings changed. Raises ConfigError."""
        return validate({**self.model_dump(), **changes})


#: Sets of settings for an occasion, by name. What a preset does not name stays as it is.
PRESETS: Mapping[str, Mapping[str, object]] = {
    "meeting": {
        **{"enabled": True, "strength": 100, "min_coverage": 0.02, "memory": True, "restorer": "auto"},
        **{"when_unsure": "passthrough", "beyond": "fade", "on_failure": "passthrough"},
    },
    "objects": {
        **{"enabled": True, "strength": 100, "min_coverage": 0.05, "memory": True, "restorer": "auto"},
        **{"when_unsure": "passthrough", "beyond": "leave", "on_failure": "passthrough"},
    },
    "mask": {
        **{"enabled": True, "strength": 100, "min_coverage": 0.02, "memory": True, "restorer": "auto"},
        **{"when_unsure": "restore", "beyond": "paint", "on_failure": "hold"},
    },
    "privacy": {
        **{"enabled": True, "strength": 100, "min_coverage": 0.0, "when_unsure": "blank", "beyond": "paint"},
        **{"on_failure": "blank", "hotkey_bare": ""},
    },
}


def settings_that_reopen(*parts: Reopens) -> frozenset[str]:
    """Keys whose change reopens one of `parts`."""
    return frozenset(name for name in Settings.model_fields if reopened_by(name) in parts)


def reopened_by(name: str) -> Reopens:
    """What a change of this setting reopens in a running daemon."""
    return next(part for part in Settings.model_fields[name].metadata if isinstance(part, Reopens))


def config_path() -> Path:
    """Path of the settings file, which need not exist. OCCLUFIX_CONFIG names another one."""
    named = os.environ.get("OCCLUFIX_CONFIG")
    return Path(named) if named else platformdirs.user_config_path(APP_NAME) / "settings.toml"


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings of this run; `overrides` come from the command line. Raises ConfigError with the place and the key.

    Raises DeviceError for a file name that is not UTF-8.
    """
    path = config_path()
    _check_utf8(overrides or {})
    file_values = _read_file(path)
    environment_values = {
        name: os.environ[variable]
        for name in Settings.model_fields
        if os.environ.get(variable := f"{ENVIRONMENT_PREFIX}{name.upper()}")
    }
    # Each layer is checked separately, so that the error can name it; only valid values are merged.
    validate(file_values, where=str(path))
    validate(environment_values, where="the environment (OCCLUFIX_*)")
    return validate({**file_values, **environment_values, **(overrides or {})}, where="the command line")


def _check_utf8(overrides: Mapping[str, object]) -> None:
    """A setting is text in a file and in JSON, which cannot hold such a name."""
    for value in overrides.values():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise DeviceError(f"the name {value!r} is not UTF-8", "rename it, or link to it by another name") from None


def get_setting(key: str) -> object:
    """Value of one setting in this run, as JSON has it. Raises ConfigError."""
    if key not in Settings.model_fields:
        raise _unknown_key(key, "settings")
    return load_settings().model_dump(mode="json")[key]


def validate(values: Mapping[str, object], where: str = "settings") -> Settings:
    """`values` over the defaults. Raises ConfigError with the place, the key and the nearest valid key."""
    for key in values:
        if key not in Settings.model_fields:
            raise _unknown_key(key, where)
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "?"
        raise ConfigError(
            f"{where}: {key} = {SHORT.repr(first['input'])} is invalid: {first['msg'].lower()}",
            "`occlufix-vcam config show` lists every setting",
            code="invalid_setting",
            setting=key,
            value=SHORT.repr(first["input"]),
        ) from error


def save_settings(changes: Mapping[str, object]) -> Path:
    """Writes settings to the config file, atomically, keeping its comments. Raises ConfigError and then writes nothing.

    None, which TOML does not have, removes a setting from the file, so that its default holds.
    """
    import tomlkit  # only saving needs it

    path = config_path()
    for key in changes:
        if key not in Settings.model_fields:
            raise _unknown_key(key, str(path))
    values = {key: value for key, value in {**_read_file(path), **changes}.items() if value is not None}
    settings = validate(values, where=str(path))
    document = tomlkit.parse(path.read_text(encoding="utf-8-sig") if path.exists() else "")
    for key in changes:
        if key not in values:
            document.pop(key, None)
        else:
            document[key] = _plain(getattr(settings, key))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, tomlkit.dumps(document).encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: {', '.join(changes)} is no text that a file can hold", "use UTF-8") from None
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(message, OTHER_FILE, code="settings_not_saved", file=path) from error
    return path


def from_text(key: str, text: str) -> object:
    """Value of `config set KEY TEXT`; None if it unsets the setting: an empty text, and null where it may be null."""
    field = Settings.model_fields.get(key)
    may_be_null = field is not None and field.default is None
    return None if text == "" or (may_be_null and text.lower() in UNSET) else text


def _plain(value: object) -> Any:
    """`value` as TOML can store it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"))  # Windows' editors write a byte order mark
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:  # TOML, UTF-8, or a NUL in the path
        raise ConfigError(f"{path} is not valid TOML: {error}", "fix that line, or delete the file") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", OTHER_FILE) from error


def _parsed(text: str) -> dict[str, Any]:
    """Parsed TOML. Raises ValueError with the line or key of the fault."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError):  # a number or a nesting beyond what Python reads: it names no line
        raise ValueError(f"{_unreadable_key(text)} is too long or too deep") from None


def _unreadable_key(text: str) -> str:
    for line in text.splitlines():
        try:
            tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue  # part of a longer value
        except (ValueError, RecursionError):
            return line.partition("=")[0].strip()[:60]
    return "a value"


def _unknown_key(key: str, where: str) -> ConfigError:
    near = difflib.get_close_matches(key, Settings.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "`occlufix-vcam config show` lists every setting"
    return ConfigError(f"{where}: `{key}` is not a setting", hint)
