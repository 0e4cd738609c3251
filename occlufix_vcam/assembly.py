"""The one place of construction: from Settings to a camera, sinks, engines and a pipeline.

Daemon, `process` and `bench` all build here, so that what is measured is what runs. Everything heavy is imported
when it is asked for: the first pictures go out while the engines are still being made.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from engines.base import EngineError, EngineOptions, InferenceEngine, ModelCorrupt
from occlufix_vcam.engine_builder import Build
from occlufix_vcam.errors import OccluFixError, SinkUnavailable
from occlufix_vcam.people import Enrolled, PeopleStore
from occlufix_vcam.settings import Settings
from occlufix_vcam.sinks import VIRTUAL_CAMERAS, FrameSink, LeftOut, Sinks, none_opened, open_sink
from occlufix_vcam.sources import CameraSource, open_source
from occlufix_vcam.telemetry import Telemetry

if TYPE_CHECKING:
    from occlufix_vcam.enrolment import Enrolment
    from occlufix_vcam.pipeline import HiddenSeer, Pipeline
    from occlufix_vcam.stages.find import FaceFinder
    from occlufix_vcam.stages.known import KnownFaces
    from occlufix_vcam.stages.memory import Memory
    from occlufix_vcam.stages.recognise import Recogniser

log = logging.getLogger(__name__)

_AS_THEY_ARE: Mapping[str, tuple[int, ...]] = {}


class EngineFacts(TypedDict):
    """What runs a model, and why nothing better does."""

    backend: str
    device: str
    precision: str
    passed_over: list[dict[str, str]]


class Engines:
    """The engines of one pipeline: loaded as the settings say, named for `status`, closed together.

    `live`: what takes long to build is passed over, and is in `unbuilt`, unless the settings allow nothing else.
    `avoid` names backends on devices that are not to be trusted. Used by one thread; `facts` may be asked for by any.
    """

    def __init__(self, settings: Settings, live: bool = False, avoid: frozenset[tuple[str, str]] = frozenset()) -> None:
        self._settings = settings
        self._wait_for_build = not live or settings.backend != "auto"
        self._avoid = avoid
        self._loaded: dict[str, InferenceEngine] = {}

    def load(self, model: str, input_shapes: Mapping[str, tuple[int, ...]] = _AS_THEY_ARE) -> InferenceEngine:
        """The engine for `model`, made at the first call. Raises EngineError."""
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
        """What would be better and is only not built yet, by the engine's name."""
        return {
            model: refusal.build
            for model, engine in self._loaded.items()
            for refusal in engine.passed_over
            if refusal.build is not None
        }

    def facts(self, tell: Callable[[str], str] = lambda model: "") -> dict[str, EngineFacts]:
        """`tell` knows how far what was not built is by now."""
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


def build_pipeline(
    settings: Settings,
    telemetry: Telemetry,
    engines: Engines | None = None,
    *,
    find: FaceFinder | None = None,
    see_hidden: HiddenSeer | None = None,
    remember: Memory | None = None,
) -> Pipeline:
    """The product's pipeline, in the thread that will use it. A stage that is given takes the place of the usual one.

    `engines` keeps what was loaded, for its owner to name and to close. Raises EngineError, ConfigError.
    """
    from occlufix_vcam.pipeline import Pipeline
    from occlufix_vcam.stages.find import open_finder
    from occlufix_vcam.stages.hidden import HiddenSegmenter
    from occlufix_vcam.stages.restore import Restorer

    engines = engines or Engines(settings)
    return Pipeline(
        find=find or open_finder(settings.finder, engines.load, settings.max_faces),
        see_hidden=see_hidden or HiddenSegmenter(engines.load("hidden"), min_coverage=settings.min_coverage),
        remember=remember or _open_memory(settings, engines),
        restore=Restorer(engines.load("restore"), settings.restorer, settings.when_unsure),
        telemetry=telemetry,
        mark=settings.mark,
    )


def _open_memory(settings: Settings, engines: Engines) -> Memory:
    """What remembers faces; where people can't be told apart, it goes on without knowing anybody by name."""
    from occlufix_vcam.stages.memory import FaceMemory, NoMemory

    if not settings.memory:
        return NoMemory()
    try:
        return FaceMemory(open_recogniser(engines), open_known(engines))
    except (EngineError, OccluFixError) as error:
        log.warning("faces are remembered for this call only: %s; %s", error.message, error.hint)
        return FaceMemory()


def open_recogniser(engines: Engines) -> Recogniser:
    """The network that tells people apart, with the likeness that means one person. Raises EngineError."""
    from engines.manifest import find_model
    from occlufix_vcam.stages.recognise import Recogniser

    model = find_model("embed")
    if "threshold" not in model.metrics:
        raise ModelCorrupt(
            "models.toml does not say from what likeness on `embed` means one person",
            "Export it with its figures: python -m train export embed --figures FILE",
        )
    return Recogniser(engines.load("embed"), model.metrics["threshold"], model.files["fp32"].sha256)


def open_known(engines: Engines, store: PeopleStore | None = None) -> KnownFaces:
    """Names the faces of those who enrolled, also of who enrols later, in whatever process. Raises EngineError."""
    from occlufix_vcam.stages.known import KnownFaces

    return KnownFaces(Enrolled(store or PeopleStore()).people, open_recogniser(engines))


def open_enrolment(settings: Settings, engines: Engines) -> Enrolment:
    """What gets to know one person, in the thread that will use it. Raises EngineError, ConfigError."""
    from occlufix_vcam.enrolment import Enrolment
    from occlufix_vcam.stages.find import open_finder
    from occlufix_vcam.stages.hidden import HiddenSegmenter

    return Enrolment(
        find=open_finder(settings.finder, engines.load, settings.max_faces),
        see_hidden=HiddenSegmenter(engines.load("hidden")),
        recognise=open_recogniser(engines),
    )


def open_camera(settings: Settings) -> CameraSource:
    """The source that the settings name. Raises CameraNotFound, CameraBusy, DeviceError."""
    source = open_source(
        settings.source,
        width=settings.width,
        height=settings.height,
        rate=settings.rate,
        loop=settings.loop,
        realtime=settings.realtime,
    )
    if settings.rotate == 0 and not settings.flip:
        return source
    from occlufix_vcam.sources.turned import Turned

    return Turned(source, settings.rotate, settings.flip)


def open_sinks(settings: Settings, size: tuple[int, int], rate: float) -> Sinks:
    """All sinks that the settings name, and the recording. Raises SinkUnavailable, and then none stays open."""
    opened: list[tuple[FrameSink, Callable[[], FrameSink] | None]] = []
    left_out: list[LeftOut] = []
    try:
        for name in settings.sinks:
            opened += _open_named(name, size, rate, left_out)
        if settings.record is not None:
            opened.append((open_sink("recorder", size=size, rate=rate, path=settings.record), None))
    except BaseException:
        Sinks([sink for sink, _ in opened]).close()
        raise
    return Sinks([sink for sink, _ in opened], [opener for _, opener in opened], left_out=left_out)


def _open_named(
    name: str, size: tuple[int, int], rate: float, left_out: list[LeftOut]
) -> list[tuple[FrameSink, Callable[[], FrameSink]]]:
    """The sink of that name, or for "auto" every virtual camera that opens; each with what opens it again."""
    opened: list[tuple[FrameSink, Callable[[], FrameSink]]] = []
    failed: list[LeftOut] = []
    for kind in VIRTUAL_CAMERAS.get(sys.platform, (name,)) if name == "auto" else (name,):
        opener = partial(open_sink, kind, size=size, rate=rate)
        try:
            opened.append((opener(), opener))
        except SinkUnavailable as error:
            failed.append(LeftOut(kind, error, opener))
    if not opened:
        raise none_opened([one.error for one in failed])
    for one in failed:
        log.info("left out: %s", one.error.message)
    left_out += failed
    return opened
