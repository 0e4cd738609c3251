"""What can go wrong with an engine or a model file. Imports nothing: naming an error costs nothing."""

from __future__ import annotations

from collections.abc import Callable

#: Takes the share of a build that is done, 0..1; returning False ends the build.
BuildProgress = Callable[[float], bool]


class EngineError(Exception):
    """Something about an engine failed. `hint` says what to do, in one line."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class EngineUnavailable(EngineError):
    """The backend, its package or its device is not on this machine."""


class EngineNotBuilt(EngineUnavailable):
    """The engine has to be built first, which takes a while; `build` does it, in any thread, and caches it."""

    def __init__(self, message: str, build: Callable[[BuildProgress], object]) -> None:
        super().__init__(message, "Build it: occlufix-vcam build-engine")
        self.build = build


class EngineBuildError(EngineError):
    """The model could not be turned into an engine."""


class CacheUnusable(EngineBuildError):
    """The folder of built engines cannot be used: read-only, full, a link, or somebody else's."""


class EngineRunError(EngineError):
    """The engine failed while it ran."""


class ModelError(EngineError):
    """Something about a model file is wrong."""

    exit_code = 4


class ModelMissing(ModelError):
    """There is no such model file."""


class ModelCorrupt(ModelError):
    """The model file is not the one that models.toml names, or is no model at all."""


class ContractMismatch(ModelError):
    """The model's inputs or outputs are not those of the contract."""
