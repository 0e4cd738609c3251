"""Builds cameras, sinks, engines and pipelines from Settings, in one place.

The daemon, `process` and `bench` all build here, so that what is measured is what runs. Heavy modules are imported on
first use: the first frames go out while the engines are still loading.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from engines.errors import EngineError, ModelCorrupt
from occlufix_vcam.core.errors import ConfigError, OccluFixError, SinkUnavailable
from occlufix_vcam.core.media.film_formats import Quality
from occlufix_vcam.core.settings import Settings
from occlufix_vcam.core.telemetry import Telemetry
from occlufix_vcam.inference import EngineSet
from occlufix_vcam.people.store import PeopleStore
from occlufix_vcam.people.watcher import PeopleWatcher
from occlufix_vcam.sinks import VIRTUAL_CAMERAS
from occlufix_vcam.sinks.fan_out import KeptSink, LeftOut, Sinks
from occlufix_vcam.sinks.opening import none_opened, open_sink
from occlufix_vcam.sources import CameraSource
from occlufix_vcam.sources.opening import open_source

if TYPE_CHECKING:
    from occlufix_vcam.enrollment.collector import ViewCollector
    from occlufix_vcam.pipeline import OcclusionSegmenter, Pipeline
    from occlufix_vcam.stages.embed import FaceEmbedder
    from occlufix_vcam.stages.find import FaceFinder
    from occlufix_vcam.stages.identify import FaceIdentifier
    from occlufix_vcam.stages.memory import Memory

log = logging.getLogger(__name__)

NOTHING_KEPT: Mapping[str, KeptSink] = MappingProxyType({})


def build_pipeline(
    settings: Settings,
    telemetry: Telemetry,
    engines: EngineSet,
    *,
    find: FaceFinder | None = None,
    see_hidden: OcclusionSegmenter | None = None,
    remember: Memory | None = None,
    still: bool = False,
) -> Pipeline:
    """Builds the product's pipeline, in the thread that will use it. A stage that is passed replaces the usual one.

    What `see_hidden` marks, if passed, is restored in every face. `still`: it is for single pictures, for which there
    is time.

    `engines` keeps what was loaded, for its owner to report and close. Raises EngineError, ConfigError.
    """
    from occlufix_vcam.pipeline import Pipeline
    from occlufix_vcam.stages.find import open_finder
    from occlufix_vcam.stages.hidden import HiddenSegmenter
    from occlufix_vcam.stages.presence.gate import TURNED, TURNED_IN_PICTURE, FaceGate
    from occlufix_vcam.stages.restore import Restorer
    from occlufix_vcam.stages.scene.memory import SceneMemory

    see = partial(HiddenSegmenter, min_coverage=settings.min_coverage, every_frame=False, mirrored=still)
    return Pipeline(
        find=find or open_finder(settings.finder, engines.load, settings.max_faces),
        see_hidden=see_hidden or see(engines.load("hidden")),
        remember=remember or _open_memory(settings, engines),
        restore=Restorer(engines.load("restore"), settings.restorer, settings.when_unsure),
        telemetry=telemetry,
        gate=FaceGate(TURNED_IN_PICTURE if still else TURNED) if see_hidden is None else None,
        mark=settings.mark_corner if settings.mark else None,
        strength=settings.strength,
        beyond=settings.beyond,
        scene=SceneMemory() if settings.memory and settings.restorer != "network" else None,
        still=still,
    )


def _open_memory(settings: Settings, engines: EngineSet) -> Memory:
    """Memory of faces. If people cannot be told apart, it continues without naming anyone."""
    from occlufix_vcam.stages.memory import FaceMemory, NoMemory

    if not settings.memory:
        return NoMemory()
    try:
        return FaceMemory(open_embedder(engines), open_identifier(engines))
    except (EngineError, OccluFixError) as error:
        log.warning("faces are remembered for this call only: %s; %s", error.message, error.hint)
        return FaceMemory()


def open_embedder(engines: EngineSet) -> FaceEmbedder:
    """Network that tells people apart, with the cosine from which two faces are one person's. Raises EngineError."""
    from engines.manifest import find_model
    from occlufix_vcam.stages.embed import FaceEmbedder

    model = find_model("embed")
    if "threshold" not in model.metrics:
        raise ModelCorrupt(
            "models.toml has no cosine threshold for `embed`",
            "export it with its figures: python -m train export embed --figures FILE",
        )
    return FaceEmbedder(engines.load("embed"), model.metrics["threshold"], model.files["fp32"].sha256)


def open_identifier(engines: EngineSet, store: PeopleStore | None = None) -> FaceIdentifier:
    """Names the faces of enrolled people, including those whom any process enrolls later. Raises EngineError."""
    from occlufix_vcam.stages.identify import FaceIdentifier

    watcher = PeopleWatcher(store or PeopleStore())
    return FaceIdentifier(watcher.people, open_embedder(engines), at_close=watcher.close)


def open_collector(settings: Settings, engines: EngineSet) -> ViewCollector:
    """Collector of one person's views, in the thread that will use it. Raises EngineError, ConfigError."""
    from occlufix_vcam.enrollment.collector import ViewCollector
    from occlufix_vcam.stages.find import open_finder
    from occlufix_vcam.stages.hidden import HiddenSegmenter

    return ViewCollector(
        find=open_finder(settings.finder, engines.load, settings.max_faces),
        see_hidden=HiddenSegmenter(engines.load("hidden")),
        embed=open_embedder(engines),
    )


def open_camera(settings: Settings) -> CameraSource:
    """Opens the source in the settings. Raises CameraNotFound, CameraBusy, DeviceError."""
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
    from occlufix_vcam.sources.turned import RotatedSource

    return RotatedSource(source, settings.rotate, settings.flip)


def open_sinks(
    settings: Settings, size: tuple[int, int], rate: float, kept: Mapping[str, KeptSink] = NOTHING_KEPT
) -> Sinks:
    """Opens every sink in the settings, and the recording, which is left out if it cannot be. Raises SinkUnavailable.

    `kept` holds open sinks of that size by key. Those that the settings still name stay open untouched, so that
    programs reading them notice nothing; the others are closed once everything else is open. If something does not
    open, only the kept sinks stay open.
    """
    opened: dict[str, KeptSink] = {}
    left_out: list[LeftOut] = []
    try:
        for name in settings.sinks:
            opened |= _open_named(name, size, rate, kept, left_out)
        if settings.record is not None:
            opened |= _open_recording(settings, size, rate, kept, left_out)
    except BaseException:
        Sinks([one.sink for key, one in opened.items() if key not in kept]).close()
        raise
    for key in kept.keys() - opened.keys():
        kept[key].sink.close()
    sinks, openers = [one.sink for one in opened.values()], [one.opener for one in opened.values()]
    return Sinks(sinks, openers, left_out=left_out, keys=list(opened))


def _open_recording(
    settings: Settings, size: tuple[int, int], rate: float, kept: Mapping[str, KeptSink], left_out: list[LeftOut]
) -> dict[str, KeptSink]:
    """Opens the recording. If it cannot be, that keeps no camera from starting; whoever set it was told."""
    path, beside = settings.record, settings.record_before
    quality = Quality(settings.record_quality)
    key = f"recorder {path}{'' if quality is Quality.AUTO else f' {quality}'}{' with before' if beside else ''}"
    options: dict[str, object] = {"beside": beside, "live": settings.realtime, "quality": quality}
    opener = partial(open_sink, "recorder", size=size, rate=rate, path=path, **options)
    try:
        return {key: kept.get(key) or KeptSink(opener(), None)}
    except (SinkUnavailable, ConfigError) as error:
        log.warning("there is no recording: %s; %s", error.message, error.hint)
        left_out.append(LeftOut(key, error, opener))
        return {}


def _open_named(
    name: str, size: tuple[int, int], rate: float, kept: Mapping[str, KeptSink], left_out: list[LeftOut]
) -> dict[str, KeptSink]:
    """Opens the sink of that name or, for "auto", every virtual camera that opens; by kind."""
    opened: dict[str, KeptSink] = {}
    failed: list[LeftOut] = []
    errors: list[SinkUnavailable] = []
    for kind in VIRTUAL_CAMERAS.get(sys.platform, (name,)) if name == "auto" else (name,):
        opener = partial(open_sink, kind, size=size, rate=rate)
        try:
            opened[kind] = kept.get(kind) or KeptSink(opener(), opener)
        except SinkUnavailable as error:
            errors.append(error)
            failed.append(LeftOut(kind, error, opener))
    if not opened:
        raise none_opened(errors)
    for one in failed:
        log.info("left out: %s", one.error.message)
    left_out += failed
    return opened
