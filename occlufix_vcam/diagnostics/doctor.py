"""`devices` and `doctor`: what this machine has, what is wrong with it, and how to fix it. Changes nothing.

Engines are timed once, which takes a few seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import engines
from engines import BackendReport, EngineError, offline
from engines.backends import TEST_BACKEND
from engines.backends.tensorrt import UNTRIED
from engines.cache import EngineCache
from engines.contract import MODEL_NAMES
from engines.errors import CacheUnusable
from engines.manifest import read_manifest
from occlufix_vcam.core.errors import ConfigError, OccluFixError
from occlufix_vcam.core.settings import config_path, load_settings
from occlufix_vcam.core.state import NotRunning, StateFolder
from occlufix_vcam.desktop.autostart import autostart_here
from occlufix_vcam.diagnostics import setup
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.sinks import VirtualCameraInfo
from occlufix_vcam.sinks.opening import list_virtual_cameras
from occlufix_vcam.sources import CameraInfo
from occlufix_vcam.sources.opening import list_cameras
from occlufix_vcam.system.linux import WITHOUT_MODULE, LinuxMachine, this_machine

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Devices:
    """Output of `devices`."""

    cameras: list[CameraInfo]
    virtual_cameras: list[VirtualCameraInfo]
    backends: list[BackendReport]
    #: Times of each engine by model, fastest first; empty if not timed yet.
    engines: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; `hint` says how to fix it and is "" if nothing needs fixing."""

    what: str
    verdict: Verdict
    found: str
    hint: str = ""


def list_devices() -> Devices:
    return Devices(
        list_cameras(), list_virtual_cameras(), _backends_of_use(), {name: _timed(name) for name in MODEL_NAMES}
    )


def _backends_of_use() -> list[BackendReport]:
    """Backends of this machine, without the one for tests."""
    return [report for report in engines.survey() if report.name != TEST_BACKEND]


def _timed(model: str) -> list[str]:
    try:
        return [str(one) for one in engines.timed(model)]
    except EngineError:  # the model is missing: `doctor` reports that
        return []


def examine() -> list[Finding]:
    """Checks everything that `start` relies on, in the order in which it does."""
    findings: list[Finding] = []
    looks = (
        _python,
        _settings,
        _state,
        _faces,
        _log_in,
        _cameras,
        _virtual_cameras,
        _set_up,
        _films,
        _backends,
        _cache,
        _models,
        _engines,
        _network,
    )
    for look in looks:
        findings += _told(look)
    return findings


def _told(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Finding of a check; a check that fails becomes a finding itself."""
    try:
        return list(look())
    except (OccluFixError, EngineError) as error:
        return [Finding(look.__name__.strip("_").replace("_", " "), "error", error.message, error.hint)]


def _python() -> Iterator[Finding]:
    version = sys.version_info
    yield Finding("python", "ok", f"{version.major}.{version.minor}.{version.micro} on {sys.platform}")


def _settings() -> Iterator[Finding]:
    load_settings()
    path = config_path()
    yield Finding("settings", "ok", str(path) if path.exists() else f"the defaults (no {path})")


def _state() -> Iterator[Finding]:
    state = StateFolder()
    state.prepare()
    yield Finding("state", "ok", f"{state.path}, daemon {'running' if state.held() else 'not running'}")
    yield Finding("log", "ok", str(state.log))


def _faces() -> Iterator[Finding]:
    """Folder of enrolled people; no keyring is asked."""
    store = PeopleStore()
    store.check()
    yield Finding("faces", "ok", str(store.folder) if store.folder.exists() else "no one is enrolled")


def _log_in() -> Iterator[Finding]:
    """Whether the camera starts at log-in, and whether the program that then starts still exists."""
    told = autostart_here().status()
    if told.problem:
        yield Finding("log-in", "warning", told.problem, told.hint)
    elif told.on:
        yield Finding("log-in", "ok", "the camera and the tray icon start" if told.tray else "the camera starts")
    else:
        yield Finding("log-in", "ok", "off; turn it on with `occlufix-vcam autostart on`")


def _cameras() -> Iterator[Finding]:
    cameras = list_cameras()
    for camera in cameras:
        yield Finding("camera", "ok", f"{camera.index}: {camera.name} {camera.path}".strip())
    if not cameras:
        yield Finding("camera", "warning", "none found", "plug one in, or start with `--source demo`")


def _virtual_cameras() -> Iterator[Finding]:
    """Each kind as `start` would find it; if one of a kind is ready, the others need not be."""
    cameras = list_virtual_cameras()
    ready = {camera.backend for camera in cameras if not camera.problem}
    if ready and sys.platform != "linux":  # there one kind suffices; on Linux some programs see one only
        ready = {camera.backend for camera in cameras}
    for camera in cameras:
        found = f"{camera.name or camera.backend} {camera.path}".strip()
        if camera.flaw:
            yield Finding("virtual camera", "warning", f"{found}: {camera.flaw}", camera.hint)
        elif not camera.problem:
            yield Finding("virtual camera", "ok", found)
        elif _is_ours(camera):
            yield Finding("virtual camera", "ok", f"{found}: OccluFix Camera sends to it now")
        elif camera.backend not in ready:
            yield Finding("virtual camera", "warning", f"{found}: {camera.problem}", camera.hint)
    if not cameras:
        yield Finding("virtual camera", "warning", "this system has none", "record with `--sink null --record FILE`")


def _is_ours(camera: VirtualCameraInfo) -> bool:
    """Whether the daemon that runs now is using it."""
    try:
        return f"({StateFolder().read_control().pid})" in camera.problem
    except NotRunning:
        return False


def _set_up(machine: Callable[[], LinuxMachine] = this_machine) -> Iterator[Finding]:
    """Whether every program sees the camera: some list kernel cameras only."""
    if sys.platform in setup.STEPS_BY_HAND:
        if all(camera.problem for camera in list_virtual_cameras()):
            yield Finding(
                "set-up", "warning", "there is no virtual camera", "run `occlufix-vcam setup` to see the steps"
            )
        return
    here = machine()
    if not here.is_loaded:
        found = "programs that see kernel cameras only, such as Zoom and Teams, do not list OccluFix Camera"
        yield Finding("set-up", "warning", found, "run `occlufix-vcam setup`" if here.can_load else WITHOUT_MODULE)
    for hindrance in setup.hindrances(here):
        yield Finding("set-up", "warning", hindrance)
    for sandbox in setup.sandboxes(here):
        yield Finding("set-up", "ok", sandbox)


def _films() -> Iterator[Finding]:
    """Whether films and recordings can be read and written."""
    try:
        from occlufix_vcam.core.media.ffmpeg import av
    except ConfigError as error:
        yield Finding("films", "warning", error.message, error.hint)
    else:
        yield Finding("films", "ok", f"PyAV {av.__version__} reads and writes them")


def _backends() -> Iterator[Finding]:
    for report in _backends_of_use():
        if report.available:
            yield Finding("backend", "ok", f"{report.name} on {report.device}")
        elif report.name == "tensorrt":  # most machines have no such GPU, and that needs no fix
            yield Finding("backend", "ok", f"tensorrt is not used: {report.reason}; {UNTRIED}")
        else:
            yield Finding("backend", "warning", f"{report.name}: {report.reason}")
        if report.warning:
            what, _, mend = report.warning.partition("; fix: ")
            yield Finding("backend", "warning", f"{report.name}: {what}", mend)


def _cache() -> Iterator[Finding]:
    """Folder of built engines. Without it everything runs too, but starts more slowly."""
    cache = EngineCache()
    try:
        kept = cache.entries()
    except CacheUnusable as error:
        yield Finding("cache", "warning", error.message, error.hint)
    else:
        size = sum(entry.size for entry in kept) / 1e6
        yield Finding("cache", "ok", f"{len(kept)} engines, {size:.1f} MB in {cache.folder}")


def _models() -> Iterator[Finding]:
    manifest = read_manifest()
    for name in MODEL_NAMES:
        if name not in manifest:
            yield Finding("model", "error", f"models.toml names no `{name}`", "install the product again")
            continue
        for precision in manifest[name].files:
            try:
                _, path = manifest[name].pick(precision)
                yield Finding("model", "ok", f"{name} {precision}: {path.name}")
            except EngineError as error:
                yield Finding("model", "error", error.message, error.hint)


def _engines() -> Iterator[Finding]:
    """Engine of each model on this machine; timed now unless it was before."""
    for name in read_manifest():
        if name not in MODEL_NAMES:
            continue
        fastest, *others = engines.measure(name)
        verdict: Verdict = "ok" if fastest.p50_ms else "error"
        passed_over = "; ".join(map(str, others)) or "no other engine"
        yield Finding("engine", verdict, f"{name}: {fastest}. Skipped: {passed_over}")


def _network() -> Iterator[Finding]:
    """Whether a loaded library may report home; last, when everything that `start` loads is loaded."""
    reporting = offline.reporting()
    for found in reporting:
        hint = "something imports it when Python starts: see PYTHONSTARTUP, sitecustomize and the *.pth files"
        yield Finding("network", "error", found, hint)
    if not reporting:
        yield Finding("network", "ok", "nothing asked for: no library reports home")
