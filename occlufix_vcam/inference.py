"""Engines of one pipeline: loaded according to the settings, owned and closed in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engines.base import EngineOptions, InferenceEngine
from engines.errors import BuildProgress
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.status import EngineFacts

#: Builds a missing engine; receives a function that takes the share that is done.
Build = Callable[[BuildProgress], object]

#: Settings that decide which engines are loaded.
_DECIDING = ("backend", "precision", "finder", "max_faces", "memory")
_AS_THEY_ARE: Mapping[str, tuple[int, ...]] = {}


class EngineSet:
    """Engines of one pipeline: loaded according to the settings, named for `status`, closed together.

    `live`: engines that take long to build are skipped and listed in `unbuilt`, unless the settings allow nothing else.
    `avoid` names backends on devices that failed before. Used by one thread; any thread may read `facts`.
    """

    def __init__(self, settings: Settings, live: bool = False, avoid: frozenset[tuple[str, str]] = frozenset()) -> None:
        self._settings = settings
        self._wait_for_build = not live or settings.backend != "auto"
        self._avoid = avoid
        self._loaded: dict[str, InferenceEngine] = {}

    def fits(self, settings: Settings, avoid: frozenset[tuple[str, str]]) -> bool:
        """Whether other settings load the same engines."""
        return avoid == self._avoid and all(getattr(settings, one) == getattr(self._settings, one) for one in _DECIDING)

    def load(self, model: str, input_shapes: Mapping[str, tuple[int, ...]] = _AS_THEY_ARE) -> InferenceEngine:
        """Engine for `model`, loaded at the first call. Raises EngineError."""
        import engines

        name = " ".join([model, *("x".join(map(str, shape)) for shape in input_shapes.values())])
        if name not in self._loaded:
            options = EngineOptions(
                backend=self._settings.backend,
                precision=self._settings.precision,
                input_shapes=input_shapes,
                wait_for_build=self._wait_for_build,
                avoid=self._avoid,
            )
            self._loaded[name] = engines.load(model, options)
        return self._loaded[name]

    def unbuilt(self) -> dict[str, Build]:
        """Better engines that are only missing because they are not built yet, by name."""
        return {
            model: skipped.build
            for model, engine in self._loaded.items()
            for skipped in engine.passed_over
            if skipped.build is not None
        }

    def facts(self, tell: Callable[[str], str] = lambda model: "") -> dict[str, EngineFacts]:
        """Facts of each engine for `status`; `tell` reports the progress of unbuilt ones."""
        return {
            model: EngineFacts(
                backend=engine.backend,
                device=engine.device,
                precision=engine.precision,
                passed_over=[
                    {"backend": one.backend, "reason": (tell(model) if one.build else "") or one.reason}
                    for one in engine.passed_over
                ],
            )
            for model, engine in dict(self._loaded).items()
        }

    def close(self) -> None:
        for engine in self._loaded.values():
            engine.close()
        self._loaded.clear()
