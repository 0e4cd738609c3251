"""Errors of engines and model files. Imports nothing, so naming an error costs nothing."""

from __future__ import annotations

from collections.abc import Callable

#: Receives the share of a build that is done, 0..1; returning False ends the build.
BuildProgress = Callable[[float], bool]


class EngineError(Exception):
    """Failure of an engine. `hint` says in one line what to do, `code` names it for clients with their own words."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class EngineUnavailable(EngineError):
    """The backend, its package or its device is not available on this machine."""


class EngineNotBuilt(EngineUnavailable):
    """The engine must be built first, which takes a while. `build` builds and caches it, in any thread."""

    def __init__(self, message: str, build: Callable[[BuildProgress], object]) -> None:
        super().__init__(message, "build it: occlufix-vcam build-engine")
        self.build = build


class EngineBuildError(EngineError):
    """The model could not be built into an engine."""


class CacheUnusable(EngineBuildError):
    """The folder of built engines cannot be used: it is read-only, full, a link, or another user's."""


class EngineRunError(EngineError):
    """The engine failed during a run."""


class ModelError(EngineError):
    """Failure of a model file."""

    exit_code = 4


class ModelMissing(ModelError):
    """The model file does not exist."""


class ModelCorrupt(ModelError):
    """The model file is not the one in models.toml, or not a model at all."""


class ContractMismatch(ModelError):
    """The model's inputs or outputs differ from the contract."""
